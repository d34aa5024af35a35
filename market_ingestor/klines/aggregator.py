"""The candles of one symbol: what is open, what just closed, what must be corrected. Pure.

Owns the rules of design section 3. (a) An open minute folds its trades, each id once; longer
open windows are the merge of their closed minutes and the open ones. (b) What closes is returned
to be published. (c) A trade for a closed window is not folded at all: it makes the window dirty.
Knows no clock, no bus and no database.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from market_ingestor.klines.candle import kline_of
from market_ingestor.klines.columns import Columns
from market_ingestor.klines.completeness import Change, Completeness, Evidence
from market_ingestor.klines.dirty import DirtyWindows, WindowKey
from market_ingestor.klines.known import KnownIds
from market_ingestor.klines.watermark import JUMP_US, Watermark
from market_ingestor.klines.window import Fold, Window
from market_ingestor.model.kline import Kline, Reason
from market_ingestor.model.period import BASE_PERIOD, DAY_MS, MINUTE_MS, PERIOD_MS, open_time
from market_ingestor.model.trade import Source

if TYPE_CHECKING:
    from decimal import Decimal

MINUTE_US: Final = MINUTE_MS * 1_000
# Minutes ahead of the watermark that are folded: two hours, twice what one trade alone may jump.
# A trade further ahead is left to the database, or a wrong clock could fill the memory.
OPEN_MAX: Final = 128
DEFERRED_MAX: Final = 1_024
UNCONFIRMED_MAX: Final = 256  # windows closed without a sign of life behind them
FLAT_MS_MAX: Final = 7 * DAY_MS  # flat candles made at once after a silence


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured: periods including 1m, and times in microseconds."""

    periods: tuple[str, ...]
    lateness_us: int
    hold_us: int
    fill_empty: bool = False

    @property
    def longer(self) -> tuple[str, ...]:
        """Return the periods that are merged from minutes."""
        return tuple(period for period in self.periods if period != BASE_PERIOD)


class BatchFacts(NamedTuple):
    """What a batch says besides its trades; ``prev_id`` as a number."""

    feed: str
    n: int
    source: Source
    received_us: int
    prev_id: int | None


class Closing(NamedTuple):
    """A window that closed, to be published as its first version.

    Attributes:
        evidence: What could be said of its span when it closed.
        first_sequence: Where a replay must begin to fold it again; ``last_sequence`` its newest.
        is_tainted: One of its minutes awaits a correction, so this candle will need one too.
    """

    period: str
    open_time: int
    fold: Fold
    evidence: Evidence
    first_sequence: int
    last_sequence: int
    is_tainted: bool = False


class Accumulator:
    """The closed minutes of a longer open window.

    Attributes:
        fold: What was absorbed, None when nothing was.
        is_loaded: Every minute before those folded here is in, or there was none.
        is_tainted: A minute of it is dirty or was corrected.
        is_unsure: What it holds of a minute is not what was published of it.
        lacking: Closed minutes left to the database, which are not in yet.
    """

    __slots__ = ("fold", "is_loaded", "is_tainted", "is_unsure", "lacking")

    def __init__(self, *, is_loaded: bool) -> None:
        self.fold: Fold | None = None
        self.is_loaded = is_loaded
        self.is_tainted = False
        self.is_unsure = False
        self.lacking: set[int] = set()

    @property
    def is_whole(self) -> bool:
        """Return whether every closed minute is in, as it was published."""
        return self.is_loaded and not self.is_unsure and not self.lacking

    def exchange(self, minute: int, old: Fold | None, new: Fold) -> None:
        """Replace a minute by its next version, as far as the former one is in."""
        self.is_tainted = True
        if not self.is_loaded:
            self.is_unsure = True  # whichever version gets loaded
        elif minute in self.lacking or old is None or self.fold is None:
            self.lacking.discard(minute)
            self.absorb(new)
        else:
            self.fold.exchange_part(old, new)

    def absorb(self, fold: Fold) -> None:
        """Add a minute."""
        if self.fold is None:
            self.fold = fold.copy()
        else:
            self.fold.absorb(fold)


def _closes(period: str, opened: int) -> int:
    return opened + PERIOD_MS[period]


