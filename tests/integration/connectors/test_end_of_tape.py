"""A loss with no trade behind it that would show it is found."""

from pathlib import Path

import pytest

from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from tests.integration.connectors.harness import (
    Ingest,
    configured,
    connected,
    ingesting,
    read_raw,
    truth,
    until,
)
from tests.integration.connectors.losses import until_published, venues
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_killed", [False, True], ids=["cut", "killed"])
async def test_a_loss_at_the_end_of_a_tape_is_found_without_a_trade_behind_it(
    nats_server: NatsHandle, tmp_path: Path, *, is_killed: bool
) -> None:
    with truth(tmp_path) as (log, made):
        async with connected(nats_server) as bus, venues(log, rate=100) as running:
            async with ingesting(bus, configured(*running)) as ingest:
                await until_published(ingest, 30)
                if is_killed:
                    await ingest.kill()
                before = [venue.stats.trades_made for venue in running]
                for venue in running:
                    venue.inject(Fault(fault="hold", duration_s=0))
                await until(
                    lambda: all(
                        venue.stats.trades_made > count + 50
                        for venue, count in zip(running, before, strict=True)
                    )
                )
                for venue in running:
                    venue.set_rate(0)
                    venue.inject(Fault(fault="abort"))
                if not is_killed:
                    await until(lambda: all(whole(venue, ingest) for venue in running))
                    await ingest.stop()
            if is_killed:
                async with ingesting(bus, configured(*running)) as ingest:
                    await until(lambda: all(whole(venue, ingest) for venue in running))
                    await ingest.stop()
            raw = await read_raw(bus)
        for key in raw.keys:
            ids = set(raw.ids(key))
            assert {each for each in made()[key] if each >= min(ids)} <= ids


def whole(venue: SimulatedVenue, ingest: Ingest) -> bool:
    """Return whether every symbol that was ever seen is known up to its newest trade."""
    (fleet,) = [each for each in ingest.role.fleets if each.context.venue.name == venue.name]
    newest = {
        market.symbol: venue.world.histories[market.index].last_id for market in venue.world.markets
    }
    finders = {symbol: track.finder for symbol, track in fleet._tracks.items()}  # noqa: SLF001 - no count tells it
    return (
        bool(finders)
        and not fleet.refiller.open_holes
        and all(
            finder.newest in {None, newest[symbol]} and not finder.needs_look
            for symbol, finder in finders.items()
        )
        and any(finder.newest for finder in finders.values())
    )
