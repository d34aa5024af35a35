"""What a dead process left behind is looked for and settled by who lives."""

import asyncio
from pathlib import Path

import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.connectors import gap_news
from market_ingestor.model.event import EventType, MarketEvent
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.markets import VENUES
from tests.integration.connectors.harness import (
    POLL_S,
    WAIT_S,
    configured,
    connected,
    ingesting,
    read_raw,
    stored,
    truth,
    until,
    until_whole,
)
from tests.integration.connectors.losses import SYMBOLS, gap_events, until_published, venues
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def until_told(bus: Bus, kind: EventType, of: MarketEvent) -> None:
    """Return when an event of this kind names the hole of another event."""
    async with asyncio.timeout(WAIT_S):
        while True:
            told = [(each.type, each.after_id, each.before_id) for each in await gap_events(bus)]
            if (kind, of.after_id, of.before_id) in told:
                return
            await asyncio.sleep(POLL_S)


async def test_after_a_death_the_hole_up_to_the_first_live_id_is_refilled(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    with truth(tmp_path) as (log, made):
        async with connected(nats_server) as bus, venues(log, rate=60) as running:
            async with ingesting(bus, configured(*running)) as ingest:
                await until_published(ingest, 100)
                await ingest.kill()
            dead_at = [venue.stats.trades_made for venue in running]
            for venue in running:
                venue.set_rate(300)  # more than the 50 trades of one venue's snapshot
            await until(
                lambda: all(
                    venue.stats.trades_made > before + 100 * SYMBOLS
                    for venue, before in zip(running, dead_at, strict=True)
                )
            )
            for venue in running:
                venue.set_rate(60)
            async with ingesting(bus, configured(*running)) as ingest:
                await until_published(ingest, 200)
                await until(
                    lambda: all(fleet.refiller.states["found"] for fleet in ingest.role.fleets)
                )
                await until(
                    lambda: not any(each.refiller.open_holes for each in ingest.role.fleets)
                )
                await until_whole(bus, {f"sim-{name}" for name in VENUES} - {"sim-bybit"})
                await ingest.stop()
                for name in VENUES:
                    assert ingest.account(f"sim-{name}").in_flight == 0
            raw = await read_raw(bus)
            lost = [event for event in await gap_events(bus) if event.type == "gap_unfillable"]
        for key in raw.keys:
            assert set(raw.ids(key)) <= made()[key]
            said = {
                each
                for event in lost
                if (event.exchange, event.symbol) == key
                for each in range(int(event.after_id or 0) + 1, int(event.before_id or 0))
            }
            assert set(raw.holes(key)) <= said
        assert {event.exchange for event in lost} == {"sim-bybit"}  # which keeps 60 trades


async def test_what_the_bus_and_then_the_process_lost_below_the_newest_id_is_refilled(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = ("sim-okx", "BTCUSDT")
    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("okx", ["BTC-USDT"], rate=300, truth=log) as venue,
        ):
            async with ingesting(bus, configured(venue)) as ingest:
                account, publisher = ingest.role.outbox.account("sim-okx"), ingest.role.publisher
                await until(lambda: account.published > 50)
                # The process will die before it sends again what the server did not take.
                monkeypatch.setattr(publisher._window, "deadline_s", 60.0)  # noqa: SLF001 - as said
                monkeypatch.setattr(publisher._window, "everything", lambda _now: [])  # noqa: SLF001 - as said
                await nats_server.pause()
                in_flight = publisher.in_flight
                await until(lambda: publisher.in_flight > in_flight + 5)  # sent, and read by nobody
                await nats_server.kill()
                await nats_server.start()
                before = account.published
                await until(lambda: account.published > before)
                await ingest.kill()
            assert (await stored(bus)).holes(key)  # newer trades are there
            async with ingesting(bus, configured(venue)) as ingest:
                await until_whole(bus)
                await ingest.stop()
            ids = set((await stored(bus)).ids(key))
        assert ids == {each for each in made()[key] if min(ids) <= each <= max(ids)}


async def test_a_hole_whose_refill_outlived_its_finder_is_settled_under_its_name(
    nats_server: NatsHandle,
) -> None:
    async with connected(nats_server) as bus, SimulatedVenue("okx", rate=60) as venue:
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.published > 100)
            await ingest.kill()
        key = ("sim-okx", "BTCUSDT")
        ids = (await read_raw(bus)).ids(key)
        found = MarketEvent(
            v=1, exchange=key[0], symbol=key[1], type="gap_found", time_us=0,
            after_id=str(min(ids)), before_id=str(max(ids)), missing=3,
            from_time=0, to_time=0, detail="its refill was published, and then its finder died",
        )  # fmt: skip
        await bus.client.request(subjects.event(*key), codec.encode(found), timeout=5)
        async with ingesting(bus, configured(venue)):
            await until_told(bus, "gap_filled", found)


async def test_a_hole_that_its_finder_left_behind_is_settled_by_who_lives(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_news, "LOOK_S", 0.2)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", rate=60) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 100)
        key = ("sim-okx", "BTCUSDT")
        ids = (await stored(bus)).ids(key)
        found = MarketEvent(
            v=1, exchange=key[0], symbol=key[1], type="gap_found", time_us=0,
            after_id=str(min(ids)), before_id=str(max(ids)), missing=3,
            from_time=0, to_time=0, detail="another process has found it, and is dead",
        )  # fmt: skip
        await bus.client.request(subjects.event(*key), codec.encode(found), timeout=5)
        await until_told(bus, "gap_filled", found)
        await ingest.stop()
