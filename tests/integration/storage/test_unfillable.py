"""Trades that ingest says cannot be had, and that are stored all the same: no gap stays."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.connectors import history
from market_ingestor.model.event import MarketEvent
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from market_ingestor.storage import gap_keeper
from market_ingestor.storage.timescale import Database
from tests.integration.connectors.harness import (
    configured,
    connected,
    ingesting,
    read_raw,
    until,
)
from tests.integration.storage.harness import rows, saving
from tests.integration.storage.harness import until as until_async
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

LOST = 200  # the venue's history ends after 60 trades
KEY = ("sim-bybit", "BTCUSDT")
STATES = "SELECT DISTINCT state FROM market_gaps"


@pytest.fixture
async def venue(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SimulatedVenue]:
    """Give the venue with a short history; savers look at gaps all the time."""
    monkeypatch.setattr(gap_keeper, "INTERVAL_S", 0.2)
    async with SimulatedVenue("bybit", ["BTC-USDT"], rate=200) as made:
        yield made


async def test_what_one_process_gives_up_and_the_other_delivers_is_filled(
    nats_server: NatsHandle, database: Database, venue: SimulatedVenue
) -> None:
    async def is_filled() -> bool:
        return await rows(database, STATES) == [("filled",)]

    async with (
        connected(nats_server) as bus,
        ingesting(bus, configured(venue)) as one,
        ingesting(bus, configured(venue)) as other,
        saving(bus, database),
    ):
        accounts = [each.role.outbox.account(KEY[0]) for each in (one, other)]
        await until(lambda: all(account.published > 50 for account in accounts))
        venue.inject(Fault(fault="gap", count=LOST, sockets="one"))
        await until(lambda: any(each.states.get("unfillable") for each in (one, other)))
        await until_async(is_filled)


async def test_what_a_dead_process_refilled_long_ago_is_filled(
    nats_server: NatsHandle,
    database: Database,
    venue: SimulatedVenue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one has forgotten the refill, asks again, and the venue has forgotten it too."""
    monkeypatch.setattr(history, "RESUME_SCAN", timedelta(seconds=0.2))

    async def is_filled() -> bool:
        return await rows(database, STATES) == [("filled",)]

    async with connected(nats_server) as bus, saving(bus, database):
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account(KEY[0])
            await until(lambda: account.published > LOST + 200)
            venue.set_rate(0)
            await ingest.kill()
        times = {
            int(each.id): each.time_us
            for batch in (await read_raw(bus)).batches
            for each in batch.trades
        }
        after = min(times)
        before = after + LOST + 1
        found = MarketEvent(
            v=1, exchange=KEY[0], symbol=KEY[1], type="gap_found", time_us=time.time_ns() // 1_000,
            after_id=str(after), before_id=str(before), missing=LOST,
            from_time=times[after] // 1_000, to_time=times[before] // 1_000, detail="",
        )  # fmt: skip
        await bus.client.request(subjects.event(*KEY), codec.encode(found), timeout=5)
        async with ingesting(bus, configured(venue)) as ingest:
            await until(lambda: bool(ingest.states.get("unfillable")))
            await until_async(is_filled)
