"""What the stream already holds of an instrument's ids, read back at the start. SHELL.

The lowest unproven id counts, not the last published one: a killed process leaves holes below the
newest message, and a refill may be the newest message. But below all that came live in these
minutes nothing is known to be missing, only what refills brought to be there: holes of earlier
times are those that events tell of (`gap_news`).
"""

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec
import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.errors import DecodeError
from market_ingestor.model.decimals import is_fit
from market_ingestor.model.intervals import IdIntervals
from market_ingestor.model.trade import TRADE_ID_MAX, TextTrade, TradeBatch

_log = structlog.get_logger(__name__)

# Before the newest message, however old that is: holes above what was settled by then lie there.
RESUME_SCAN: Final = timedelta(minutes=10)
# Newest first: what was lost just now is asked for before a short history has forgotten it, and
# what there is no time to read is unknown, not missing.
STAGES: Final = (timedelta(seconds=20), timedelta(minutes=2), RESUME_SCAN)
KNOWN_S_MAX: Final = 10.0  # for the database's answer; it may be away
WAIT_S: Final = 1.0  # for the next messages of the scan
QUESTIONS_AT_ONCE: Final = 64  # where the stream of an instrument ends
SCAN_S_MAX: Final = 60.0  # for one stretch of the stream; what was read by then counts


class KnownTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The newest trade of an instrument that was ever saved."""

    id: int
    time_us: int


class KnownIds(Protocol):
    """What was saved long ago, for instruments of which the stream holds nothing any more."""

    async def __call__(self, exchange: str, symbol: str) -> KnownTrade | None:
        """Return the trade with the highest id that was saved, None when there is none."""


async def ask_known(known_ids: KnownIds, exchange: str, symbol: str) -> KnownTrade | None:
    """Return what is known, None also when nobody answers: then what is lost stays unseen."""
    try:
        async with asyncio.timeout(KNOWN_S_MAX):
            return await known_ids(exchange, symbol)
    except Exception as problem:  # noqa: BLE001 - a start must not depend on the database
        _log.warning("known_ids_not_told", exchange=exchange, symbol=symbol, error=repr(problem))
        return None


class StoredIds:
    """The ids of an instrument that the stream holds or proves absent. Pure.

    Attributes:
        intervals: The ids.
        begin: The lowest id that came live in what was read without a break, None when none did.
            Below it lies what refills brought again of earlier times, and between that, what
            nobody has read.
    """

    def __init__(self) -> None:
        self.intervals = IdIntervals()
        self.begin: int | None = None
        self._lowest_live: int | None = None
        self._edges: dict[int, int] = {}
        self._sorted: list[int] | None = None

    def take(self, batch: TradeBatch[str]) -> None:
        """Add a batch; in a refill's, ids between neighbours do not exist at the venue.

        A batch that readers refuse proves nothing: its ids, made up far ahead, would hide every
        hole below them.
        """
        if not all(_is_sound(trade) for trade in batch.trades):
            return
        ids = [int(trade.id) for trade in batch.trades]
        for trade in (batch.trades[0], batch.trades[-1]):
            self._edges[int(trade.id)] = trade.time_us
        self._sorted = None
        if batch.source == "rest":
            first = int(batch.prev_id) if batch.prev_id is not None else ids[0]
            self.intervals.add_range(min(first, ids[0]), ids[-1])
            return
        for trade_id in ids:
            self.intervals.add(trade_id)
        lowest = min(ids)
        if self._lowest_live is None or lowest < self._lowest_live:
            self._lowest_live = lowest

    def join(self) -> None:
        """Note that what was taken lies, without a break, before what was taken earlier."""
        self.begin = self._lowest_live

    def time_us(self, trade_id: int) -> int:
        """Return the trade time of this id, or of the nearest batch edge not above it."""
        if trade_id in self._edges:
            return self._edges[trade_id]
        if self._sorted is None:
            self._sorted = sorted(self._edges)
        at = max(bisect_left(self._sorted, trade_id) - 1, 0)
        return self._edges[self._sorted[at]]

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was found."""
        return not self._edges


def _is_sound(trade: TextTrade) -> bool:
    """Return whether a trade on the bus is one that readers accept."""
    if not (trade.id.isascii() and trade.id.isdigit() and int(trade.id) <= TRADE_ID_MAX):
        return False
    return is_fit(trade.price) and is_fit(trade.amount)


class Span(msgspec.Struct, kw_only=True):
    """A stretch of the stream to be read once for several instruments.

    Attributes:
        since: Where it begins, by the time of storing.
        until: When the newest message in it was received.
        last: The sequence it ends with.
        since_us: For each symbol, where its own ten minutes begin, UTC microseconds.
    """

    since: datetime
    until: datetime
    last: int
    since_us: dict[str, int]


