"""Rolling statistics of the klines role, against a real nats-server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.model.stats import Stats
from tests.integration.klines.harness import (
    MINUTE,
    T0,
    Feed,
    connected,
    processing,
    publishing,
    until,
    wait_versions,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[list[Stats]]:
    """Give the statistics published from now on."""
    told: list[Stats] = []

    def take(subject: str, payload: bytes) -> None:
        told.append(codec.stats(subject, payload))
        assert subject == subjects.stats(told[-1].exchange, told[-1].symbol)

    await bus.subscribe_core(subjects.STATS_ALL, take)
    await bus.client.flush()
    yield told


async def test_trades_and_marks_move_the_windows(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        listening(bus) as told,
        processing(bus, MemoryStore()),
    ):
        feed = Feed(publisher)
        await feed.trades((1, 1_000, "10", "1"), (2, 1_100, "20", "3"))
        await until(lambda: bool(told) and told[-1].windows["5s"].trade_count == 2)
        assert told[-1].last_price == "20"
        assert told[-1].windows["5s"].vwap == "17.5"
        assert told[-1].day.open == "10"
        twin = Feed(publisher, "f2")
        await twin.trades((2, 1_100, "20", "3"), (3, 1_200, "30", "1"), prev_id="1")
        await until(lambda: told[-1].windows["5s"].trade_count == 3)
        await feed.mark(3_000)
        await twin.mark(8_000)
        await until(lambda: told[-1].windows["5s"].trade_count == 0)
        assert told[-1].windows["1m"].trade_count == 3
        assert told[-1].last_price == "30"
        assert (told[-1].day.trade_count, told[-1].day.high) == (3, "30")


async def test_nothing_new_is_not_told_again(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        listening(bus) as told,
        processing(bus, MemoryStore()) as processor,
    ):
        feed = Feed(publisher)
        await feed.trades((1, 1_000))
        await until(lambda: len(told) == 1)
        for at in (2_000, 3_000, 4_000):
            sequence = await feed.mark(at)
        await until(lambda: processor.health().details["position"] > sequence)
        await feed.trades((2, 4_500))
        await until(lambda: told[-1].windows["5s"].trade_count == 2)
        assert len(told) == 2


async def test_closes_and_the_day_survive_a_restart(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        saving(bus, store),
        listening(bus) as told,
    ):
        feed = Feed(publisher)
        async with processing(bus, store):
            for number in range(1, 11):
                await feed.trades((number, number * MINUTE, str(number)))
            closed = await wait_versions(bus, 9)
            await until(lambda: bool(told) and told[-1].day.trade_count == 10)
        await until(lambda: len(store.candles["binance", "BTCUSDT", "1m"]) == len(closed))
        # Versions of long ago are in the table alone.
        opened = T0 - 600 * MINUTE
        old = structs.replace(closed[0], open_time=opened, close_time=opened + 59_999, open="7")
        store.candles["binance", "BTCUSDT", "1m"][old.open_time] = old
        before = told[-1]
        told.clear()
        async with processing(bus, store):
            await feed.trades((11, 10 * MINUTE + 1_000, "11"))
            await until(lambda: bool(told))
            for number in range(12, 40):
                await feed.trades((number, 10 * MINUTE + number * 100, "11"))
            await until(lambda: told[-1].day.open == "7")
        assert before.sma.values["7"] == "6"
        assert told[-1].sma.values["7"] == "6"
        assert told[-1].last_price == "11"


async def test_a_store_that_is_away_delays_nothing(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    store.is_back.clear()
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        listening(bus) as told,
        processing(bus, store),
    ):
        await Feed(publisher).trades((1, 1_000))
        await until(lambda: bool(told))
        assert told[-1].sma.values == {"7": None, "25": None, "99": None}
