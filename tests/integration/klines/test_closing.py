"""When candles are published first, and what open ones say before."""

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from market_ingestor import metrics
from market_ingestor.bus import codec, subjects
from market_ingestor.config import KlinesSettings
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.live import LONGER_EVERY, SHARE
from market_ingestor.klines.stats_book import StatsBook
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.stats import Stats
from tests.integration.klines.harness import (
    MINUTE,
    Feed,
    brief,
    connected,
    made,
    processing,
    publishing,
    until,
    versions,
    wait_versions,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

if TYPE_CHECKING:
    from market_ingestor.model.kline import Kline

pytestmark = pytest.mark.anyio


def incomplete() -> float:
    """Return how many first versions were counted as incomplete."""
    (family,) = metrics.klines_incomplete_total.collect()
    return family.samples[0].value


async def test_marks_close_a_minute(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    async with connected(nats_server) as bus, publishing(bus) as publisher, saving(bus, store):
        feed = Feed(publisher)
        async with processing(bus, store):
            await feed.trades((1, 1_000, "10", "2"), (2, 2_000, "12"))
            await feed.trades((3, MINUTE + 1_000, "11"), (4, MINUTE + 30_000, "9", "0.5"))
            for second in range(31, 64):
                await feed.mark(MINUTE + second * 1_000)
            found = await wait_versions(bus, 2)
    assert brief(found) == [(0, 1, "close", False, 2), (1, 1, "close", True, 2)]
    whole = found[1]
    assert (whole.open, whole.high, whole.low, whole.close) == ("11", "11", "9", "9")
    assert (whole.volume, whole.quote_volume) == ("1.5", "15.5")
    assert (whole.buy_volume, whole.buy_quote_volume) == ("1", "11")
    assert (whole.first_trade_id, whole.last_trade_id) == ("3", "4")


async def test_longer_periods_are_published_too(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store):
        await setting.begin()
        for minute in range(2, 12):
            await setting.feed.trades((minute + 1, minute * MINUTE + 1_000, str(10 + minute)))
        found = await wait_versions(setting.bus, 2, "5m")
    assert brief(found) == [(0, 1, "close", False, 5), (5, 1, "close", True, 5)]
    assert (found[1].open, found[1].close, found[1].volume) == ("15", "19", "5")
    assert (found[1].first_trade_id, found[1].last_trade_id) == ("6", "10")


async def test_first_versions_that_lack_something_are_counted_in_every_period(
    nats_server: NatsHandle,
) -> None:
    """Also those that the tables decide, because nothing is recorded of what was before."""
    before = incomplete()
    async with made(nats_server) as setting:
        await setting.begin()
        async with processing(setting.bus, setting.store) as processor:
            for minute in range(2, 7):
                await setting.feed.trades((minute + 1, minute * MINUTE + 1_000))
            await wait_versions(setting.bus, 1, "5m")
            await setting.settled(processor)
        found = [each for period in PERIOD_MS for each in await versions(setting.bus, period)]
    lacking = [each.period for each in found if each.revision == 1 and not each.complete]
    assert set(lacking) == {"1m", "5m"}
    assert incomplete() - before == len(lacking)


async def test_a_silent_stream_is_closed_by_the_own_clock_and_incomplete(
    nats_server: NatsHandle,
) -> None:
    settings = KlinesSettings(periods=("1m",), lateness_s=1, hold_max_s=2, live_interval_ms=10)
    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE - 1_000))
        found = await wait_versions(setting.bus, 2)
        assert brief(found)[1] == (1, 1, "close", False, 2)
        await setting.feed.trades((4, 2 * MINUTE + 30_000))
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (1, 2, "repair", True, 2)


async def test_a_longer_window_is_closed_when_its_feed_falls_silent_between_minutes(
    nats_server: NatsHandle,
) -> None:
    settings = KlinesSettings(periods=("1m", "5m"), lateness_s=1, hold_max_s=2, live_interval_ms=10)
    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.begin()
        for at in range(MINUTE + 2_000, 5 * MINUTE, 1_000):
            await setting.feed.mark(at)
        found = await wait_versions(setting.bus, 1, "5m")
    assert brief(found) == [(0, 1, "close", False, 2)]


async def test_open_candles_are_told_at_once_and_then_throttled(nats_server: NatsHandle) -> None:
    settings = KlinesSettings(periods=("1m", "5m"), live_interval_ms=200)
    heard: list[tuple[float, Kline]] = []
    loop = asyncio.get_running_loop()

    def hear(subject: str, payload: bytes) -> None:
        heard.append((loop.time(), codec.kline(subject, payload)))

    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.bus.subscribe_core(subjects.LIVE_ALL, hear)
        await setting.bus.client.flush()
        began = loop.time()
        for number in range(1, 120):
            await setting.feed.trades((number, number * 10))
        everything = {"1m": 119, "5m": 119}
        await until(lambda: {each.period: each.trade_count for _, each in heard} == everything)
        took = loop.time() - began
    minutes = [(at, kline) for at, kline in heard if kline.period == "1m"]
    longer = [kline for _, kline in heard if kline.period == "5m"]
    assert 2 <= len(minutes) <= took / 0.2 + 2
    assert 2 <= len(longer) <= took / (0.2 * LONGER_EVERY) + 2
    assert minutes[0][1].trade_count < 10
    assert longer[0].trade_count < 10
    assert {kline.revision for _, kline in minutes} == {0}


async def test_telling_leaves_most_of_the_time_to_reading(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KlinesSettings(periods=("1m",), live_interval_ms=1)
    heard: list[Kline] = []
    loop, slow_s, changed = asyncio.get_running_loop(), 0.02, StatsBook.changed

    def slow(self: StatsBook, aggregator: Aggregator) -> Stats | None:
        time.sleep(slow_s)  # what takes long here is computing
        return changed(self, aggregator)

    monkeypatch.setattr(StatsBook, "changed", slow)
    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.bus.subscribe_core(
            subjects.LIVE_ALL, lambda subject, payload: heard.append(codec.kline(subject, payload))
        )
        await setting.bus.client.flush()
        began = loop.time()
        for number in range(1, 80):
            await setting.feed.trades((number, number * 10))
        await until(lambda: bool(heard) and heard[-1].trade_count == 79)
        took = loop.time() - began
    assert len(heard) <= took / (slow_s / SHARE) + 2
