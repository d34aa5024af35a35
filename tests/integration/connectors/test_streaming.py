"""Trades of every venue arrive once, provably whole, and an orderly end leaves nothing behind."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from market_ingestor.bus.listings import follow_listings
from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors.ingest import IngestRole
from market_ingestor.model.instrument import InstrumentTable
from market_ingestor.model.listing import ListingBook
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.markets import VENUES
from tests.integration.connectors.harness import (
    SETTINGS,
    configured,
    connected,
    events,
    ingesting,
    longest_silence_s,
    read_raw,
    truth,
    until,
)
from tests.support.metrics import value
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_every_venue_arrives_once_and_in_order(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    async with connected(nats_server) as bus, AsyncExitStack() as stack:
        log, sent = stack.enter_context(truth(tmp_path))
        venues = [
            await stack.enter_async_context(SimulatedVenue(name, seed=1, rate=100, truth=log))
            for name in VENUES
        ]
        async with ingesting(bus, configured(*venues)) as ingest:
            await until(
                lambda: all(a.published > 200 for a in ingest.role.outbox.accounts.values())
            )
            assert ingest.role.health().is_ready
            assert ingest.role.health().problems == ()
            await asyncio.sleep(1.5)  # a second's marks at least
            await ingest.stop()
            for name in VENUES:
                account = ingest.account(f"sim-{name}")
                assert account.in_flight == 0
                assert account.received == account.published

        raw = await read_raw(bus)
        assert {exchange for exchange, _ in raw.keys} == {f"sim-{name}" for name in VENUES}
        made = sent()
        for key in raw.keys:
            ids = raw.ids(key)
            assert sorted(ids) == list(range(min(ids), max(ids) + 1))  # each once, none missing
            assert set(ids) <= made[key]
        live = {batch.feed for batch in raw.batches}
        assert {mark.feed for mark in raw.marks if mark.end} >= live
        assert all(longest_silence_s(raw, feed) < 2 for feed in live)
        kinds = [event.type for event in await events(bus)]
        assert kinds.count("feed_up") == kinds.count("feed_down") == len(VENUES)


async def test_copies_within_a_feed_and_reordering_change_nothing(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=200) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 50)
        venue.inject(Fault(fault="duplicate", count=40))
        venue.inject(Fault(fault="reorder", count=10))
        await until(lambda: account.duplicates == 40 and account.published > 300)
        await ingest.stop()
        assert ingest.account("sim-okx").duplicates == 40
        raw = await read_raw(bus)
        ids = raw.ids(("sim-okx", "BTCUSDT"))
        assert ids != sorted(ids)
        assert sorted(ids) == list(range(min(ids), max(ids) + 1))


async def test_malformed_frames_cost_one_counter_each(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        for _ in range(3):
            venue.inject(Fault(fault="truncated"))
        venue.inject(Fault(fault="unknown"))  # not malformed, only new: ignored
        venue.inject(Fault(fault="absurd", count=2, value="NaN"))
        before = account.published
        await until(lambda: account.rejected.total() >= 5 and account.published > before + 50)
        assert dict(account.rejected) == {"bad_json": 3, "bad_price": 2}
        await until(lambda: ingest.states.get("filled") == 1)  # REST has the real prices
        await ingest.stop()
        assert ingest.account("sim-binance").in_flight == 0
        raw = await read_raw(bus)
        assert raw.holes(("sim-binance", "BTCUSDT")) == []
        assert venue.stats.connections == 1


async def test_the_metrics_balance_like_the_account(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("kraken", ["BTC-USD"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        names = [f"market_ingestor_trades_{each}_total" for each in ("received", "published")]
        names.append("ingest_latency_seconds_count")  # one for each trade, not for each batch
        before = [value(name, exchange="sim-kraken") for name in names]
        await until(lambda: ingest.role.outbox.account("sim-kraken").published > 100)
        await ingest.stop()
        account = ingest.account("sim-kraken")
        after = [value(name, exchange="sim-kraken") for name in names]
        assert [b - a for a, b in zip(before, after, strict=True)] == [
            account.received,
            account.published,
            account.published,
        ]
        assert value("market_ingestor_trades_in_flight", exchange="sim-kraken") == 0


async def test_modes_choose_exchanges(nats_server: NatsHandle) -> None:
    exchanges = {
        "binance": ExchangeSettings(symbols=("BTCUSDT",)),
        "sim-okx": ExchangeSettings(symbols=("BTCUSDT",)),
        "sim-kraken": ExchangeSettings(symbols=("BTCUSD",), enabled=False),
    }
    live = SETTINGS.model_copy(update={"mode": "live"})
    async with connected(nats_server) as bus:
        for settings, chosen in ((SETTINGS, "sim-okx"), (live, "binance")):
            async with ingesting(bus, exchanges, settings) as ingest:
                assert [fleet.context.exchange for fleet in ingest.role.fleets] == [chosen]


async def test_shards_share_the_symbols_between_them(nats_server: NatsHandle) -> None:
    class Half:
        def __init__(self, index: int) -> None:
            self._index = index

        def owns(self, slot: int) -> bool:
            return slot % 2 == self._index

    async with connected(nats_server) as bus, SimulatedVenue("okx", rate=50) as venue:
        carried: list[set[str]] = []
        for index in range(2):
            role = IngestRole(bus, configured(venue), SETTINGS, shard=Half(index))
            task = asyncio.create_task(role.run())
            await until(lambda: any(each.is_up for each in role.fleets))  # noqa: B023 - used within the iteration
            carried.append(set(role.fleets[0].symbols))
            role.stop()
            await task
    assert carried[0] | carried[1] == set(venue.symbols)
    assert not carried[0] & carried[1]


async def test_symbols_are_added_and_dropped_without_losing_a_trade(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT", "ETH-USDT", "SOL-USDT"], rate=150) as venue,
    ):
        exchanges = {
            "sim-okx": ExchangeSettings(
                symbols=("btc-usdt", "ETHUSDT"), ws_url=venue.ws_url, rest_url=venue.rest_url
            )
        }
        async with ingesting(bus, exchanges) as ingest:
            account, fleet = ingest.role.outbox.account("sim-okx"), ingest.role.fleets[0]
            await until(lambda: account.published > 50)
            fleet.apply(["BTCUSDT", "SOL/USDT"])
            await until(lambda: venue.stats.connections == 2 and venue.stats.connections_open == 1)
            before = account.published
            await until(lambda: account.published > before + 50)
            await ingest.stop()
            assert ingest.account("sim-okx").in_flight == 0
            assert ingest.states == {}
        raw = await read_raw(bus)
        assert {symbol for _, symbol in raw.keys} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
        assert raw.holes(("sim-okx", "BTCUSDT")) == []
        last = [mark for mark in raw.marks if mark.end][-1]
        assert set(last.symbols) == {"BTCUSDT", "SOLUSDT"}


async def test_what_is_carried_is_told_with_what_the_venue_lists(nats_server: NatsHandle) -> None:
    book = ListingBook()
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("kraken", ["BTC/USD", "ETH/USD"], rate=50) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        following = asyncio.create_task(follow_listings(bus, book.put))
        try:
            await until(lambda: len(book) == 2)
            found = book.resolve("sim-kraken", "XBT/USD")
            assert found is not None
            assert (found.symbol, found.venue_symbol) == ("BTCUSD", "BTC/USD")
            assert (found.base, found.quote, found.state) == ("BTC", "USD", "active")
            assert found.price_step is not None
            (fleet,) = ingest.role.fleets
            fleet.apply(["ETH/USD"])  # dropped here, not by the venue
            fleet.apply(["ETH/USD", "NEITHER"])
            await asyncio.sleep(0.2)
            assert [each.state for each in book] == ["active", "active"]
        finally:
            following.cancel()


async def test_what_a_venue_lists_no_more_is_inactive(nats_server: NatsHandle) -> None:
    book = ListingBook()
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT", "ETH-USDT"], rate=50) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        following = asyncio.create_task(follow_listings(bus, book.put))
        try:
            await until(lambda: len(book) == 2)
            (fleet,) = ingest.role.fleets
            table = fleet._table  # noqa: SLF001 - to be replaced as by the hourly refresh
            assert table is not None
            left = [each.venue for each in table if each.symbol != "ETHUSDT"]
            fleet._table = InstrumentTable(left)  # noqa: SLF001 - as above
            fleet.apply(["BTC-USDT", "ETH-USDT"])
            await until(
                lambda: [each.state for each in book.of("sim-okx")] == ["active", "inactive"]
            )
        finally:
            following.cancel()
