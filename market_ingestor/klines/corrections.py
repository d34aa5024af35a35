"""Recomputes dirty windows from what is stored, once everything read is stored. SHELL.

Minutes come from trades, behind the savers' ack floor on MARKET_RAW; longer windows from
minutes, behind their ack floor on MARKET_KLINE. While the database is away they wait.
"""

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Final

import structlog

from market_ingestor import metrics
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.errors import DecodeError, StoreUnavailableError
from market_ingestor.klines import columns as trade_columns
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.asking import ask
from market_ingestor.klines.candle import fold_of
from market_ingestor.klines.chains import Chains
from market_ingestor.klines.dirty import Dirty, WindowKey
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.publication import Publication, next_version
from market_ingestor.klines.recall import recall
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, DAY_MS, MINUTE_MS, PERIOD_MS

_log = structlog.get_logger(__name__)

POLL_S: Final = 0.2  # savers commit about once a second
INTERVAL_S: Final = 1.0  # at most one correction of a window in this time
QUERIES_MAX: Final = 4  # at the same time; corrections must not crowd out the savers
QUERY_TIMEOUT_S: Final = 30.0
AWAY_S: Final = 1.0  # before a database that did not answer is asked again
TAKEN_MAX: Final = 256  # corrections under way
FLAT_BACK_MS: Final = 8 * DAY_MS  # how far back a flat candle looks for a price


class Floors:
    """How far the savers have come, as last asked."""

    __slots__ = ("kline", "raw")

    def __init__(self) -> None:
        self.raw = -1
        self.kline = -1


class _NotYetError(Exception):
    """The savers have not come far enough."""


