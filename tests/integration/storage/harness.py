"""What the storage tests share: data, a feed into the streams, and waiting for conditions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.streams import StreamLimits
from market_ingestor.model.trade import (
    FeedPosition,
    Mark,
    Side,
    Source,
    TextTrade,
    Trade,
    TradeBatch,
)
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.saver import BatchSaver
from market_ingestor.storage.timescale import Database

EXCHANGE = "binance"
SYMBOL = "BTCUSDT"
START_US = 1_763_676_000_000_000  # 2025-11-20T22:00:00Z
WAIT_S = 20.0
LIMITS = SaveLimits(batch_size=100, batch_size_max=500, flush_interval_s=0.1)


def limits(max_bytes: int = 1 << 30) -> StreamLimits:
    return StreamLimits(max_age_s=0, max_bytes=max_bytes, duplicate_window_s=30)


async def prepared(bus: Bus, *, raw_bytes: int = 1 << 30) -> None:
    """Make the four streams."""
    configs = streams.market_streams(
        raw=limits(raw_bytes), kline=limits(), event=limits(), dead=limits(), replicas=1
    )
    await ensure_streams(bus, configs, update=True)


def trade(
    number: int,
    *,
    price: str = "100.5",
    amount: str = "2",
    time_us: int | None = None,
    side: Side | None = "buy",
) -> TextTrade:
    """Return trade ``number``, one per millisecond."""
    when = START_US + number * 1_000 if time_us is None else time_us
    return Trade(id=str(number), price=price, amount=amount, side=side, time_us=when)


def batch(
    *trades: TextTrade, symbol: str = SYMBOL, source: Source = "ws", feed: str = "t0", n: int = 1
) -> TradeBatch[str]:
    """Return a trade batch."""
    return TradeBatch(
        v=1,
        exchange=EXCHANGE,
        symbol=symbol,
        feed=feed,
        n=n,
        source=source,
        received_us=START_US,
        prev_id=None,
        trades=list(trades),
    )


class Feed:
    """Publishes batches, each with a number of its own."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.n = 0

    async def send(self, *trades: TextTrade, symbol: str = SYMBOL, source: Source = "ws") -> int:
        """Publish a batch and return its sequence."""
        self.n += 1
        message = batch(*trades, symbol=symbol, source=source, n=self.n)
        return await self.send_raw(codec.encode(message), symbol=symbol)

    async def send_raw(self, payload: bytes, *, symbol: str = SYMBOL) -> int:
        """Publish any bytes where batches are, and return their sequence."""
        self.n += 1
        acknowledged = await self._publisher.publish(
            subjects.raw(EXCHANGE, symbol), payload, f"t.{symbol}.{self.n}"
        )
        return acknowledged.sequence

    async def publish(self, subject: str, payload: bytes) -> int:
        """Publish anything and return its sequence."""
        self.n += 1
        acknowledged = await self._publisher.publish(subject, payload, f"t.{self.n}")
        return acknowledged.sequence


async def until(condition: Callable[[], Any], *, wait_s: float = WAIT_S) -> None:
    """Wait until ``condition``, which may be a coroutine function, holds."""
    with anyio.fail_after(wait_s):
        while True:
            found = condition()
            if hasattr(found, "__await__"):
                found = await found
            if found:
                return
            await anyio.sleep(0.02)


async def acknowledged(bus: Bus, stream: str, sequence: int, *, wait_s: float = WAIT_S) -> None:
    """Wait until the savers' ack floor has reached a sequence."""

    async def is_past() -> bool:
        state = await bus.consumer_state(stream, subjects.SAVE_DURABLE)
        return state is not None and state.ack_floor >= sequence

    await until(is_past, wait_s=wait_s)


async def rows(database: Database, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds."""
    return [tuple(each.values()) for each in await database.fetch(sql, *args)]


@contextlib.asynccontextmanager
async def saving(
    bus: Bus, database: Database, *, limits: SaveLimits = LIMITS, stop_grace_s: float = 8.0
) -> AsyncIterator[BatchSaver]:
    """Run a saver for the length of the block, then stop it in order."""
    saver = BatchSaver(bus, database, limits=limits, stop_grace_s=stop_grace_s)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(saver.run())
        try:
            yield saver
        finally:
            saver.stop()
            await asyncio.wait([task])


def mark() -> bytes:
    position = FeedPosition(n=1, id="1")
    return codec.encode(
        Mark(
            v=1,
            exchange=EXCHANGE,
            feed="t0",
            received_us=START_US,
            symbols={SYMBOL: position},
            end=False,
        )
    )
