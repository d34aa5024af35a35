"""What the tests of the klines role share: a feed, a running processor and what it published."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.config import KlinesSettings
from market_ingestor.klines.processor import KlineProcessor
from market_ingestor.klines.resume import key_of
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.partition import slot
from market_ingestor.model.trade import FeedPosition, Mark, Side, Source, Trade, TradeBatch
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

LIMITS = streams.StreamLimits(max_age_s=86_400, max_bytes=64 * 1024**2, duplicate_window_s=30)
T0 = 1_763_676_000_000  # a full hour, Unix milliseconds
MINUTE = 60_000
SLOT = slot("binance", "BTCUSDT")
SETTINGS = KlinesSettings(periods=("1m", "5m"), lateness_s=2, hold_max_s=10, live_interval_ms=10)


@asynccontextmanager
async def connected(server: NatsHandle, name: str = "test") -> AsyncIterator[Bus]:
    bus = await Bus.connect([server.url], name=name)
    configs = streams.market_streams(
        raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
    )
    await ensure_streams(bus, configs, update=True)
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def publishing(bus: Bus) -> AsyncIterator[Publisher]:
    publisher = Publisher(bus)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Feed:
    """One connection of ingest, for one symbol. Times are milliseconds after `T0`."""

    def __init__(
        self,
        publisher: Publisher,
        name: str = "f1",
        *,
        symbol: str = "BTCUSDT",
        exchange: str = "binance",
        source: Source = "ws",
        lag_ms: int = 100,
    ) -> None:
        self._publisher = publisher
        self.name = name
        self.exchange = exchange
        self.symbol = symbol
        self.source = source
        self.lag_ms = lag_ms
        self.n = 0
        self.last_id: str | None = None

    async def trades(
        self,
        *rows: tuple[int, int] | tuple[int, int, str] | tuple[int, int, str, str],
        received: int | None = None,
        prev_id: str | None = None,
    ) -> int:
        """Publish one batch of (id, time[, price[, amount]]); return its sequence."""
        self.n += 1
        trades = [
            Trade[str](
                id=str(row[0]),
                price=row[2] if len(row) > 2 else "100",
                amount=row[3] if len(row) > 3 else "1",
                side=_side(row[0]),
                time_us=(T0 + row[1]) * 1_000,
            )
            for row in rows
        ]
        at = rows[-1][1] + self.lag_ms if received is None else received
        batch = TradeBatch[str](
            v=1,
            exchange=self.exchange,
            symbol=self.symbol,
            feed=self.name,
            n=self.n,
            source=self.source,
            received_us=(T0 + at) * 1_000,
            prev_id=self.last_id if prev_id is None else prev_id,
            trades=trades,
        )
        self.last_id = trades[-1].id
        ack = await self._publisher.publish(
            subjects.raw(self.exchange, self.symbol),
            codec.encode(batch),
            subjects.batch_id(self.name, self.symbol, self.n),
        )
        return ack.sequence

    async def mark(self, at: int, *, end: bool = False) -> int:
        """Publish a mark of this instant; return its sequence."""
        mark = Mark(
            v=1,
            exchange=self.exchange,
            feed=self.name,
            received_us=(T0 + at) * 1_000,
            symbols={self.symbol: FeedPosition(n=self.n, id=self.last_id)},
            end=end,
        )
        ack = await self._publisher.publish(
            subjects.mark(self.exchange),
            codec.encode(mark),
            subjects.mark_id(self.name, mark.received_us),
        )
        return ack.sequence


def _side(number: int) -> Side:
    return "buy" if number % 2 else "sell"


@asynccontextmanager
async def processing(
    bus: Bus, store: MemoryStore, settings: KlinesSettings = SETTINGS
) -> AsyncIterator[KlineProcessor]:
    """Run a processor until the block ends; cancelled there as a killed process is."""
    processor = KlineProcessor(bus, store, settings)
    task = asyncio.create_task(processor.run())
    try:
        await until(lambda: processor.health().is_ready or task.done())
        yield processor
    finally:
        if not task.done():
            task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


class Setting:
    """A bus, a feed of BTCUSDT and a store that is kept current."""

    def __init__(self, bus: Bus, publisher: Publisher, store: MemoryStore) -> None:
        self.bus = bus
        self.publisher = publisher
        self.store = store
        self.feed = Feed(publisher)

    async def begin(self) -> None:
        """Publish a minute cut by the start and the first trade of minute 1."""
        await self.feed.trades((1, 1_000, "10"))
        await self.feed.trades((2, MINUTE + 1_000, "11"))

    async def give_up(self, after_id: int, before_id: int, at: int) -> None:
        """Say that the trade between two ids cannot be had, ``at`` milliseconds after `T0`."""
        event = MarketEvent(
            v=1,
            exchange="binance",
            symbol="BTCUSDT",
            type="gap_unfillable",
            time_us=T0 * 1_000,
            after_id=str(after_id),
            before_id=str(before_id),
            missing=1,
            from_time=T0 + at,
            to_time=T0 + at,
            detail="",
        )
        await self.publisher.publish(
            subjects.event("binance", "BTCUSDT"), codec.encode(event), f"lost.{after_id}"
        )

    async def record(self) -> bytes | None:
        return await (await self.bus.bucket(subjects.STATE_BUCKET)).get(key_of(SLOT))

    async def is_recorded(self) -> bool:
        return await self.record() is not None

    async def settled(self, *processors: KlineProcessor) -> None:
        """Wait until processors have read everything and have nothing left to correct."""

        async def is_settled() -> bool:
            raw = await self.bus.stream_state(subjects.RAW_STREAM)
            kline = await self.bus.stream_state(subjects.KLINE_STREAM)
            saved = await self.bus.consumer_state(subjects.KLINE_STREAM, subjects.SAVE_DURABLE)
            return (
                saved is not None
                and saved.ack_floor == kline.last_sequence
                and all(
                    each.health().details["position"] > raw.last_sequence
                    and each.health().details["publications"] == 0
                    and not any(len(one.closed.dirty) for one in each.intake.aggregators.values())
                    for each in processors
                )
            )

        await until_async(is_settled)


@asynccontextmanager
async def made(server: NatsHandle) -> AsyncIterator[Setting]:
    store = MemoryStore()
    async with connected(server) as bus, publishing(bus) as publisher, saving(bus, store):
        yield Setting(bus, publisher, store)


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until a condition holds."""

    async def holds() -> bool:
        await asyncio.sleep(0)
        return condition()

    await until_async(holds, timeout_s)


