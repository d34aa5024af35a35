"""Recomputes dirty windows from what is stored, once everything read is stored. SHELL.

Minutes come from trades, behind the savers' ack floor on MARKET_RAW; longer windows from
minutes, behind their ack floor on MARKET_KLINE. While the database is away they wait.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Final

import structlog

from market_ingestor import metrics
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import ask
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.errors import DecodeError, StoreUnavailableError
from market_ingestor.klines import columns as trade_columns
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.candle import emptied, fold_of, merged
from market_ingestor.klines.chains import Chains
from market_ingestor.klines.dirty import Dirty, WindowKey
from market_ingestor.klines.flat_runs import correct_flats
from market_ingestor.klines.flats import FlatVersion, Waiting, first_run
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.publication import Publication, next_version
from market_ingestor.klines.stored import Floors, Stored
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, PERIOD_MS

_log = structlog.get_logger(__name__)

POLL_S: Final = 0.2  # savers commit about once a second
INTERVAL_S: Final = 1.0  # at most one correction of a window in this time
AWAY_S: Final = 1.0  # before a database that did not answer is asked again
TAKEN_MAX: Final = 256  # corrections under way


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
        self._stored = Stored(store)
        self._chains = chains
        self._publication = publication
        self._tail = tail
        self._aggregators = aggregators
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
            await self._stored.recall(aggregator, self._floors.raw)
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
        ready = [
            key
            for key, dirty in aggregator.closed.dirty.windows.items()
            if self._is_ready(aggregator, key, dirty, now)
        ]
        if aggregator.rules.fill_empty and self._has_minutes(aggregator):
            run = first_run(opened for period, opened in ready if period == BASE_PERIOD)
            if run and self._taken < TAKEN_MAX:
                self._take_run(aggregator, run)
                ready = [key for key in ready if key[0] != BASE_PERIOD]
        for key in ready[: TAKEN_MAX - self._taken]:
            self._take(aggregator, key)

    def _take(self, aggregator: Aggregator, key: WindowKey) -> None:
        window = self._begin(aggregator, key)
        subject = self._publication.subject(aggregator, key[0])
        self._taken += 1
        self._chains.submit(subject, partial(self._correct_one, aggregator, key[0], window))

    def _take_run(self, aggregator: Aggregator, run: list[int]) -> None:
        minutes = [self._begin(aggregator, (BASE_PERIOD, opened)) for opened in run]
        subject = self._publication.subject(aggregator, BASE_PERIOD)
        self._taken += 1
        self._chains.submit(subject, partial(self._correct_run, aggregator, minutes))

    @staticmethod
    def _begin(aggregator: Aggregator, key: WindowKey) -> Waiting:
        """Note how far this correction reaches: what is read until its turn may not be stored."""
        dirty = aggregator.closed.dirty.windows[key]
        dirty.is_taken = True
        return Waiting(key[1], dirty.sequence, dirty.reason)

    def _is_ready(self, aggregator: Aggregator, key: WindowKey, dirty: Dirty, now: float) -> bool:
        if dirty.is_taken or dirty.due_at > now:
            return False
        has_minutes = self._has_minutes(aggregator)
        if not aggregator.closed.is_ready(key, dirty, self._floors.raw, has_minutes=has_minutes):
            return False
        published_at = self._published_at.get((aggregator.exchange, aggregator.symbol, *key))
        if published_at is not None:
            dirty.due_at = published_at + INTERVAL_S
        return published_at is None

    def _has_minutes(self, aggregator: Aggregator) -> bool:
        """Return whether every version of a minute published so far is stored."""
        minutes = self._publication.subject(aggregator, BASE_PERIOD)
        return self._floors.kline >= (self._tail.versions.last_sequence(minutes) or 0)

    async def _correct_one(self, aggregator: Aggregator, period: str, window: Waiting) -> None:
        try:
            await self._correct(aggregator, period, window)
        finally:
            self._taken -= 1

    async def _correct_run(self, aggregator: Aggregator, minutes: list[Waiting]) -> None:
        """Correct those of these neighbours that can be in one pass; the others wait."""
        now = asyncio.get_running_loop().time
        left = {each.open_time for each in minutes}
        try:
            async for each in correct_flats(
                aggregator,
                minutes,
                stored=self._stored,
                floors=self._floors,
                publication=self._publication,
                tail=self._tail,
            ):
                if isinstance(each, Waiting):
                    left.remove(each.open_time)
                    await self._correct(aggregator, BASE_PERIOD, each)
                else:
                    await self._finish_flat(aggregator, each)
                    left.remove(each.minute.open_time)
        except _NotYetError:
            pass  # the last one: what lies behind it waits for these to be stored
        except (StoreUnavailableError, TimeoutError) as problem:
            self._note_away(problem, now())
        finally:
            self._taken -= 1
            for opened in left:
                aggregator.closed.dirty.postpone(BASE_PERIOD, opened, now() + POLL_S)

    async def _finish_flat(self, aggregator: Aggregator, each: FlatVersion) -> None:
        """Bring a flat candle that is right now to what depends on it."""
        opened, sequence, reason = each.minute
        if each.wanted is not None:
            self._note_published(aggregator, (BASE_PERIOD, opened))
            old = None if each.known is None else fold_of(each.known)
            aggregator.correct(opened, old, fold_of(each.wanted))
        aggregator.closed.soil_longer(opened, reason, sequence)
        if each.fold is not None:
            await self._carry_price(aggregator, opened, each.fold.close, sequence)
        aggregator.closed.dirty.settle(
            BASE_PERIOD, opened, sequence, asyncio.get_running_loop().time()
        )

    def _note_published(self, aggregator: Aggregator, key: WindowKey) -> None:
        self.corrected += 1
        now = asyncio.get_running_loop().time()
        self._published_at[aggregator.exchange, aggregator.symbol, *key] = now

    async def _correct(self, aggregator: Aggregator, period: str, window: Waiting) -> None:
        opened, sequence, reason = window
        key = (period, opened)
        now = asyncio.get_running_loop().time
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
                reason=reason,
            )

        try:
            published = await self._publication.settle(
                aggregator, period, opened, compute, partial(self._stored_version, aggregator, key)
            )
            if published is not None:
                self._note_published(aggregator, key)
            if period == BASE_PERIOD:
                await self._carry_over(aggregator, opened, published, known[0] if known else None)
                # Also when another processor published it: it may not live to correct these.
                aggregator.closed.soil_longer(opened, reason, sequence)
                if folds and rules.fill_empty:
                    await self._carry_price(aggregator, opened, folds[0].close, sequence)
        except _NotYetError:
            aggregator.closed.dirty.postpone(period, opened, now() + POLL_S)
            return
        except (StoreUnavailableError, TimeoutError) as problem:
            self._note_away(problem, now())
            aggregator.closed.dirty.postpone(period, opened, now() + AWAY_S)
            return
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
        through = closed.through
        unlike = await self._stored.unlike(aggregator, opened, price)
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
            ends = opened + PERIOD_MS[period]
            return merged(await self._stored.klines(aggregator, opened, ends))
        trades = await self._stored.trades(aggregator, opened)
        if trades:
            columns = trade_columns.of_trades(trades)
            aggregator.closed.stored(columns, sequence)
            return Fold.of(columns)
        if not aggregator.rules.fill_empty:
            return None
        if not self._has_minutes(aggregator):
            raise _NotYetError
        price = await self._stored.price_before(aggregator, opened)
        return None if price is None else Fold.flat(price)

    async def _stored_version(
        self, aggregator: Aggregator, key: WindowKey, last_sequence: int
    ) -> Version | None:
        """Return a window's newest version from the database, when it has all of its subject."""
        if self._floors.kline < last_sequence:
            raise _NotYetError
        period, opened = key
        rows = await self._stored.klines(aggregator, opened, opened + 1, period)
        return Version.of(rows[0]) if rows else None

    async def _search(self, aggregator: Aggregator) -> None:
        """Search the next piece of a range for minutes that have trades or a candle."""
        piece = aggregator.closed.next_search(self._floors.raw)
        scan = aggregator.closed.dirty.rescan
        if piece is None or scan is None:
            return
        try:
            minutes = await self._stored.minutes(aggregator, *piece)
        except (StoreUnavailableError, TimeoutError) as problem:
            self._note_away(problem, asyncio.get_running_loop().time())
            return
        subject = self._publication.subject(aggregator, BASE_PERIOD)
        unsaved = self._tail.versions.behind(subject, self._floors.kline)
        minutes |= {opened for opened, _ in unsaved if piece[0] <= opened < piece[1]}
        aggregator.closed.searched(scan, piece[1], minutes)
