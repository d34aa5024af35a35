"""Follows the bus to know what the database does not know yet. SHELL."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog

from market_ingestor import metrics
from market_ingestor.api.tail import (
    FEED_BREAK_US,
    Feeds,
    Key,
    KlineTail,
    LatestPrices,
    LatestStats,
    OpenKlines,
    TradeTail,
    is_behind,
)
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import state_of
from market_ingestor.bus.jetstream import TROUBLE, Bus, StreamState
from market_ingestor.bus.listings import follow_listings
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.errors import DecodeError
from market_ingestor.model.kline import Kline
from market_ingestor.model.listing import ListingBook
from market_ingestor.model.stats import Stats
from market_ingestor.model.trade import Source

_log = structlog.get_logger(__name__)

WARM_TRADES: Final = timedelta(minutes=1)  # of trades read at the start; older ones on demand
TRADES_AGE: Final = timedelta(minutes=10)  # the most read at the start when the saver is behind
TAIL_AGE: Final = timedelta(hours=2)  # of candles read at the start when no saver is known
POLL_S: Final = 1.0
SAVED_S: Final = 1.0  # between two looks at how far trades are saved
CHECK_S: Final = 5.0  # between two looks at the saver's progress and at the streams' identity
SAVED_GRACE_S: Final = 20.0  # longer than a request that asked the table before the commit
LOG_EVERY_S: Final = 60.0  # between two lines about messages that cannot be read


class _Traded(msgspec.Struct, frozen=True, gc=False):
    id: str
    price: str
    time_us: int


class _Batch(msgspec.Struct, frozen=True, gc=False):
    """As much of a trade batch as prices need; a third of the work of decoding all."""

    n: int
    source: Source
    trades: list[_Traded]
    prev_id: str | None = None


_batch: Final = msgspec.json.Decoder(_Batch)


class Memory:
    """What the API learns from the bus.

    Args:
        tail_bytes: Limit of the candles kept until the database has them.
        trade_bytes: Limit of the trades kept until then.

    Attributes:
        trades: Trades the database may lack.
        tail: Closed candles the database may lack.
        open: Open candles.
        prices: Newest trade of every instrument.
        stats: Newest rolling statistics of every instrument.
        feeds: Which instruments a living feed carries.
        listings: What the venues list of the instruments carried.
        unnumbered: Instruments whose feeds name no neighbours: their ids prove nothing.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        tail_bytes: int,
        trade_bytes: int,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._bus = bus
        self._now_us = now_us
        self.trades = TradeTail(trade_bytes)
        self.tail = KlineTail(tail_bytes)
        self.open = OpenKlines()
        self.prices = LatestPrices()
        self.stats = LatestStats()
        self.feeds = Feeds()
        self.listings = ListingBook()
        self.unnumbered: set[tuple[str, str]] = set()
        self._warm_klines = asyncio.Event()
        self._warm_trades = asyncio.Event()
        self._asked: set[tuple[str, str]] = set()
        self._logged_at = -LOG_EVERY_S

    @property
    def is_warm(self) -> bool:
        """Return whether answers from memory can be relied on."""
        return self._warm_klines.is_set() and self._warm_trades.is_set()

    async def warm(self) -> None:
        """Return when answers from memory can be relied on."""
        await self._warm_klines.wait()
        await self._warm_trades.wait()

    def is_heard(self, exchange: str, symbol: str) -> bool:
        """Return whether a feed of an instrument was heard just now."""
        return self.feeds.state(exchange, symbol, self._now_us(), FEED_BREAK_US) == "up"

    def open_klines(self, key: Key, from_ms: int, to_ms: int) -> list[Kline]:
        """Return the open candles of a key that open in ``[from_ms, to_ms)``.

        The newest state may be an old one: it is complete only while the feed is heard and the
        candle has what was read of it moments ago.
        """
        exchange, symbol, _ = key
        is_heard = self.is_heard(exchange, symbol)
        settled = self.prices.settled(exchange, symbol)
        return [
            each
            if is_heard and not is_behind(each, settled)
            else msgspec.structs.replace(each, complete=False)
            for each in self.open.klines(key, from_ms, to_ms)
        ]

    async def run(self) -> None:
        """Follow the bus until cancelled."""
        await self._bus.subscribe_core(subjects.LIVE_ALL, self._on_live)
        await self._bus.subscribe_core(subjects.STATS_ALL, self._on_stats)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_klines())
            tasks.create_task(self._follow_trades())
            tasks.create_task(follow_listings(self._bus, self.listings.put))

    async def _since(self, stream: str, age: timedelta, state: StreamState) -> int:
        try:
            return await self._bus.sequence_since(stream, datetime.now(UTC) - age)
        except TROUBLE:
            return state.last_sequence + 1

    # -- closed candles

    async def _follow_klines(self) -> None:
        while True:
            state = await state_of(self._bus, subjects.KLINE_STREAM)
            self.tail.clear()
            start = await self._saved_through(subjects.KLINE_STREAM)
            if start is None:
                start = await self._since(subjects.KLINE_STREAM, TAIL_AGE, state) - 1
            async with OrderedReader(
                self._bus, subjects.KLINE_STREAM, start_sequence=start + 1
            ) as reader:
                await self._read_klines(reader, state)

    async def _read_klines(self, reader: OrderedReader, state: StreamState) -> None:
        """Read until the stream is another one."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_S
        floors: deque[tuple[float, int]] = deque()
        while True:
            if reader.next_sequence > state.last_sequence:
                self._warm_klines.set()
            for arrived in await reader.next(POLL_S):
                self._on_kline(arrived)
            now = loop.time()
            if now < check_at:
                continue
            check_at = now + CHECK_S
            floor = await self._saved_through(subjects.KLINE_STREAM)
            if floor is not None:
                floors.append((now, floor))
            while floors and now - floors[0][0] >= SAVED_GRACE_S:
                self.tail.saved_through(floors.popleft()[1])
            read = reader.next_sequence - 1  # before asking: messages arrive while we wait
            current = await state_of(self._bus, subjects.KLINE_STREAM)
            if current.created != state.created or current.last_sequence < read:
                _log.warning("stream_made_anew", stream=state.name)
                return

    async def _saved_through(self, stream: str) -> int | None:
        """Return the sequence up to which a stream is in the tables, None when nobody saves."""
        try:
            saver = await self._bus.consumer_state(stream, subjects.SAVE_DURABLE)
        except TROUBLE:
            return None
        return None if saver is None else saver.ack_floor

    def _on_kline(self, arrived: Delivery) -> None:
        try:
            kline = codec.candle(arrived.subject, arrived.payload)
        except DecodeError as problem:
            self._reject(problem)
            return
        self.tail.add(kline, arrived.payload, arrived.sequence)
        self.open.close(kline)

    def _on_live(self, subject: str, payload: bytes) -> None:
        try:
            self.open.put(codec.candle(subject, payload))
        except DecodeError as problem:
            self._reject(problem)

    def _on_stats(self, subject: str, payload: bytes) -> None:
        try:
            self.stats.put(_checked_stats(subject, payload))
        except DecodeError as problem:
            self._reject(problem)

    # -- trades

    async def _follow_trades(self) -> None:
        while True:
            state = await state_of(self._bus, subjects.RAW_STREAM)
            start = await self._since(subjects.RAW_STREAM, WARM_TRADES, state)
            saved = await self._saved_through(subjects.RAW_STREAM)
            if saved is not None and saved < start:
                oldest = await self._since(subjects.RAW_STREAM, TRADES_AGE, state)
                start = min(start, max(saved + 1, oldest))
            self.trades.begin(start)
            self.trades.saved_through(saved or 0)
            async with OrderedReader(
                self._bus, subjects.RAW_STREAM, start_sequence=start
            ) as reader:
                await self._read_trades(reader, state)

    async def _read_trades(self, reader: OrderedReader, state: StreamState) -> None:
        """Read until the stream is another one."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_S
        saved_at = loop.time() + SAVED_S
        while True:
            if reader.next_sequence > state.last_sequence:
                self._warm_trades.set()
            for arrived in await reader.next(POLL_S):
                self._on_raw(arrived.subject, arrived.payload, arrived.sequence)
            now = loop.time()
            if now >= saved_at:
                saved_at = now + SAVED_S
                self.prices.age()
                self.trades.saved_through(await self._saved_through(subjects.RAW_STREAM) or 0)
            if now >= check_at:
                check_at = now + CHECK_S
                current = await state_of(self._bus, subjects.RAW_STREAM)
                if current.created != state.created:
                    _log.warning("stream_made_anew", stream=state.name)
                    return

    def _on_raw(self, subject: str, payload: bytes, sequence: int | None = None) -> None:
        """Take a message of the raw stream; one without ``sequence`` was asked for again."""
        try:
            address = subjects.parse_raw(subject)
            if address.symbol is None:
                mark = codec.mark(subject, payload)
                if not mark.end:
                    self.feeds.mark(mark.exchange, mark.symbols, mark.received_us)
                return
            subjects.names(subject)  # or it is a DecodeError
            batch = _batch.decode(payload)
            if batch.source == "ws" and batch.n > 1:  # the first one of a feed follows nothing
                instrument = (address.exchange, address.symbol)
                change = self.unnumbered.add if batch.prev_id is None else self.unnumbered.discard
                change(instrument)
            for each in batch.trades:
                self.prices.put(address.exchange, address.symbol, each.time_us, each.id, each.price)
            if sequence is not None:
                self.trades.add(address.exchange, address.symbol, payload, sequence)
        except DecodeError as problem:
            self._reject(problem)
        except msgspec.MsgspecError as problem:
            self._reject(DecodeError(subject, str(problem)))

    async def recall(self, exchange: str, symbol: str) -> None:
        """Look for an instrument's newest trades in the stream, once, however old they are.

        The newest message may be a refill: whoever calls asks the database as well.
        """
        if (exchange, symbol) in self._asked:
            return
        subject = subjects.raw(exchange, symbol)
        try:
            stored = await self._bus.last_message(subjects.RAW_STREAM, subject)
        except TROUBLE:
            return
        self._asked.add((exchange, symbol))
        if stored is not None:
            self._on_raw(stored.subject, stored.payload)

    def _reject(self, problem: DecodeError) -> None:
        """Count a message nobody can use; the line about it is limited in rate."""
        metrics.dead_letters_total.labels(role="api", reason="decode").inc()
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY_S:
            self._logged_at = now
            _log.warning("message_rejected", subject=problem.subject, reason=problem.reason)


def _checked_stats(subject: str, payload: bytes) -> Stats:
    """Return statistics that are what their subject says."""
    stats = codec.stats(subject, payload)
    if (stats.exchange, stats.symbol) != subjects.instrument_of(subject):
        raise DecodeError(subject, "the statistics belong to another subject")
    return stats