async def until_async(condition: Callable[[], Awaitable[bool]], timeout_s: float = 20) -> None:
    """Wait until an awaited condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - the condition is in another program
            await asyncio.sleep(0.02)


async def versions(bus: Bus, period: str = "1m", symbol: str = "BTCUSDT") -> list[Kline]:
    """Return every version published so far, in the order of the stream."""
    state = await bus.stream_state(subjects.KLINE_STREAM)
    found: list[Kline] = []
    if not state.messages:
        return found
    async with OrderedReader(bus, subjects.KLINE_STREAM, start_sequence=1) as reader:
        while reader.next_sequence <= state.last_sequence:
            arrived = await reader.next(5)
            assert arrived
            found += [codec.kline(each.subject, each.payload) for each in arrived]
    return [each for each in found if each.period == period and each.symbol == symbol]


async def wait_versions(bus: Bus, count: int, period: str = "1m") -> list[Kline]:
    """Return the versions as soon as there are at least ``count``."""
    found: list[Kline] = []

    async def enough() -> bool:
        found[:] = await versions(bus, period)
        return len(found) >= count

    try:
        await until_async(enough)
    except TimeoutError:
        raise AssertionError(f"{len(found)} of {count} versions: {brief(found)}") from None
    return found


def brief(klines: Iterable[Kline]) -> list[tuple[int, int, str, bool, int]]:
    """Return window (minutes after `T0`), revision, reason, complete and trade count of each."""
    return [
        (
            (each.open_time - T0) // MINUTE,
            each.revision,
            each.reason,
            each.complete,
            each.trade_count,
        )
        for each in klines
    ]