class Aggregator:
    """All state of one symbol.

    Attributes:
        closed_through: Minutes that open before it are closed, Unix milliseconds.
        windows: Open minutes by open time.
        accumulators: Longer open windows.
        deferred: Minutes far ahead of the watermark, left to the database, with their newest
            sequence.
        outstanding: First versions on their way to the stream.
        unconfirmed: Windows closed without proof that their end was seen.
        known: The ids read so far, where the venue's ids grow by one.
        changed: Open minutes with new trades since they were last taken from here.
        known_since: Minutes from here on were all folded by this process.
        doubtful_through: Minutes up to here may lack trades that were never read.
        has_lost: Something between the resume record and the stream's start is gone.
        last_price: Newest close, for flat candles.
        folded: Trades folded in so far.
        fresh: The trades the last batch brought that were folded.
        heard_us: Time of the reader's clock at the last sign of life.
    """

    def __init__(self, exchange: str, symbol: str, rules: Rules, *, has_lost: bool = False) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.rules = rules
        self.longer = rules.longer
        self.watermark = Watermark(rules.lateness_us)
        self.completeness = Completeness()
        self.dirty = DirtyWindows()
        self.closed_through: int | None = None
        self.windows: dict[int, Window] = {}
        self.accumulators: dict[WindowKey, Accumulator] = {}
        self.deferred: dict[int, int] = {}
        self.outstanding: dict[WindowKey, Closing] = {}
        self.unconfirmed: dict[WindowKey, None] = {}
        self.changed: set[int] = set()
        self.known = KnownIds()
        self.known_since = 0
        self.doubtful_through = -1
        self.has_lost = has_lost
        self.last_price: Decimal | None = None
        self.folded = 0
        self.fresh: list[Columns] = []
        self.heard_us = 0
        self.heard_value_us: int | None = None
        self.deferred_dropped = 0

    # -- what the stream brings

    def batch(self, facts: BatchFacts, columns: Columns, sequence: int) -> list[Closing]:
        """Take in a batch and return the windows it closed, shorter periods first."""
        self.fresh = []
        if self.has_lost:
            self._begin_after_loss(columns, sequence)
        if facts.source == "ws":
            state = self.completeness.feeds.heard(facts.feed, facts.received_us)
            state.n = max(facts.n, state.n or 0)
        changes = self.completeness.read(columns, facts.prev_id, facts.source)
        self._fold(columns, sequence)
        self.watermark.trades(facts.feed, facts.received_us, columns.times, columns.ids)
        self.completeness.confirm(self.watermark.newest_us or 0)
        if changes or self.unconfirmed:
            self._reconsider(changes, sequence)
        closings = self._advance(sequence)
        if len(self.windows) > OPEN_MAX:
            self._bound()
        return closings

    def mark(
        self,
        feed: str,
        received_us: int,
        *,
        n: int,
        last_id: int | None,
        is_end: bool,
        sequence: int,
    ) -> list[Closing]:
        """Take in a feed's mark as far as it concerns this symbol; return what it closed."""
        feeds = self.completeness.feeds
        if is_end:
            feeds.end(feed)
            return []
        state = feeds.heard(feed, received_us)
        if state.n is not None and n > state.n:
            # Batches it has sent are not in the stream yet: they are being sent again.
            if state.behind_since_us is None:
                state.behind_since_us = received_us
            if received_us - state.behind_since_us < self.rules.hold_us:
                return []
        else:
            state.behind_since_us = None
        elapsed_us = self._elapsed(feed, received_us, last_id)
        if elapsed_us is None:
            return []
        self.watermark.elapse(elapsed_us)
        if last_id is not None and last_id == self.completeness.last_id:
            self.completeness.confirm(self.watermark.seen_us or 0)
            self._reconsider([], sequence)
        return self._advance(sequence)

    def silence(self, silence_us: int, sequence: int) -> list[Closing]:
        """Close by the reader's own clock: nothing was heard for ``silence_us``."""
        heard_value_us = self.heard_value_us
        value_us = self.watermark.value_us
        if heard_value_us is None or value_us is None:
            return []
        value_us = max(heard_value_us + silence_us, value_us)
        if not self._has_ended(value_us):
            return []
        self.watermark.raise_to(value_us)
        closings = self._advance(sequence)
        self.heard_value_us = heard_value_us
        return closings

    def _has_ended(self, value_us: int) -> bool:
        """Return whether something open, of whatever length, ends by ``value_us``."""
        ends_by = value_us // 1_000
        return (
            any(_closes(BASE_PERIOD, opened) <= ends_by for opened in self.windows)
            or any(_closes(*key) <= ends_by for key in self.accumulators)
            or any(_closes(BASE_PERIOD, opened) <= ends_by for opened in self.deferred)
        )

    def _elapsed(self, feed: str, received_us: int, last_id: int | None) -> int | None:
        """Return the time a mark shows to have passed since the newest trade was brought."""
        watermark = self.watermark
        if watermark.newest_us is None:
            return None
        anchor = watermark.anchors.get(feed)
        if anchor is not None:
            return received_us - anchor
        has_it_too = last_id is not None and last_id >= watermark.newest_id
        feeds, hold_us = self.completeness.feeds, self.rules.hold_us
        if has_it_too or all(
            feeds.is_gone(name, received_us, hold_us) for name in watermark.anchors
        ):
            return received_us - watermark.brought_us
        return None

    def _begin_after_loss(self, columns: Columns, sequence: int) -> None:
        """Trust nothing up to the first window read again: what is stored decides there."""
        newest = max(columns.times) // MINUTE_US * MINUTE_MS
        if self.closed_through is not None:
            self.dirty.add_range(self.closed_through, newest, sequence, sequence)
        self.known.forget_to(min(columns.ids) - 1)
        self.doubtful_through = newest
        self.known_since = newest + MINUTE_MS
        self.has_lost = False

    # -- folding

    def _fold(self, columns: Columns, sequence: int) -> None:
        times = columns.times
        low = min(times) // MINUTE_US
        if len(times) == 1 or low == max(times) // MINUTE_US:
            self._take(low * MINUTE_MS, columns, sequence)
            return
        rows: dict[int, list[int]] = {}
        for row, time_us in enumerate(times):
            rows.setdefault(time_us // MINUTE_US, []).append(row)
        for minute, chosen in rows.items():
            self._take(minute * MINUTE_MS, columns.pick(chosen), sequence)

    def _take(self, opened: int, columns: Columns, sequence: int) -> None:
        fresh = self._unseen(opened, columns, sequence)
        if fresh is None:
            return
        if self.closed_through is not None and opened < self.closed_through:
            self.soil(opened, sequence, "late")
            if self.completeness.is_contiguous:
                self.known.note(opened, min(fresh.ids), max(fresh.ids))
        elif opened in self.deferred:
            self.deferred[opened] = sequence
        else:
            folded = self._window(opened, sequence).take(fresh, sequence)
            if folded is not None:
                self.folded += len(folded.ids)
                self.fresh.append(folded)
                self.changed.add(opened)

    def _window(self, opened: int, sequence: int) -> Window:
        window = self.windows.get(opened)
        if window is None:
            window = self.windows[opened] = Window(opened, sequence)
        return window

    def _unseen(self, opened: int, columns: Columns, sequence: int) -> Columns | None:
        """Return the trades that were not read before, as far as ids can tell."""
        if not self.completeness.is_contiguous:
            self.known.read_unproven(columns)
            return columns
        found = self.known.read(columns)
        if found.copies:
            self._place_copies(opened, found.copies, sequence)
        fresh = columns if found.fresh is None else columns.pick(found.fresh)
        if not found.is_vouched and self._is_open(opened):
            window = self._window(opened, sequence)
            window.is_doubtful |= any(each not in window.ids for each in fresh.ids)
        return fresh if fresh.ids else None

    def _is_open(self, opened: int) -> bool:
        is_behind = self.closed_through is not None and opened < self.closed_through
        return not is_behind and opened not in self.deferred

    def _place_copies(self, opened: int, ids: list[int], sequence: int) -> None:
        """Doubt the minutes in which trades that came again are, or were, counted elsewhere.

        The database keeps whichever copy it stored first, with the time of that copy. So both
        minutes wait for what is stored once all copies are.
        """
        if self._is_open(opened):
            window = self._window(opened, sequence)
            elsewhere = [each for each in ids if each not in window.ids]
        else:
            elsewhere = [each for each in ids if self._holders(each) != [opened]]
        if not elsewhere:
            return
        minutes = {opened}
        for each in elsewhere:
            # Beyond memory it is a neighbour: copies differ in how they round a time.
            minutes.update(self._holders(each) or (opened - MINUTE_MS, opened + MINUTE_MS))
        for minute in minutes:
            self._doubt(minute, sequence)

    def _holders(self, trade_id: int) -> list[int]:
        """Return the minutes, open or closed, that may have counted an id."""
        holding = [at for at, window in self.windows.items() if trade_id in window.ids]
        return holding or self.known.holders(trade_id)

    def _doubt(self, minute: int, sequence: int) -> None:
        """Let what is stored up to ``sequence`` decide on a minute."""
        window = self.windows.get(minute)
        if window is not None:
            window.is_doubtful = True
            window.last_sequence = max(window.last_sequence, sequence)
        elif minute in self.deferred:
            self.deferred[minute] = sequence
        elif self.is_closed(BASE_PERIOD, minute):
            self.soil(minute, sequence, "recompute")

    # -- closing

    def _advance(self, sequence: int) -> list[Closing]:
        value_us = self.watermark.value_us
        self.heard_value_us = value_us
        before = self.closed_through
        if value_us is None or (before is not None and value_us < (before + MINUTE_MS) * 1_000):
            return []
        self.closed_through = through = value_us // MINUTE_US * MINUTE_MS
        closings: list[Closing] = []
        for opened in self._closing_minutes(before, through):
            self._close_minute(opened, sequence, closings)
        self._close_longer(through, sequence, closings)
        self._take_up(through, sequence)
        for closing in closings:
            self.outstanding[closing.period, closing.open_time] = closing
        return closings

    def _closing_minutes(self, before: int | None, through: int) -> Iterable[int]:
        ended = {opened for opened in self.windows if opened < through}
        if self.rules.fill_empty and before is not None:
            ended.update(range(max(before, through - FLAT_MS_MAX), through, MINUTE_MS))
        return sorted(ended)

    def _close_minute(self, opened: int, sequence: int, closings: list[Closing]) -> None:
        window = self.windows.pop(opened, None) or Window(opened, sequence)
        self.changed.discard(opened)
        if self.completeness.is_contiguous and window.fold is not None:
            self.known.note(opened, window.fold.first_id, window.fold.last_id)
        fold = window.fold
        if fold is None and self.rules.fill_empty and self.last_price is not None:
            fold = Fold.flat(self.last_price)
        if window.is_doubtful or opened <= self.doubtful_through or self._has_lost(opened):
            self.soil(opened, window.last_sequence, "close", first_sequence=window.first_sequence)
            for period in self.longer:
                self._accumulator(period, opened).lacking.add(opened)
        elif fold is not None:
            self.last_price = fold.close
            closings.append(
                self._closing(BASE_PERIOD, opened, fold, window.first_sequence, sequence)
            )
            for period in self.longer:
                self._accumulator(period, opened).absorb(fold)

    def _closing(
        self, period: str, opened: int, fold: Fold, first_sequence: int, sequence: int
    ) -> Closing:
        evidence = self.judge(period, opened)
        if evidence is Evidence.UNCONFIRMED:
            self.unconfirmed[period, opened] = None
            while len(self.unconfirmed) > UNCONFIRMED_MAX:
                del self.unconfirmed[next(iter(self.unconfirmed))]
        return Closing(period, opened, fold, evidence, first_sequence, sequence)

    def _close_longer(self, through: int, sequence: int, closings: list[Closing]) -> None:
        ended = [key for key in self.accumulators if _closes(*key) <= through]
        for period, opened in sorted(ended, key=lambda key: (PERIOD_MS[key[0]], key[1])):
            accumulator = self.accumulators.pop((period, opened))
            is_waiting = accumulator.is_tainted and self.dirty.has_minutes(
                opened, _closes(period, opened)
            )
            if is_waiting or not accumulator.is_whole:
                self._mark_dirty(period, opened, sequence, "close")
            elif accumulator.fold is not None:
                closing = self._closing(period, opened, accumulator.fold, sequence, sequence)
                closings.append(closing._replace(is_tainted=accumulator.is_tainted))

    def _accumulator(self, period: str, minute: int) -> Accumulator:
        opened = open_time(minute, period)
        found = self.accumulators.get((period, opened))
        if found is None:
            found = Accumulator(is_loaded=opened >= self.known_since)
            self.accumulators[period, opened] = found
        return found

    def _bound(self) -> None:
        """Give up folding what lies too far ahead."""
        while len(self.windows) > OPEN_MAX:
            farthest = max(self.windows)
            self.changed.discard(farthest)
            self.deferred[farthest] = self.windows.pop(farthest).last_sequence
        while len(self.deferred) > DEFERRED_MAX:
            del self.deferred[max(self.deferred)]
            self.deferred_dropped += 1

    def _take_up(self, through: int, sequence: int) -> None:
        """Leave to the database what was deferred and has passed now."""
        for opened in [each for each in self.deferred if each < through]:
            self.soil(opened, self.deferred.pop(opened), "close", first_sequence=sequence)

    # -- dirty windows

    def soil(
        self,
        minute: int,
        sequence: int,
        reason: Reason,
        *,
        first_sequence: int | None = None,
    ) -> None:
        """Mark a closed minute, and the longer open windows that hold it."""
        self._mark_dirty(BASE_PERIOD, minute, sequence, reason, first_sequence)
        for period in self.longer:
            if _closes(period, open_time(minute, period)) > (self.closed_through or 0) or (
                (period, open_time(minute, period)) in self.accumulators
            ):
                self._accumulator(period, minute).is_tainted = True

    def _mark_dirty(
        self,
        period: str,
        opened: int,
        sequence: int,
        reason: Reason,
        first_sequence: int | None = None,
    ) -> None:
        self.dirty.add(
            period,
            opened,
            first_sequence=sequence if first_sequence is None else first_sequence,
            sequence=sequence,
            reason=reason,
        )

    def lose(self, trade_id: int, time_us: int, sequence: int) -> None:
        """Leave a trade out that the database refused: candles follow the table."""
        if trade_id not in self.completeness.lost:
            self.completeness.lose(trade_id, time_us)
            minute = time_us // MINUTE_US * MINUTE_MS
            if self.is_closed(BASE_PERIOD, minute):
                self.soil(minute, sequence, "recompute")

    def _has_lost(self, minute: int) -> bool:
        lost = self.completeness.lost
        return bool(lost) and self.completeness.has_lost(
            minute * 1_000, (minute + MINUTE_MS) * 1_000
        )

    def soil_longer(self, minute: int, reason: Reason, sequence: int) -> None:
        """Mark the longer closed windows that hold a corrected minute."""
        for period in self.longer:
            opened = open_time(minute, period)
            if self.is_closed(period, opened):
                self._mark_dirty(period, opened, sequence, reason)

    def correct(self, minute: int, old: Fold | None, new: Fold) -> None:
        """Carry a corrected minute over into the longer open windows that hold it."""
        for period in self.longer:
            accumulator = self.accumulators.get((period, open_time(minute, period)))
            if accumulator is not None:
                accumulator.exchange(minute, old, new)
        if self.windows or self.changed:
            self.changed.update(opened for opened in self.windows if opened >= minute)

    def doubt(self, minute: int) -> None:
        """Note that longer open windows hold other content of a minute than was published."""
        for period in self.longer:
            accumulator = self.accumulators.get((period, open_time(minute, period)))
            if accumulator is not None:
                accumulator.is_unsure = True

    def settle(self, closing: Closing, *, is_wrong: bool) -> None:
        """Note the end of a first version's way; a wrong one becomes dirty."""
        self.outstanding.pop((closing.period, closing.open_time), None)
        if is_wrong and closing.period == BASE_PERIOD:
            self.doubt(closing.open_time)
        if is_wrong or closing.is_tainted:
            if closing.period == BASE_PERIOD:
                self.soil(
                    closing.open_time,
                    closing.last_sequence,
                    "recompute",
                    first_sequence=closing.first_sequence,
                )
            else:
                self._mark_dirty(
                    closing.period, closing.open_time, closing.last_sequence, "recompute"
                )

    def is_closed(self, period: str, opened: int) -> bool:
        """Return whether a window lies behind the watermark."""
        return self.closed_through is not None and _closes(period, opened) <= self.closed_through

    def judge(self, period: str, opened: int) -> Evidence:
        """Return what can be said of a window's span now."""
        return self.completeness.judge(opened * 1_000, _closes(period, opened) * 1_000)

    def stored(self, columns: Columns, sequence: int) -> None:
        """Learn from trades read back from the database which ids are there after all."""
        self._reconsider(self.completeness.stored(columns), sequence)

    def _reconsider(self, changes: list[Change], sequence: int) -> None:
        """Mark the closed windows whose evidence may have changed."""
        for change in changes:
            for minute in self._touched(change):
                for period in self.rules.periods:
                    opened = open_time(minute, period)
                    if self.is_closed(period, opened):
                        self._mark_dirty(period, opened, sequence, change.reason)
        if self.unconfirmed:
            proven_ms = self.completeness.proven_us // 1_000
            for key in [key for key in self.unconfirmed if _closes(*key) <= proven_ms]:
                del self.unconfirmed[key]
                if self.judge(*key) is Evidence.PROVEN:
                    self._mark_dirty(*key, sequence, "repair")

    def _touched(self, change: Change) -> Iterator[int]:
        """Yield the minutes at both ends of a span: between them lies no trade.

        With flat candles there are candles between, too.
        """
        first, last = (each // MINUTE_US * MINUTE_MS for each in sorted(change[1:]))
        yield first
        if self.rules.fill_empty:
            yield from range(max(first + MINUTE_MS, last - DAY_MS), last, MINUTE_MS)
        if last != first:
            yield last

    # -- what is open

    def open_candles(self) -> list[Kline]:
        """Return the open candles that changed since the last call, as they are now."""
        changed, self.changed = self.changed, set()
        candles: dict[WindowKey, Kline] = {}
        for minute in sorted(changed):
            for period in self.rules.periods:
                key = (period, open_time(minute, period))
                if key not in candles:
                    fold = self._open_fold(*key)
                    if fold is not None:
                        candles[key] = self._open_candle(fold, *key)
        return list(candles.values())

    def _open_fold(self, period: str, opened: int) -> Fold | None:
        if period == BASE_PERIOD:
            window = self.windows.get(opened)
            return window.fold if window is not None else None
        accumulator = self.accumulators.get((period, opened))
        if accumulator is None:
            if opened < self.known_since:
                return None  # its earlier minutes are not here
            accumulator = Accumulator(is_loaded=True)
        if not accumulator.is_loaded:
            return None
        fold = accumulator.fold.copy() if accumulator.fold is not None else None
        for minute, window in self.windows.items():
            if opened <= minute < _closes(period, opened) and window.fold is not None:
                if fold is None:
                    fold = window.fold.copy()
                else:
                    fold.absorb(window.fold)
        return fold

    def _open_candle(self, fold: Fold, period: str, opened: int) -> Kline:
        ends_us = min(_closes(period, opened) * 1_000, self.watermark.seen_us or 0)
        evidence = self.completeness.judge(opened * 1_000, ends_us)
        return kline_of(
            fold,
            self.exchange,
            self.symbol,
            period,
            opened,
            complete=evidence in {Evidence.PROVEN, Evidence.UNCONFIRMED},
        )

    # -- what a replay needs

    def far_windows(self) -> dict[int, int]:
        """Return open minutes too far ahead to wait for, with their newest sequence."""
        newest_us = self.watermark.newest_us or 0
        return {
            opened: window.last_sequence
            for opened, window in self.windows.items()
            if opened * 1_000 > newest_us + JUMP_US
        }

    def first_sequence(self) -> int | None:
        """Return where a replay must begin for this symbol, None when anywhere will do."""
        far = self.far_windows()
        firsts = [each.first_sequence for at, each in self.windows.items() if at not in far]
        firsts += [
            closing.first_sequence
            for closing in self.outstanding.values()
            if closing.period == BASE_PERIOD
        ]
        dirty = self.dirty.first_sequence()
        if dirty is not None:
            firsts.append(dirty)
        return min(firsts, default=None)

    def resume(self, closed_through: int) -> None:
        """Begin at this minute: what is longer and open may hold minutes from before it."""
        self.closed_through = self.known_since = closed_through
        for period in self.longer:
            if open_time(closed_through, period) < closed_through:
                self._accumulator(period, closed_through)

    def load_minutes(self, before: int, minutes: Iterable[tuple[int, Fold]]) -> None:
        """Give longer open windows their minutes from before this process began to fold.

        Args:
            before: Every minute that opens earlier, from the longest window's start on, is among
                ``minutes``.
        """
        waiting = {
            (period, open_time(before, period)): Accumulator(is_loaded=True)
            for period in self.longer
            if open_time(before, period) < before
        }
        for minute, fold in minutes:
            for period in self.longer:
                loaded = waiting.get((period, open_time(minute, period)))
                if loaded is not None:
                    loaded.absorb(fold)
        for key, loaded in waiting.items():
            if self.is_closed(*key):
                continue
            present = self.accumulators.get(key)
            if present is not None and present.is_loaded:
                continue
            if present is not None:
                loaded.is_tainted = present.is_tainted
                loaded.is_unsure = present.is_unsure
                loaded.lacking = present.lacking
                if present.fold is not None:
                    loaded.absorb(present.fold)
            self.accumulators[key] = loaded
        self.changed.update(self.windows)
