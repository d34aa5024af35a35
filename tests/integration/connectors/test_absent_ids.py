"""Ids that a venue never gave to a trade are proved absent, and asked for no more."""

import functools

import pytest

from market_ingestor.connectors import intake
from market_ingestor.connectors.absences import Absences
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from tests.integration.connectors.harness import (
    Ingest,
    configured,
    connected,
    ingesting,
    proved,
    read_raw,
    until,
)
from tests.integration.connectors.losses import gap_events
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


def is_filled(ingest: Ingest, holes: int) -> bool:
    return ingest.states.get("filled") == holes


async def test_ids_that_the_venue_does_not_list_are_proved_absent(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="gap", count=5, rest="gone"))
        await until(lambda: ingest.states.get("filled") == 1)
        requests = venue.stats.rest_requests
        before = account.published
        await until(lambda: account.published > before + 50)  # many looks at the ids
        assert venue.stats.rest_requests == requests  # absent once, never asked again
        await ingest.stop()
        raw = await read_raw(bus)
    (refill,) = [batch for batch in raw.batches if batch.source == "rest"]
    assert len(proved(refill)) == 7
    assert raw.holes(("sim-okx", "BTCUSDT")) == []


async def test_a_symbol_whose_ids_have_holes_by_nature_is_asked_about_no_more(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "Absences", lambda: Absences(holes_max=2))
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=200) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        for number in range(1, 4):
            venue.inject(Fault(fault="gap", rest="gone"))
            await until(functools.partial(is_filled, ingest, number))
        requests = venue.stats.rest_requests
        venue.inject(Fault(fault="gap", count=5, rest="gone"))
        before = account.published
        await until(lambda: account.published > before + 100)
        assert venue.stats.rest_requests == requests
        await ingest.stop()
        told = await gap_events(bus)
        raw = await read_raw(bus, has_prev_ids=None)
    assert [event.type for event in told].count("gap_found") == 3
    (last,) = [event for event in told if event.type == "gap_unfillable"]
    assert last.missing is None
    assert "by nature" in last.detail
    live = [batch for batch in raw.batches if batch.source == "ws"]
    has_prev_id = [batch.prev_id is not None for batch in live[1:]]
    assert has_prev_id[0]
    assert not has_prev_id[-1]  # readers are told that from then on ids prove nothing
    assert has_prev_id == sorted(has_prev_id, reverse=True)
