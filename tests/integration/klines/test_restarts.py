"""Processors that stop, are killed, begin again or run side by side."""

import asyncio
from collections import defaultdict
from itertools import pairwise

import pytest

from market_ingestor.config import KlinesSettings
from market_ingestor.klines.processor import KlineProcessor
from market_ingestor.klines.resume import decode
from market_ingestor.model.kline import Kline
from market_ingestor.runtime import role
from tests.integration.klines.harness import (
    MINUTE,
    SETTINGS,
    T0,
    Setting,
    brief,
    connected,
    made,
    processing,
    until,
    until_async,
    versions,
    wait_versions,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_a_killed_processor_is_replaced_without_another_version(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store):
            await setting.begin()
            for minute in range(2, 5):
                await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
            await wait_versions(setting.bus, 4)
            await until_async(setting.is_recorded)  # else all would be in doubt
        await setting.feed.trades((6, 5 * MINUTE + 5_000))
        await setting.feed.trades((7, 6 * MINUTE + 5_000))
        async with processing(setting.bus, setting.store) as second:
            found = await wait_versions(setting.bus, 6)
            await setting.settled(second)
            found = await versions(setting.bus)
            long = await versions(setting.bus, "5m")
    assert brief(found) == [(0, 1, "close", False, 1)] + [
        (minute, 1, "close", True, 1) for minute in range(1, 6)
    ]
    assert brief(long) == [(0, 1, "close", False, 5)]


async def test_a_start_far_behind_says_so_until_all_is_read(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "LAG_MAX_S", 0.0)
    async with made(nats_server) as setting:
        await asyncio.gather(*(setting.feed.trades((n, MINUTE + n)) for n in range(1, 4_000)))
        last = await setting.feed.mark(MINUTE + 5_000)
        processor = KlineProcessor(setting.bus, setting.store, SETTINGS)
        running = asyncio.create_task(processor.run())
        said: set[str] = set()
        while processor.health().details["position"] <= last and not running.done():
            said.update(processor.health().problems)
            await asyncio.sleep(0)
        assert [each for each in said if each.startswith("MARKET_RAW is ")], said
        await until(lambda: processor.health().problems == ())
        processor.stop()
        await running


async def test_a_stopped_processor_leaves_a_record_that_is_up_to_date(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        processor = KlineProcessor(setting.bus, setting.store, SETTINGS)
        running = asyncio.create_task(processor.run())
        await until(lambda: processor.health().is_ready)  # it begins with nothing stored
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        last = await setting.feed.mark(2 * MINUTE + 6_000)
        await until(lambda: processor.health().details["position"] > last)
        processor.stop()
        async with asyncio.timeout(5):
            await running
        assert not processor.health().is_ready
        assert len(await versions(setting.bus)) == 2
        payload = await setting.record()
        assert payload is not None
        record = decode(payload)
        assert record.position == 3  # the batch of the minute that is still open
        assert record.symbols["binance.BTCUSDT"].closed_through == T0 + 2 * MINUTE


async def test_stop_works_while_the_server_is_away(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting:
        processor = KlineProcessor(setting.bus, setting.store, SETTINGS)
        running = asyncio.create_task(processor.run())
        await until(lambda: processor.health().is_ready)
        await nats_server.kill()
        await until(lambda: not processor.health().is_ready)
        processor.stop()
        async with asyncio.timeout(8):
            await running
        await nats_server.start()


async def test_two_processors_publish_each_content_once(nats_server: NatsHandle) -> None:
    async with (
        made(nats_server) as setting,
        connected(nats_server, "second") as other,
        processing(setting.bus, setting.store) as first,
        processing(other, setting.store) as second,
    ):
        await setting.begin()
        for minute in range(2, 8):
            await setting.feed.trades((minute + 10, minute * MINUTE + 1_000), prev_id="2")
            await setting.feed.trades((100 + minute, (minute - 1) * MINUTE + 30_000))
        await setting.feed.mark(9 * MINUTE)
        await wait_versions(setting.bus, 8)
        await setting.settled(first, second)
        found = await versions(setting.bus)
    by_window = defaultdict[int, list[Kline]](list)
    for each in found:
        by_window[each.open_time].append(each)
    for several in by_window.values():
        assert [each.revision for each in several] == list(range(1, len(several) + 1))
        contents = [(each.complete, each.trade_count, each.volume) for each in several]
        assert all(left != right for left, right in pairwise(contents))


async def test_candles_go_on_after_the_server_was_killed(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        for minute in range(2, 20):
            if minute == 10:
                await nats_server.kill()
                await nats_server.start()
            await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
        found = await wait_versions(setting.bus, 19)
        await setting.settled(processor)
        found = await versions(setting.bus)
    assert brief(found)[1:] == [(minute, 1, "close", True, 1) for minute in range(1, 19)]


async def test_long_windows_are_whole_after_a_restart(nats_server: NatsHandle) -> None:
    settings = KlinesSettings(periods=("1m", "5m", "1h"), live_interval_ms=10)
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store, settings) as first:
            await setting.begin()
            for minute in range(2, 33):
                await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
            await wait_versions(setting.bus, 32)
            await setting.settled(first)
            await until_async(lambda: has_record(setting, 32 * MINUTE))
        async with processing(setting.bus, setting.store, settings) as second:
            await until(lambda: second.health().details["long_windows_waiting"] == 0)
            await setting.feed.trades((34, 33 * MINUTE + 5_000))
            await setting.feed.trades((35, 60 * MINUTE + 5_000))
            (hour,) = await wait_versions(setting.bus, 1, "1h")
            await setting.settled(second)
    assert brief([hour]) == [(0, 1, "close", False, 34)]


async def has_record(setting: Setting, closed_through: int) -> bool:
    """Return whether a resume record of this minute was written."""
    payload = await setting.record()
    if payload is None:
        return False
    known = decode(payload).symbols["binance.BTCUSDT"]
    return known.closed_through == T0 + closed_through


async def test_long_windows_wait_for_a_database_that_is_away_at_a_restart(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store) as first:
            await setting.begin()
            for minute in range(2, 4):
                await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
            await wait_versions(setting.bus, 3)
            await setting.settled(first)
            await until_async(lambda: has_record(setting, 3 * MINUTE))
        setting.store.is_back.clear()
        async with processing(setting.bus, setting.store) as second:
            await setting.feed.trades((5, 4 * MINUTE + 5_000))
            await setting.feed.trades((6, 5 * MINUTE + 5_000))
            found = await wait_versions(setting.bus, 5)
            assert brief(found)[4] == (4, 1, "close", True, 1)
            assert await versions(setting.bus, "5m") == []
            setting.store.is_back.set()
            (long,) = await wait_versions(setting.bus, 1, "5m")
            await setting.settled(second)
    assert brief([long]) == [(0, 1, "close", False, 5)]