def spans(newest: Mapping[str, tuple[datetime, int]]) -> list[Span]:
    """Return the stretches that hold the ten minutes before each instrument's newest message.

    Those that overlap are one: each message is then read once, however many instruments there
    are, and the server walks through the stream once for all of them. Pure.

    Args:
        newest: By symbol, when its newest message was received, and its sequence.
    """
    found: list[Span] = []
    for symbol, (received, sequence) in sorted(newest.items(), key=lambda each: each[1][0]):
        since = received - RESUME_SCAN
        if not found or since > found[-1].until:
            found.append(Span(since=since, until=received, last=0, since_us={}))
        span = found[-1]
        span.until = received
        span.last = max(span.last, sequence)
        span.since_us[symbol] = int(since.timestamp() * 1e6)
    return found


async def read_back(
    bus: Bus, exchange: str, symbols: Iterable[str]
) -> AsyncIterator[dict[str, StoredIds]]:
    """Read the ids of the ten minutes before the newest message of each instrument's subject.

    Gives what is known so far after each stage, the newest first; the same objects, at least once.

    Never raises for what the bus does: what could be read counts, and a hole that is not seen
    here is still seen by whoever reads the stream.
    """
    stored = {symbol: StoredIds() for symbol in symbols}
    try:
        newest = await _newest(bus, exchange, stored)
    except Exception as problem:  # noqa: BLE001 - as said above; the bus has many ways to fail
        _log.warning("read_back_cut_short", exchange=exchange, error=repr(problem))
        newest = {}
    for span in spans(newest):
        try:
            async with asyncio.timeout(SCAN_S_MAX):
                async for _ in _scan(bus, exchange, span, stored):
                    yield stored
        except Exception as problem:  # noqa: BLE001 - as above
            _log.warning(
                "read_back_cut_short",
                exchange=exchange,
                symbols=sorted(span.since_us)[:10],
                error=repr(problem),
            )
    yield stored


async def _newest(
    bus: Bus, exchange: str, symbols: Iterable[str]
) -> dict[str, tuple[datetime, int]]:
    """Return when the newest message of each instrument was received, and its sequence."""
    newest: dict[str, tuple[datetime, int]] = {}
    asked = list(symbols)
    for begin in range(0, len(asked), QUESTIONS_AT_ONCE):
        some = asked[begin : begin + QUESTIONS_AT_ONCE]
        answers = await asyncio.gather(
            *(bus.last_message(subjects.RAW_STREAM, subjects.raw(exchange, each)) for each in some)
        )
        for symbol, last in zip(some, answers, strict=True):
            if last is not None:
                newest[symbol] = (_received_at(last.subject, last.payload), last.sequence)
    return newest


async def _scan(
    bus: Bus, exchange: str, span: Span, stored: Mapping[str, StoredIds]
) -> AsyncIterator[None]:
    """Read a span once, in stages, and give each message to its instrument."""
    symbols = list(span.since_us)
    subject = subjects.raw(exchange, symbols[0]) if len(symbols) == 1 else subjects.raw_of(exchange)
    end = span.last + 1
    for age in STAGES:
        since = span.since if age >= RESUME_SCAN else max(span.until - age, span.since)
        start = await bus.sequence_since(subjects.RAW_STREAM, since, filter_subject=subject)
        async with contextlib.aclosing(
            read_through(bus, subjects.RAW_STREAM, subject, start, span.last)
        ) as deliveries:
            async for delivery in deliveries:
                if delivery.sequence >= end:
                    break  # an earlier stage has read from here on
                _take(delivery, span, stored)
        end = min(end, start)
        for symbol in symbols:
            stored[symbol].join()
        yield
        if since == span.since:
            return


def _take(delivery: Delivery, span: Span, stored: Mapping[str, StoredIds]) -> None:
    symbol = delivery.subject.rpartition(".")[2]
    since_us = span.since_us.get(symbol)
    if since_us is None or delivery.stored_us < since_us:
        return  # a mark, an instrument nobody asked for, or before its ten minutes
    with contextlib.suppress(DecodeError, ValueError):  # the saver sends it to the dead letters
        stored[symbol].take(codec.text_batch(delivery.subject, delivery.payload))


def _received_at(subject: str, payload: bytes) -> datetime:
    """Return when a batch was received, not after now; now if it cannot be read."""
    now = datetime.now(UTC)
    try:
        received_us = codec.text_batch(subject, payload).received_us
        return min(now, datetime.fromtimestamp(received_us / 1e6, UTC))
    except (DecodeError, ValueError, OverflowError, OSError):
        return now


async def read_through(
    bus: Bus, stream: str, subject: str, start: int, last: int
) -> AsyncGenerator[Delivery, None]:
    """Yield the messages of a subject from one sequence on, through one that is among them."""
    if start > last:
        return
    async with OrderedReader(bus, stream, start_sequence=start, filter_subject=subject) as reader:
        read = start - 1
        while read < last:
            for delivery in await reader.next(WAIT_S):
                read = delivery.sequence
                yield delivery