class Corrections:
    """The task that turns dirty windows clean.

    Attributes:
        waiting: Dirty windows at the last look.
        is_store_away: The database did not answer the last question.
        corrected: Versions published so far.
        vanished: Windows with a version but without a stored trade.
    """

    def __init__(
        self,
        bus: Bus,
        store: CandleStore,
        chains: Chains,
        publication: Publication,
        tail: Tail,
        aggregators: Mapping[tuple[str, str], Aggregator],
    ) -> None:
        self._bus = bus
        self._store = store
        self._chains = chains
        self._publication = publication
        self._tail = tail
        self._aggregators = aggregators
        self._queries = asyncio.Semaphore(QUERIES_MAX)
        self._floors = Floors()
        self._published_at: dict[tuple[str, str, str, int], float] = {}
        self._taken = 0
        self._away_until = 0.0
        self.waiting = 0
        self.is_store_away = False
        self.corrected = 0
        self.vanished = 0

    async def run(self) -> None:
        """Look for ready windows until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await ask(asyncio.sleep(POLL_S))
            everything = self._aggregators.values()
            dirty = [each for each in everything if len(each.closed.dirty)]
            unsure = [each for each in everything if each.completeness.forgotten is not None]
            self.waiting = sum(len(each.closed.dirty) for each in dirty)
            metrics.klines_dirty.set(self.waiting)
            is_idle = not dirty and not unsure
            if is_idle or loop.time() < self._away_until or not await self._ask_floors():
                continue
            self._forget(loop.time())
            for aggregator in dirty:
                self._take_ready(aggregator, loop.time())
                await self._search(aggregator)
            for aggregator in unsure:
                await self._recall(aggregator)

    async def _recall(self, aggregator: Aggregator) -> None:
        try:
            async with self._queries:
                await recall(aggregator, self._store, self._floors.raw)
        except (StoreUnavailableError, TimeoutError) as problem:
            self._note_away(problem, asyncio.get_running_loop().time())

    async def _ask_floors(self) -> bool:
        try:
            raw = await ask(self._bus.consumer_state(subjects.RAW_STREAM, subjects.SAVE_DURABLE))
            kline = await ask(
                self._bus.consumer_state(subjects.KLINE_STREAM, subjects.SAVE_DURABLE)
            )
        except TROUBLE:
            return False
        self._floors.raw = -1 if raw is None else raw.ack_floor
        self._floors.kline = -1 if kline is None else kline.ack_floor
        return True

    def _forget(self, now: float) -> None:
        old = [key for key, at in self._published_at.items() if now - at > INTERVAL_S]
        for key in old:
            del self._published_at[key]

    def _take_ready(self, aggregator: Aggregator, now: float) -> None:
        for key, dirty in list(aggregator.closed.dirty.windows.items()):
            if self._taken >= TAKEN_MAX:
                return
            if dirty.is_taken or dirty.due_at > now or not self._is_ready(aggregator, key, dirty):
                continue
            published_at = self._published_at.get((aggregator.exchange, aggregator.symbol, *key))
            if published_at is not None:
                dirty.due_at = published_at + INTERVAL_S
                continue
            dirty.is_taken = True
            self._taken += 1
            subject = self._publication.subject(aggregator, key[0])
            self._chains.submit(subject, partial(self._correct, aggregator, key, dirty))

    def _is_ready(self, aggregator: Aggregator, key: WindowKey, dirty: Dirty) -> bool:
        return aggregator.closed.is_ready(
            key, dirty, self._floors.raw, has_minutes=self._has_minutes(aggregator)
        )

    def _has_minutes(self, aggregator: Aggregator) -> bool:
        """Return whether every version of a minute published so far is stored."""
        minutes = self._publication.subject(aggregator, BASE_PERIOD)
        return self._floors.kline >= (self._tail.versions.last_sequence(minutes) or 0)

    async def _correct(self, aggregator: Aggregator, key: WindowKey, dirty: Dirty) -> None:
        period, opened = key
        now = asyncio.get_running_loop().time
        sequence = dirty.sequence
        known: list[Version | None] = []
        folds: list[Fold] = []
        rules = aggregator.rules

        async def compute(found: Version | None) -> Kline | None:
            known[:] = [found]
            fold = await self._fold(aggregator, key, sequence)
            if fold is None and found is not None:
                content = await self._content(found)
                fold = emptied(content)
                if content is None or content.trade_count:
                    self._note_vanished(aggregator, period, opened)
            if fold is None or (found is None and not fold.count and not rules.fill_empty):
                return None
            folds[:] = [fold]
            return next_version(
                aggregator,
                period,
                opened,
                fold,
                found,
                evidence=aggregator.closed.judge(period, opened),
                reason=dirty.reason,
            )

        try:
            published = await self._publication.settle(
                aggregator, period, opened, compute, partial(self._stored_version, aggregator, key)
            )
            if published is not None:
                self.corrected += 1
                self._published_at[aggregator.exchange, aggregator.symbol, *key] = now()
            if period == BASE_PERIOD:
                await self._carry_over(aggregator, opened, published, known[0] if known else None)
                # Also when another processor published it: it may not live to correct these.
                aggregator.closed.soil_longer(opened, dirty.reason, sequence)
                if folds and rules.fill_empty:
                    await self._carry_price(aggregator, opened, folds[0].close, sequence)
        except _NotYetError:
            aggregator.closed.dirty.postpone(period, opened, now() + POLL_S)
            return
        except (StoreUnavailableError, TimeoutError) as problem:
            self._note_away(problem, now())
            aggregator.closed.dirty.postpone(period, opened, now() + AWAY_S)
            return
        finally:
            self._taken -= 1
        self.is_store_away = False
        # Last: a record may be written at any moment.
        aggregator.closed.dirty.settle(period, opened, sequence, now())

    def _note_vanished(self, aggregator: Aggregator, period: str, opened: int) -> None:
        self.vanished += 1
        _log.warning(
            "candle_without_trades",
            exchange=aggregator.exchange,
            symbol=aggregator.symbol,
            period=period,
            open_time=opened,
        )

    def _note_away(self, problem: Exception, now: float) -> None:
        self._away_until = now + AWAY_S
        if not self.is_store_away:
            self.is_store_away = True
            _log.warning("corrections_wait", error=str(problem))

    async def _carry_over(
        self, aggregator: Aggregator, opened: int, published: Kline | None, known: Version | None
    ) -> None:
        """Bring a new version of a minute into the longer windows that are open."""
        if published is None:
            return
        before = await self._content(known)
        if known is None or before is not None:
            old = None if before is None else fold_of(before)
            aggregator.correct(opened, old, fold_of(published))
        else:
            aggregator.longer.doubt(opened)

    async def _carry_price(
        self, aggregator: Aggregator, opened: int, price: Decimal, sequence: int
    ) -> None:
        """Bring a minute's close into the flat candles behind it, whoever published it.

        Asked anew each time, not only of a new version: whoever made that may not have lived to
        correct what follows. A minute that waits behind it will ask by itself.
        """
        closed = aggregator.closed
        if closed.awaits_next(opened):
            return
        if closed.is_publishing_behind(opened) or not self._has_minutes(aggregator):
            raise _NotYetError
        through = closed.through or 0
        begin, end = opened + MINUTE_MS, min(through, opened + FLAT_BACK_MS)
        async with self._queries, asyncio.timeout(QUERY_TIMEOUT_S):
            unlike = await self._store.unlike(
                aggregator.exchange, aggregator.symbol, begin, end, price
            )
        if closed.through != through:
            raise _NotYetError
        aggregator.carry_price(price, unlike, sequence)

    async def _content(self, version: Version | None) -> Kline | None:
        if version is None or version.kline is not None:
            return None if version is None else version.kline
        try:
            stored = await ask(self._bus.message_at(subjects.KLINE_STREAM, version.sequence))
            return None if stored is None else codec.kline(stored.subject, stored.payload)
        except (DecodeError, *TROUBLE):
            return None  # the longer windows are recomputed when they close

    async def _fold(self, aggregator: Aggregator, key: WindowKey, sequence: int) -> Fold | None:
        period, opened = key
        if period != BASE_PERIOD:
            return merged(await self._klines(aggregator, opened, opened + PERIOD_MS[period]))
        async with self._queries, asyncio.timeout(QUERY_TIMEOUT_S):
            trades = await self._store.trades(
                aggregator.exchange, aggregator.symbol, opened, opened + MINUTE_MS
            )
        if trades:
            columns = trade_columns.of_trades(trades)
            aggregator.closed.stored(columns, sequence)
            return Fold.of(columns)
        if not aggregator.rules.fill_empty:
            return None
        if not self._has_minutes(aggregator):
            raise _NotYetError
        async with self._queries, asyncio.timeout(QUERY_TIMEOUT_S):
            price = await self._store.price_before(
                aggregator.exchange, aggregator.symbol, opened - FLAT_BACK_MS, opened
            )
        return None if price is None else Fold.flat(price)

    async def _klines(
        self, aggregator: Aggregator, from_ms: int, to_ms: int, period: str = BASE_PERIOD
    ) -> list[Kline]:
        async with self._queries, asyncio.timeout(QUERY_TIMEOUT_S):
            return list(
                await self._store.klines(
                    aggregator.exchange, aggregator.symbol, period, from_ms, to_ms
                )
            )

    async def _stored_version(
        self, aggregator: Aggregator, key: WindowKey, last_sequence: int
    ) -> Version | None:
        """Return a window's newest version from the database, when it has all of its subject."""
        if self._floors.kline < last_sequence:
            raise _NotYetError
        period, opened = key
        rows = await self._klines(aggregator, opened, opened + 1, period)
        return Version.of(rows[0]) if rows else None

    async def _search(self, aggregator: Aggregator) -> None:
        """Search the next piece of a range for minutes that have trades or a candle."""
        piece = aggregator.closed.next_search(self._floors.raw)
        scan = aggregator.closed.dirty.rescan
        if piece is None or scan is None:
            return
        try:
            async with self._queries, asyncio.timeout(QUERY_TIMEOUT_S):
                minutes = set(
                    await self._store.minutes(aggregator.exchange, aggregator.symbol, *piece)
                )
        except (StoreUnavailableError, TimeoutError) as problem:
            self._note_away(problem, asyncio.get_running_loop().time())
            return
        subject = self._publication.subject(aggregator, BASE_PERIOD)
        unsaved = self._tail.versions.behind(subject, self._floors.kline)
        minutes |= {opened for opened, _ in unsaved if piece[0] <= opened < piece[1]}
        aggregator.closed.searched(scan, piece[1], minutes)


def emptied(kline: Kline | None) -> Fold | None:
    """Return what is left of a published candle without any trade: its opening price.

    No candle can be taken back, but one of no trades adds nothing to any sum.
    """
    return None if kline is None else Fold.flat(fold_of(kline).open)


def merged(klines: Iterable[Kline]) -> Fold | None:
    """Return the merge of candles of one symbol, ascending; None for none."""
    total: Fold | None = None
    for kline in klines:
        if total is None:
            total = fold_of(kline)
        else:
            total.absorb(fold_of(kline))
    return total
