"""What a live feed skips is seen by its ids and fetched from the venue's history."""

from pathlib import Path

import pytest

from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.markets import VENUES
from tests.integration.connectors.harness import (
    configured,
    connected,
    ingesting,
    read_raw,
    truth,
    until,
)
from tests.integration.connectors.losses import gap_events, until_published, venues
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_a_cut_connection_is_opened_again_and_its_hole_refilled(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            venues(log, rate=20) as running,  # for the 60 rows that are all one venue's history
            ingesting(bus, configured(*running)) as ingest,
        ):
            await until_published(ingest, 10)
            for venue in running:
                venue.inject(Fault(fault="abort"))
            await until(lambda: all(each.stats.connections_open == 0 for each in running))
            await until(lambda: all(fleet.is_up for fleet in ingest.role.fleets))
            await until_published(ingest, 40)
            await until(lambda: ingest.states.get("filled") == ingest.states.get("found"))
            await ingest.stop()
            raw = await read_raw(bus)
            gaps = await gap_events(bus)
        for key in raw.keys:
            assert raw.holes(key) == []
            assert set(raw.ids(key)) <= made()[key]
        for name in VENUES:
            exchange = f"sim-{name}"
            assert ingest.account(exchange).in_flight == 0
            kinds = {event.type for event in gaps if event.exchange == exchange}
            # One venue's new subscription begins with the last 50 trades: no hole to refill.
            assert kinds == (set() if name == "kraken" else {"gap_found", "gap_filled"})
            sources = {batch.source for batch in raw.batches if batch.exchange == exchange}
            assert ("rest" in sources) == bool(kinds)
        assert {mark.feed for mark in raw.marks if mark.end} == {each.feed for each in raw.batches}


async def test_what_the_socket_skipped_is_refilled_next_to_its_neighbours(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="gap", count=7))
        await until(lambda: ingest.states.get("filled") == 1)
        await ingest.stop()
        raw = await read_raw(bus)
        found, filled = await gap_events(bus)
    assert (found.type, found.missing, filled.type) == ("gap_found", 7, "gap_filled")
    assert (found.after_id, found.before_id) == (filled.after_id, filled.before_id)
    assert found.from_time is not None
    assert found.to_time is not None
    assert found.from_time <= found.to_time
    (refill,) = [batch for batch in raw.batches if batch.source == "rest"]
    assert refill.prev_id == found.after_id
    assert refill.trades[-1].id == found.before_id
    assert len(refill.trades) == 8


async def test_two_processes_side_by_side_store_every_trade_at_least_once(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("kraken", ["BTC-USD"], rate=100) as venue,
        ingesting(bus, configured(venue)) as one,
        ingesting(bus, configured(venue)) as other,
    ):
        accounts = [each.role.outbox.account("sim-kraken") for each in (one, other)]
        await until(lambda: all(account.published > 50 for account in accounts))
        venue.inject(Fault(fault="gap", count=20, sockets="one"))  # the other socket has them
        await until(lambda: any(each.states.get("filled") for each in (one, other)))
        await one.stop()
        await other.stop()
        raw = await read_raw(bus)
    assert raw.holes(("sim-kraken", "BTCUSD")) == []
    assert len({batch.feed.partition("-")[0] for batch in raw.batches}) == 2
