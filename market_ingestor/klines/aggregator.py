"""The candles of one symbol: what is open, what just closed, what must be corrected. Pure.

Owns the order of the rules. (a) An open minute folds its trades, each id once; longer
open windows are the merge of their closed minutes and the open ones. (b) What closes is returned
to be published. (c) A trade for a closed window is not folded at all: it makes the window dirty.
Knows no clock, no bus and no database.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from market_ingestor.klines.candle import kline_of
from market_ingestor.klines.closed import MINUTE_US, ClosedWindows
from market_ingestor.klines.columns import Columns, is_run
from market_ingestor.klines.completeness import Completeness, Evidence
from market_ingestor.klines.facts import BatchFacts, Closing, Rules
from market_ingestor.klines.holes import Change, Hole
from market_ingestor.klines.known import KnownIds
from market_ingestor.klines.longer import LongerWindows
from market_ingestor.klines.open_minutes import OPEN_MAX, OpenMinutes
from market_ingestor.klines.watermark import Watermark
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, HOUR_MS, MINUTE_MS, closes, open_time

if TYPE_CHECKING:
    from market_ingestor.klines.dirty import WindowKey

# Flat candles made at once after a silence, about 200 with those of longer periods; a mark may end
# the silence of every symbol. Earlier ones are made like corrections, some at a time.
FLAT_MS_MAX: Final = 2 * HOUR_MS
# Searched behind what was closed before a loss: late trades that were saved and not read, trades
# that were read and not saved. Older ones lie in known holes.
LOOK_BACK_MS: Final = 2 * HOUR_MS


class Aggregator:
    """All state of one symbol.

    Attributes:
        open: Open minutes.
        longer: Longer open windows.
        closed: What is left to do for closed windows.
        known: The ids read so far, where the venue's ids grow by one.
        doubtful_through: Minutes up to here may lack trades that were never read.
        has_lost: Something between the resume record and the stream's start is gone.
        last_price: Newest close, for flat candles.
        folded: Trades folded in so far.
        fresh: The trades the last batch brought that were folded.
        read_to: Sequence of the newest batch read.
        heard_us: Time of the reader's clock at the last sign of life.
    """

    def __init__(self, exchange: str, symbol: str, rules: Rules, *, has_lost: bool = False) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.rules = rules
        self.watermark = Watermark(rules.lateness_us)
        self.completeness = Completeness()
        self.open = OpenMinutes()
        self.longer = LongerWindows(rules.longer)
        self.closed = ClosedWindows(rules, self.completeness, self.longer)
        self.known = KnownIds()
        self.doubtful_through = -1
        self.has_lost = has_lost
        self.last_price: Decimal | None = None
        self.folded = 0
        self.fresh: list[Columns] = []
        self.read_to = 0
        self.heard_us = 0
        self.heard_value_us: int | None = None

    # -- what the stream brings

    def batch(self, facts: BatchFacts, columns: Columns, sequence: int) -> list[Closing]:
        """Take in a batch and return the windows it closed, shorter periods first."""
        self.fresh = []
        self.read_to = sequence
        if self.has_lost:
            self.known.forget_to(min(columns.ids) - 1)
            # A refill may come first: its trades are old, but it was received after the loss.
            self._begin_after_loss(max(*columns.times, facts.received_us), sequence)
        if facts.source == "ws":
            state = self.completeness.feeds.heard(facts.feed, facts.received_us)
            state.n = max(facts.n, state.n or 0)
        changes: list[Change] = []
        if not self._continue(facts, columns, sequence):
            changes = self.completeness.read(columns, facts.prev_id, facts.source, facts.n)
            self._fold(columns, sequence)
        self.watermark.trades(facts.feed, facts.received_us, columns.times, columns.ids)
        self.completeness.confirm(self.watermark.newest_us or 0)
        if changes or self.closed.unconfirmed:
            self.closed.reconsider(changes, sequence)
        closings = self._advance(sequence)
        if len(self.open.windows) > OPEN_MAX:
            self.open.bound()
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
        if self.has_lost:
            self._begin_after_loss(self.watermark.seen_us or 0, sequence)
        if last_id is not None and last_id == self.completeness.last_id:
            self.completeness.confirm(self.watermark.seen_us or 0)
            self.closed.reconsider([], sequence)
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
            self.open.has_ended(ends_by)
            or self.longer.has_ended(ends_by)
            or self.closed.awaits(ends_by)
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

    def _begin_after_loss(self, heard_us: int, sequence: int) -> None:
        """Trust nothing up to the first window heard of again: what is stored decides there.

        That window is searched for, too: all of its trades may have been lost on the way here.
        """
        newest = heard_us // MINUTE_US * MINUTE_MS
        begins = newest if self.closed.through is None else min(self.closed.through, newest)
        ends = max(newest + MINUTE_MS, self.closed.through or 0)
        self.closed.dirty.add_range(begins - LOOK_BACK_MS, ends, sequence, sequence)
        for hole in self.completeness.holes:  # what filled it may have been saved and not read
            self._doubt_span(hole, sequence)
        if self.completeness.forgotten is not None:
            self._doubt_span(self.completeness.forgotten.span, sequence)
        self.doubtful_through = newest
        self.longer.resume(newest + MINUTE_MS)
        self.has_lost = False

    def _doubt_span(self, hole: Hole, sequence: int) -> None:
        first, last = (each // MINUTE_US * MINUTE_MS for each in (hole.from_us, hole.to_us))
        if last - first > HOUR_MS:
            self.closed.dirty.add_range(first, last + MINUTE_MS, sequence, sequence)
            return
        for minute in range(first, last + MINUTE_MS, MINUTE_MS):
            self._doubt(minute, sequence)

    def doubt_stored(self, newest_us: int, sequence: int) -> None:
        """Search what is stored up to ``newest_us`` though it was never read here.

        What comes may still be of before the loss, so that is judged again with the first of it.
        """
        self.watermark.restore(newest_us)
        self.heard_value_us = value_us = self.watermark.value_us
        if self.closed.through is None and value_us is not None:
            self.closed.through = value_us // MINUTE_US * MINUTE_MS
        self._begin_after_loss(max(newest_us, self.watermark.newest_us or 0), sequence)
        self.has_lost = True

    # -- folding

    def _continue(self, facts: BatchFacts, columns: Columns, sequence: int) -> bool:
        """Fold trades that directly continue what was read; False, and nothing done, for others.

        Nearly every batch is that, and at real rates it has one trade or two. The way of all
        others comes to the same, but asks for each exception in turn: 6 us more.
        """
        ids = columns.ids
        opened = columns.times[0] // MINUTE_US * MINUTE_MS
        is_ordinary = (
            facts.prev_id == ids[0] - 1
            and opened in self.open.windows
            and self.known.ends_at(ids[0] - 1)
            and self.completeness.ends_at(ids[0] - 1)
            and (len(ids) == 1 or (is_run(ids) and _is_within_minute(columns.times)))
        )
        if is_ordinary:
            self.completeness.extend(ids[-1], columns.times[-1])
            self.known.extend(ids[-1])
            self._fold_open(opened, columns, sequence)
        return is_ordinary

    def _fold(self, columns: Columns, sequence: int) -> None:
        times = columns.times
        if _is_within_minute(times):
            self._take(times[0] // MINUTE_US * MINUTE_MS, columns, sequence)
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
        if self.closed.through is not None and opened < self.closed.through:
            self.closed.soil(opened, sequence, "late")
            if self.completeness.is_contiguous:
                self.known.note(opened, min(fresh.ids), max(fresh.ids))
            return
        self._fold_open(opened, fresh, sequence)

    def _fold_open(self, opened: int, columns: Columns, sequence: int) -> None:
        folded = self.open.take(opened, columns, sequence)
        if folded is not None:
            self.folded += len(folded.ids)
            self.fresh.append(folded)

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
            window = self.open.window(opened, sequence)
            window.is_doubtful |= any(each not in window.ids for each in fresh.ids)
        return fresh if fresh.ids else None

    def _is_open(self, opened: int) -> bool:
        is_behind = self.closed.through is not None and opened < self.closed.through
        return not is_behind and opened not in self.open.deferred

    def _place_copies(self, opened: int, ids: list[int], sequence: int) -> None:
        """Doubt the minutes in which trades that came again are, or were, counted elsewhere.

        The database keeps whichever copy it stored first, with the time of that copy. So both
        minutes wait for what is stored once all copies are.
        """
        if self._is_open(opened):
            window = self.open.window(opened, sequence)
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
        return self.open.holders(trade_id) or self.known.holders(trade_id)

    def _doubt(self, minute: int, sequence: int) -> None:
        """Let what is stored up to ``sequence`` decide on a minute."""
        if not self.open.doubt(minute, sequence) and self.closed.holds(BASE_PERIOD, minute):
            self.closed.soil(minute, sequence, "recompute")

    # -- closing

    def _advance(self, sequence: int) -> list[Closing]:
        value_us = self.watermark.value_us
        self.heard_value_us = value_us
        before = self.closed.through
        if value_us is None or (before is not None and value_us < (before + MINUTE_MS) * 1_000):
            return []
        self.closed.through = through = value_us // MINUTE_US * MINUTE_MS
        if self.rules.fill_empty and before is not None and before < through - FLAT_MS_MAX:
            self.closed.dirty.add_range(before, through - FLAT_MS_MAX, sequence, sequence)
        closings: list[Closing] = []
        for opened in self._closing_minutes(before, through):
            self._close_minute(opened, sequence, closings)
        self._close_longer(through, sequence, closings)
        self._take_up(through, sequence)
        for closing in closings:
            self.closed.outstanding[closing.period, closing.open_time] = closing
        return closings

    def _closing_minutes(self, before: int | None, through: int) -> Iterable[int]:
        ended = {opened for opened in self.open.windows if opened < through}
        if self.rules.fill_empty and before is not None:
            ended.update(range(max(before, through - FLAT_MS_MAX), through, MINUTE_MS))
        return sorted(ended)

    def _close_minute(self, opened: int, sequence: int, closings: list[Closing]) -> None:
        window = self.open.close(opened, sequence)
        if self.completeness.is_contiguous and window.fold is not None:
            self.known.note(opened, window.fold.first_id, window.fold.last_id)
        fold = window.fold
        if fold is not None:
            self.last_price = fold.close
        elif self.rules.fill_empty and self.last_price is not None:
            fold = Fold.flat(self.last_price)
        is_doubtful = window.is_doubtful or opened <= self.doubtful_through
        if fold is None and self.rules.fill_empty and self.doubtful_through >= 0:
            is_doubtful = True  # the price was lost as well: what is stored knows it
        if is_doubtful or self.completeness.has_lost(opened * 1_000, (opened + MINUTE_MS) * 1_000):
            self.closed.soil(
                opened, window.last_sequence, "close", first_sequence=window.first_sequence
            )
            self.longer.lack(opened)
        elif fold is not None:
            evidence = self.closed.judge_closing(BASE_PERIOD, opened)
            closings.append(
                Closing(BASE_PERIOD, opened, fold, evidence, window.first_sequence, sequence)
            )
            self.longer.absorb(opened, fold)

    def _close_longer(self, through: int, sequence: int, closings: list[Closing]) -> None:
        for period, opened, window in self.longer.take_ended(through):
            is_waiting = window.is_tainted and self.closed.dirty.has_minutes(
                opened, closes(period, opened)
            )
            if is_waiting or not window.is_whole:
                self.closed.mark(period, opened, sequence, "close")
            elif window.fold is not None:
                evidence = self.closed.judge_closing(period, opened)
                closings.append(
                    Closing(
                        period,
                        opened,
                        window.fold,
                        evidence,
                        sequence,
                        sequence,
                        is_tainted=window.is_tainted,
                    )
                )

    def _take_up(self, through: int, sequence: int) -> None:
        """Leave to the database what was deferred and has passed now."""
        for opened, newest in self.open.take_deferred(through):
            self.closed.soil(opened, newest, "close", first_sequence=sequence)

    # -- corrections

    def correct(self, minute: int, old: Fold | None, new: Fold) -> None:
        """Carry a corrected minute over into the longer open windows that hold it."""
        self.longer.exchange(minute, old, new)
        self.open.touch_from(minute)

    def carry_price(
        self, price: Decimal, unlike: Iterable[tuple[int, bool]], sequence: int
    ) -> None:
        """Carry a corrected minute's close over into the flat candles that follow it.

        Args:
            price: Its close.
            unlike: The closed minutes behind it without a candle of this price, ascending, and
                whether they have trades.
            sequence: What is stored up to it decides.
        """
        for opened, has_trades in unlike:
            if has_trades:
                return
            self.closed.soil(opened, sequence, "recompute")
        self.last_price = price

    # -- what is open

    def open_candles(
        self, minutes: Iterable[int] | None = None, periods: Iterable[str] | None = None
    ) -> list[Kline]:
        """Return open candles as they are now.

        Args:
            minutes: Those that hold one of these; by default, what changed since that was last
                taken.
            periods: Of these periods only.
        """
        minutes = self.open.take_changed() if minutes is None else minutes
        periods = self.rules.periods if periods is None else tuple(periods)
        candles: dict[WindowKey, Kline] = {}
        for minute in sorted(minutes):
            for period in periods:
                key = (period, open_time(minute, period))
                if key not in candles:
                    fold = self._open_fold(*key)
                    if fold is not None:
                        candles[key] = self._open_candle(fold, *key)
        return list(candles.values())

    def _open_fold(self, period: str, opened: int) -> Fold | None:
        if period == BASE_PERIOD:
            window = self.open.windows.get(opened)
            return window.fold if window is not None else None
        return self.longer.fold(period, opened, self.open.windows)

    def _open_candle(self, fold: Fold, period: str, opened: int) -> Kline:
        ends_us = min(closes(period, opened) * 1_000, self.watermark.seen_us or 0)
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
        return self.open.far(self.watermark.newest_us or 0)

    def first_sequence(self) -> int | None:
        """Return where a replay must begin for this symbol, None when anywhere will do."""
        far = self.far_windows()
        firsts = [each.first_sequence for at, each in self.open.windows.items() if at not in far]
        closed = self.closed.first_sequence()
        if closed is not None:
            firsts.append(closed)
        return min(firsts, default=None)

    def resume(self, closed_through: int) -> None:
        """Begin at this minute."""
        self.closed.through = closed_through
        self.longer.resume(closed_through)

    @property
    def needs_loading(self) -> bool:
        """Return whether longer open windows lack minutes from before they were folded here."""
        return not self.longer.is_loaded and not self.has_lost

    def load_minutes(self, before: int, minutes: Iterable[tuple[int, Fold]]) -> None:
        """Give longer open windows their minutes from before this process began to fold.

        Args:
            before: Every minute that opens earlier, from the longest window's start on, is among
                ``minutes``.
        """
        self.longer.load(before, minutes, self.closed.holds)
        self.open.changed.update(self.open.windows)


def _is_within_minute(times: Sequence[int]) -> bool:
    return len(times) == 1 or min(times) // MINUTE_US == max(times) // MINUTE_US
