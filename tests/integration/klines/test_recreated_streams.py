"""Streams that are deleted and made again, under a processor or between two."""

import asyncio

import pytest

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.making import ensure_streams
from tests.integration.klines.harness import (
    LIMITS,
    MINUTE,
    T0,
    Feed,
    Setting,
    brief,
    connected,
    made,
    processing,
    publishing,
    until,
    until_async,
    wait_versions,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_a_recreated_stream_leaves_nothing_wrong(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store) as first:
            await setting.begin()
            await setting.feed.trades((3, 2 * MINUTE + 5_000))
            await wait_versions(setting.bus, 2)
            await setting.settled(first)
            await asyncio.sleep(1.2)  # a record is written once a second
        await setting.feed.trades((4, 2 * MINUTE + 6_000, "70"))
        await setting.feed.trades((5, 3 * MINUTE + 6_000, "80"))
        await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 5)
        await recreate(setting, subjects.RAW_STREAM)
        async with processing(setting.bus, setting.store) as second:
            feed = Feed(setting.publisher, "new")
            await feed.trades((6, 5 * MINUTE + 1_000), prev_id="5")
            await feed.trades((7, 6 * MINUTE + 5_000))
            await wait_versions(setting.bus, 5)
            await setting.settled(second)
        assert contents(setting) == [
            (0, 1, "10"), (1, 1, "11"), (2, 2, "70"), (3, 1, "80"), (5, 1, "100"),
        ]  # fmt: skip


async def recreate(setting: Setting, *names: str) -> None:
    """Delete streams and make them again, as an operator may."""
    for name in names:
        await setting.bus.api(f"STREAM.DELETE.{name}")
    configs = streams.market_streams(
        raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
    )
    await ensure_streams(setting.bus, configs, update=True)


def contents(setting: Setting, period: str = "1m") -> list[tuple[int, int, str]]:
    """Return minute, trade count and close of each stored candle."""
    rows = setting.store.candles["binance", "BTCUSDT", period]
    return [
        ((opened - T0) // MINUTE, row.trade_count, row.close)
        for opened, row in sorted(rows.items())
    ]


async def test_a_raw_stream_recreated_under_a_running_processor_leaves_nothing_wrong(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        await wait_versions(setting.bus, 2)
        late = await setting.feed.trades((4, MINUTE + 50_000, "70"), received=2 * MINUTE + 6_000)
        await setting.feed.trades((5, 2 * MINUTE + 7_000, "71"))
        await until(lambda: processor.health().details["position"] == late + 2)
        await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 5)
        await recreate(setting, subjects.RAW_STREAM)
        await setting.feed.trades((6, 3 * MINUTE + 5_000))
        await setting.feed.trades((7, 6 * MINUTE + 5_000))
        await wait_versions(setting.bus, 1, "5m")
        assert processor.lives == 2
        await setting.feed.mark(7 * MINUTE + 5_000)
        await setting.settled(processor)
    assert contents(setting) == [
        (0, 1, "10"), (1, 2, "70"), (2, 2, "71"), (3, 1, "100"), (6, 1, "100"),
    ]  # fmt: skip
    assert contents(setting, "5m") == [(0, 6, "100")]


async def test_a_symbol_that_only_gives_marks_after_a_loss_gets_its_candle(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        last = await setting.feed.trades((3, 2 * MINUTE + 5_000, "12"))
        await until(lambda: processor.health().details["position"] > last)
        await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 3)
        await recreate(setting, subjects.RAW_STREAM)
        await setting.feed.mark(4 * MINUTE)
        await wait_versions(setting.bus, 3)
        await setting.feed.mark(5 * MINUTE + 5_000)
        await setting.settled(processor)
    assert contents(setting) == [(0, 1, "10"), (1, 1, "11"), (2, 1, "12")]


async def test_a_symbol_that_was_saved_and_never_read_before_a_loss_gets_its_candles(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store):
            await until_async(setting.is_recorded)  # of a symbol that is not known yet
        await setting.begin()
        await until(lambda: len(setting.store.rows.get(("binance", "BTCUSDT"), {})) == 2)
        await recreate(setting, subjects.RAW_STREAM)
        async with processing(setting.bus, setting.store) as second:
            feed = Feed(setting.publisher, "new")
            await feed.mark(3 * MINUTE)
            await wait_versions(setting.bus, 2)
            await feed.mark(4 * MINUTE + 5_000)
            await setting.settled(second)
    assert contents(setting) == [(0, 1, "10"), (1, 1, "11")]


async def test_a_candle_stream_recreated_under_a_running_processor_goes_on_with_revisions(
    nats_server: NatsHandle,
) -> None:
    store = MemoryStore()
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        processing(bus, store) as processor,
    ):
        setting = Setting(bus, publisher, store)
        async with saving(bus, store):
            await setting.begin()
            await setting.feed.trades((3, 2 * MINUTE + 5_000))
            await setting.feed.trades((4, MINUTE + 50_000, "70"), received=2 * MINUTE + 6_000)
            await wait_versions(bus, 3)
            await setting.settled(processor)
        await setting.feed.trades((5, 3 * MINUTE + 5_000))
        await wait_versions(bus, 4)  # of minute 2: nobody saves it before its stream goes
        await recreate(setting, subjects.KLINE_STREAM)
        await setting.feed.trades((6, MINUTE + 55_000, "71"), received=3 * MINUTE + 6_000)
        async with saving(bus, store):
            found = await wait_versions(bus, 2)
            await setting.settled(processor)
        assert processor.lives == 2
    assert sorted(brief(found)) == [(1, 3, "late", True, 3), (2, 1, "close", True, 1)]
    assert contents(setting) == [(0, 1, "10"), (1, 3, "71"), (2, 1, "100")]


async def test_a_database_older_than_the_streams_decides_what_they_begin_with(
    nats_server: NatsHandle,
) -> None:
    """The files of NATS are gone: half a minute and a candle are known to the database alone."""
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store) as first:
            await setting.begin()
            await setting.feed.trades((3, 2 * MINUTE + 5_000, "12"))
            await wait_versions(setting.bus, 2)
            await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 3)
            await setting.settled(first)
        await recreate(setting, subjects.RAW_STREAM, subjects.KLINE_STREAM)
        await setting.bus.api(f"STREAM.DELETE.KV_{subjects.STATE_BUCKET}")
        async with processing(setting.bus, setting.store) as second:
            feed = Feed(setting.publisher, "new")
            await feed.trades((4, 2 * MINUTE + 20_000, "13"), prev_id="3")
            await feed.trades((5, MINUTE + 30_000, "14"), received=2 * MINUTE + 21_000)
            await feed.trades((6, 3 * MINUTE + 5_000))
            await feed.trades((7, 5 * MINUTE + 5_000))
            found = await wait_versions(setting.bus, 3)
            await wait_versions(setting.bus, 1, "5m")
            await setting.settled(second)
    assert [each[:2] for each in sorted(brief(found))] == [(1, 2), (2, 1), (3, 1)]
    assert contents(setting) == [(0, 1, "10"), (1, 2, "14"), (2, 2, "13"), (3, 1, "100")]
    assert contents(setting, "5m") == [(0, 6, "100")]
