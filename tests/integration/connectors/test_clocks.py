"""A venue's clock that is wrong loses no trade."""

from pathlib import Path

import msgspec
import pytest

from market_ingestor.connectors import kraken, registry
from market_ingestor.connectors.kraken import Kraken
from market_ingestor.model.trade import TextTrade, TradeBatch
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator import kraken as simulated_kraken
from market_ingestor.simulator.faults import Fault
from tests.integration.connectors.harness import (
    SETTINGS,
    configured,
    connected,
    ingesting,
    read_raw,
    truth,
    until,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


def is_old(trade: TextTrade, batch: TradeBatch[str]) -> bool:
    """Return whether a trade was more than five seconds old when it was read."""
    return batch.received_us - trade.time_us > 5_000_000


async def test_a_clock_that_jumps_makes_no_trade_absent(
    nats_server: NatsHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = Kraken(limits=msgspec.structs.replace(Kraken().limits, rest_requests_per_s=5))
    monkeypatch.setattr(registry, "VENUES", {**registry.VENUES, "kraken": hurried})
    monkeypatch.setattr(simulated_kraken, "_REQUESTS", 30)  # and it lets us be
    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("kraken", ["BTC-USD"], rate=300, truth=log) as venue,
            ingesting(bus, configured(venue)) as ingest,
        ):
            account = ingest.role.outbox.account("sim-kraken")
            await until(lambda: account.published > 50)
            # Too far ahead for a socket; and its history lists them where they do not belong.
            before = venue.stats.trades_made
            venue.inject(Fault(fault="rest_error", status=503, duration_s=3.0))
            venue.inject(Fault(fault="skew", skew_s=8.0, duration_s=0.2))
            await until(lambda: account.rejected["too_far_ahead"] > 20)
            venue.set_rate(600)  # a page of history then ends before the time they have
            await until(lambda: venue.stats.trades_made > before + 1_500)
            venue.inject(Fault(fault="gap", count=5, rest="gone"))  # these do not exist
            await until(lambda: ingest.states.get("found", 0) >= 2)
            await until(lambda: ingest.states.get("filled") == ingest.states["found"])
            await ingest.stop()
            assert ingest.account("sim-kraken").in_flight == 0
            raw = await read_raw(bus)
        ids = set(raw.ids(("sim-kraken", "BTCUSD")))
        seen = range(min(ids), max(ids))
        missing = {each for each in made()["sim-kraken", "BTCUSD"] if each in seen} - ids
        assert raw.holes(("sim-kraken", "BTCUSD")) == []
    assert len(missing) == 5


async def test_age_counts_for_live_trades_and_not_for_refilled_ones(
    nats_server: NatsHandle,
) -> None:
    settings = SETTINGS.model_copy(update={"max_trade_age_s": 2.0})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue), settings) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="skew", skew_s=-10.0, duration_s=0.2))
        await until(lambda: account.rejected["too_old"] > 5)
        await until(lambda: ingest.states.get("found", 0) > 0)
        await until(lambda: ingest.states.get("filled") == ingest.states["found"])
        await ingest.stop()
        raw = await read_raw(bus)
    assert account.rejected.keys() == {"too_old"}
    assert raw.holes(("sim-binance", "BTCUSDT")) == []
    old = {
        batch.source: {trade.id for trade in batch.trades if is_old(trade, batch)}
        for batch in raw.batches
    }
    assert len(old["rest"]) == account.rejected["too_old"]
    assert not old["ws"]


async def test_a_page_that_fails_does_not_begin_a_whole_walk_anew(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, requests_per_s = 50, 40
    hurried = Kraken(
        limits=msgspec.structs.replace(Kraken().limits, rest_requests_per_s=requests_per_s)
    )
    monkeypatch.setattr(registry, "VENUES", {**registry.VENUES, "kraken": hurried})
    monkeypatch.setattr(simulated_kraken, "_REQUESTS", requests_per_s * 6)
    monkeypatch.setattr(kraken, "PAGE_ROWS", rows)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("kraken", ["BTC-USD"], rate=1_000) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        await until(lambda: venue.stats.trades_made > 4_000)
        before = venue.stats.rest_requests
        venue.set_rate(20)
        venue.inject(Fault(fault="gap", count=5, rest="gone"))  # only a whole walk proves it
        await until(lambda: venue.stats.rest_requests > before + 50)
        venue.inject(Fault(fault="rest_error", status=503, duration_s=0.5))
        await until(lambda: ingest.states.get("filled") == 1)
        pages = venue.stats.trades_made // (rows - 1)
        await ingest.stop()
    assert venue.stats.rest_requests - before < pages + 30
