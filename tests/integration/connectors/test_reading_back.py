"""At a start the ids that are stored already are read back."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.connectors import history
from market_ingestor.connectors.history import KnownTrade, StoredIds
from market_ingestor.model.trade import TradeBatch
from market_ingestor.simulator import SimulatedVenue
from tests.integration.connectors.harness import (
    configured,
    connected,
    ingesting,
    read_raw,
    stored,
    truth,
    until,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_an_absence_longer_than_the_scan_is_refilled(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RESUME_SCAN", timedelta(seconds=0.5))
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
    ):
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-binance")
            await until(lambda: account.published > 50)
            await ingest.kill()
        await asyncio.sleep(1.5)
        async with ingesting(bus, configured(venue)) as ingest:
            await until(lambda: ingest.states.get("filled", 0) > 0)
            await ingest.stop()
        assert (await read_raw(bus)).holes(("sim-binance", "BTCUSDT")) == []


async def test_what_a_refill_of_earlier_times_leaves_out_is_not_missing(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RESUME_SCAN", timedelta(seconds=0.5))
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=100) as venue,
    ):
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.published > 200)
            # What is older than the scan comes once more, as from a refill.
            subject, batches = subjects.raw("sim-okx", "BTCUSDT"), (await stored(bus)).batches
            refill = msgspec.structs.replace(
                batches[0], feed="other-1", n=1, source="rest", prev_id=None
            )
            await bus.client.request(subject, codec.encode(refill), timeout=5)
            published = account.published
            await until(lambda: account.published > published + 20)
            await ingest.kill()
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.published > 100)
            await ingest.stop()
        raw = await read_raw(bus)
        ids = raw.ids(("sim-okx", "BTCUSDT"))
    assert raw.holes(("sim-okx", "BTCUSDT")) == []
    assert len(ids) < len(set(ids)) + 50  # those that were sent above, and no others again


def counted(monkeypatch: pytest.MonkeyPatch) -> list[TradeBatch[str]]:
    """Return a list that gets every batch read back from now on."""
    read: list[TradeBatch[str]] = []
    take = StoredIds.take

    def note(stored_ids: StoredIds, batch: TradeBatch[str]) -> None:
        read.append(batch)
        take(stored_ids, batch)

    monkeypatch.setattr(StoredIds, "take", note)
    return read


async def test_the_newest_ids_are_read_back_first(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "STAGES", (timedelta(seconds=0.5), history.RESUME_SCAN))
    async with connected(nats_server) as bus:
        async with (
            SimulatedVenue("okx", ["BTC-USDT"], rate=100) as venue,
            ingesting(bus, configured(venue)) as ingest,
        ):
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.published > 200)
            await ingest.stop()
        raw = await stored(bus)
        ids = raw.ids(("sim-okx", "BTCUSDT"))
        read_batches = counted(monkeypatch)
        stages = [
            list(read["BTCUSDT"].intervals)
            async for read in history.read_back(bus, "sim-okx", ["BTCUSDT"])
        ]
    assert stages[-1] == [(min(ids), max(ids))]
    ((first, last),) = stages[0]
    assert min(ids) < first < last == max(ids)
    assert len(read_batches) == len(raw.batches)  # each once, whatever the stages overlap


async def test_where_the_stream_holds_nothing_the_saved_ids_count(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    async def known_ids(exchange: str, symbol: str) -> KnownTrade | None:
        asked.append((exchange, symbol))
        if symbol != "BTCUSDT":
            raise OSError("no database")
        return KnownTrade(id=first, time_us=time.time_ns() // 1000)

    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("okx", ["BTC-USDT", "ETH-USDT"], rate=200, truth=log) as venue,
        ):
            await until(lambda: venue.stats.trades_made > 100)
            first = min(made()["sim-okx", "BTCUSDT"])
            async with ingesting(bus, configured(venue), known_ids=known_ids) as ingest:
                account = ingest.role.outbox.account("sim-okx")
                await until(lambda: account.published > 100)
                await until(lambda: ingest.states.get("filled", 0) > 0)
                await ingest.stop()
            ids = set((await read_raw(bus)).ids(("sim-okx", "BTCUSDT")))
    assert set(asked) == {("sim-okx", "BTCUSDT"), ("sim-okx", "ETHUSDT")}
    assert min(ids) == first + 1
    assert ids == set(range(first + 1, max(ids) + 1))
