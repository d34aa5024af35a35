"""What klines leaves in its records, as verify understands it."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import PullReader
from market_ingestor.storage.progress import STALE_US, Progress
from tests.integration.storage.harness import EXCHANGE, SYMBOL, Feed, trade

pytestmark = pytest.mark.anyio

NAME = f"{EXCHANGE}.{SYMBOL}"


async def record(bus: Bus, read_to: int, *, written_us: int | None = None, **symbol: Any) -> None:
    """Write a record as klines does."""
    state = await bus.stream_state(subjects.RAW_STREAM)
    payload = {
        "v": 1, "stream": state.name, "created": state.created, "position": 1,
        "read_to": read_to, "written_us": written_us or time.time_ns() // 1_000,
        "symbols": {NAME: {"closed_through": 120_000, **symbol}},
    }  # fmt: skip
    bucket = await bus.bucket(subjects.STATE_BUCKET)
    await bucket.put("slot-07", msgspec.json.encode(payload))


async def acknowledge(bus: Bus, stream: str, count: int) -> None:
    durable = streams.durable_config(subjects.SAVE_DURABLE, ack_wait_s=30, max_ack_pending=100)
    async with PullReader(bus, stream, durable) as reader:
        read = 0
        while read < count:
            arrived = await reader.next(5)
            await reader.ack(arrived)
            read += len(arrived)
        await reader.next(0.01)  # so that the consumer exists, too, where nothing is to be read
    await bus.client.flush()


async def is_settled(bus: Bus) -> bool:
    """Return whether there is nothing to wait for."""
    waiting = asyncio.create_task(Progress(bus).settle())
    await asyncio.wait((waiting,), timeout=1.5)
    done = waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return done


async def test_waits_for_savers_and_for_what_klines_has_to_correct(bus: Bus, feed: Feed) -> None:
    last = await feed.send(trade(1), trade(2))
    assert not await is_settled(bus)
    await acknowledge(bus, subjects.RAW_STREAM, 1)
    await acknowledge(bus, subjects.KLINE_STREAM, 0)
    assert await is_settled(bus)  # without klines there is nothing else to wait for
    await record(bus, last)
    assert not await is_settled(bus)
    await record(bus, last + 1, dirty=[["1m", 60_000, 1, 1, "late"]])
    assert not await is_settled(bus)
    await record(bus, last + 1, rescan=[0, 60_000, 1, 1])
    assert not await is_settled(bus)
    await record(bus, last + 1)
    assert await is_settled(bus)
    await record(bus, 1, written_us=time.time_ns() // 1_000 - STALE_US - 1)
    assert await is_settled(bus)


async def test_tells_how_far_windows_are_closed(bus: Bus) -> None:
    assert await Progress(bus).closed_through() is None
    await record(bus, 1)
    assert await Progress(bus).closed_through() == {(EXCHANGE, SYMBOL): 120_000}
    bucket = await bus.bucket(subjects.STATE_BUCKET)
    await bucket.put("slot-08", b"not a record")
    assert await Progress(bus).closed_through() == {(EXCHANGE, SYMBOL): 120_000}
