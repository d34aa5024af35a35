"""The closed windows of one symbol whose published version is not settled. Pure.

Owns how far the symbol is closed, which first versions are on their way, which windows are dirty
and why, and which of them may still turn out to be complete. Minutes are soiled by what is read,
longer windows by their minutes; what is open and holds a dirty minute is told so.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.completeness import Completeness, Evidence
from market_ingestor.klines.dirty import DIRTY_MAX, Dirty, DirtyWindows, Rescan, WindowKey
from market_ingestor.klines.facts import Closing, Rules
from market_ingestor.klines.holes import Change
from market_ingestor.klines.longer import LongerWindows
from market_ingestor.model.kline import Reason
from market_ingestor.model.period import BASE_PERIOD, DAY_MS, MINUTE_MS, closes, open_time

MINUTE_US: Final = MINUTE_MS * 1_000
SEARCH_MS: Final = 60 * MINUTE_MS  # of a range searched at a time
UNCONFIRMED_MAX: Final = 256  # windows closed without a sign of life behind them


class ClosedWindows:
    """What is left to do for windows behind the watermark.

    Attributes:
        through: Minutes that open before it are closed, Unix milliseconds.
        dirty: Windows whose published version may be wrong.
        outstanding: First versions on their way to the stream.
        unconfirmed: Windows closed without proof that their end was seen.
    """

    def __init__(self, rules: Rules, completeness: Completeness, longer: LongerWindows) -> None:
        self._rules = rules
        self._completeness = completeness
        self._longer = longer
        self.through: int | None = None
        self.dirty = DirtyWindows()
        self.outstanding: dict[WindowKey, Closing] = {}
        self.unconfirmed: dict[WindowKey, None] = {}

    def holds(self, period: str, opened: int) -> bool:
        """Return whether a window lies behind the watermark."""
        return self.through is not None and closes(period, opened) <= self.through

    def awaits(self, through: int) -> bool:
        """Return whether a range can be searched to its end once ``through`` has passed.

        Until then it holds the resume position, and MARKET_RAW with it.
        """
        scan = self.dirty.rescan
        return scan is not None and (self.through or 0) < scan.to_ms <= through

    # -- what closes

    def judge(self, period: str, opened: int) -> Evidence:
        """Return what can be said of a window's span now."""
        return self._completeness.judge(opened * 1_000, closes(period, opened) * 1_000)

    def judge_closing(self, period: str, opened: int) -> Evidence:
        """Return what can be said of a window that closes now; remember when that may grow."""
        evidence = self.judge(period, opened)
        if evidence is Evidence.UNCONFIRMED:
            self.unconfirmed[period, opened] = None
            while len(self.unconfirmed) > UNCONFIRMED_MAX:
                del self.unconfirmed[next(iter(self.unconfirmed))]
        return evidence

    def settle(self, closing: Closing, *, is_wrong: bool) -> None:
        """Note the end of a first version's way; a wrong one becomes dirty."""
        period, opened = closing.period, closing.open_time
        self.outstanding.pop((period, opened), None)
        if is_wrong and period == BASE_PERIOD:
            self._longer.doubt(opened)
        if not is_wrong and not closing.is_tainted:
            return
        if period == BASE_PERIOD:
            self.soil(
                opened,
                closing.last_sequence,
                "recompute",
                first_sequence=closing.first_sequence,
            )
        else:
            self.mark(period, opened, closing.last_sequence, "recompute")

    # -- what gets dirty

    def soil(
        self,
        minute: int,
        sequence: int,
        reason: Reason,
        *,
        first_sequence: int | None = None,
    ) -> None:
        """Mark a closed minute, and the longer open windows that hold it."""
        self.mark(BASE_PERIOD, minute, sequence, reason, first_sequence)
        self._longer.taint(minute, self.through or 0)

    def mark(
        self,
        period: str,
        opened: int,
        sequence: int,
        reason: Reason,
        first_sequence: int | None = None,
    ) -> None:
        """Mark one window and nothing else."""
        self.dirty.add(
            period,
            opened,
            first_sequence=sequence if first_sequence is None else first_sequence,
            sequence=sequence,
            reason=reason,
        )

    def soil_longer(self, minute: int, reason: Reason, sequence: int) -> None:
        """Mark the longer closed windows that hold a corrected minute."""
        for period in self._longer.periods:
            opened = open_time(minute, period)
            if self.holds(period, opened):
                self.mark(period, opened, sequence, reason)

    def awaits_next(self, minute: int) -> bool:
        """Return whether the minute behind one waits for its own correction."""
        return self.dirty.has_minutes(minute + MINUTE_MS, minute + 2 * MINUTE_MS)

    def is_publishing_behind(self, minute: int) -> bool:
        """Return whether first versions of later minutes are on their way."""
        return any(each == BASE_PERIOD and opened > minute for each, opened in self.outstanding)

    # -- what is corrected when

    def is_ready(self, key: WindowKey, dirty: Dirty, raw_floor: int, *, has_minutes: bool) -> bool:
        """Return whether a dirty window can be recomputed from what is stored.

        Args:
            raw_floor: Everything of MARKET_RAW up to it is stored.
            has_minutes: Every version of a minute published so far is stored.
        """
        period, opened = key
        if not self.holds(period, opened):
            return False
        if period == BASE_PERIOD:
            return key not in self.outstanding and raw_floor >= dirty.sequence
        ends = closes(period, opened)
        is_waiting = self.dirty.has_minutes(opened, ends) or any(
            each == BASE_PERIOD and opened <= minute < ends for each, minute in self.outstanding
        )
        return has_minutes and not is_waiting

    def next_search(self, raw_floor: int) -> tuple[int, int] | None:
        """Return the next piece, in Unix ms, of the range that is to be searched, if it may be."""
        scan = self.dirty.rescan
        is_full = len(self.dirty.windows) > DIRTY_MAX // 2
        if scan is None or raw_floor < scan.sequence or is_full:
            return None
        until = min(scan.from_ms + SEARCH_MS, scan.to_ms, self.through or 0)
        return None if until <= scan.from_ms else (scan.from_ms, until)

    def searched(self, scan: Rescan, until_ms: int, minutes: Iterable[int]) -> None:
        """Mark what a search of ``scan`` up to ``until_ms`` has found.

        Args:
            minutes: Those with trades, or with a candle, whose trades may be gone.
        """
        found = set(minutes)
        if self._rules.fill_empty:
            found.update(range(scan.from_ms, until_ms, MINUTE_MS))
        for minute in sorted(found):
            self.soil(minute, scan.sequence, "recompute", first_sequence=scan.first_sequence)
        if self.dirty.rescan is scan:  # else it grew meanwhile and is searched again
            self.dirty.scanned(until_ms)

    # -- what is learnt about completeness

    def lose(self, trade_id: int, time_us: int, sequence: int) -> None:
        """Leave a trade out that the database refused: candles follow the table."""
        if trade_id not in self._completeness.lost:
            self._completeness.lose(trade_id, time_us)
            minute = time_us // MINUTE_US * MINUTE_MS
            if self.holds(BASE_PERIOD, minute):
                self.soil(minute, sequence, "recompute")

    def stored(self, columns: Columns, sequence: int) -> None:
        """Learn from trades read back from the database which ids are there after all."""
        self.reconsider(self._completeness.stored(columns), sequence)

    def reconsider(self, changes: list[Change], sequence: int) -> None:
        """Mark the closed windows whose evidence may have changed."""
        for change in changes:
            for minute in self._touched(change):
                for period in self._rules.periods:
                    opened = open_time(minute, period)
                    if self.holds(period, opened):
                        self.mark(period, opened, sequence, change.reason)
        if self.unconfirmed:
            proven_ms = self._completeness.proven_us // 1_000
            for key in [key for key in self.unconfirmed if closes(*key) <= proven_ms]:
                del self.unconfirmed[key]
                if self.judge(*key) is Evidence.PROVEN:
                    self.mark(*key, sequence, "repair")

    def _touched(self, change: Change) -> Iterator[int]:
        """Yield the minutes at both ends of a span: between them lies no trade.

        With flat candles there are candles between, too.
        """
        first, last = (each // MINUTE_US * MINUTE_MS for each in sorted(change[1:]))
        yield first
        if self._rules.fill_empty:
            yield from range(max(first + MINUTE_MS, last - DAY_MS), last, MINUTE_MS)
        if last != first:
            yield last

    # -- what a replay needs

    def first_sequence(self) -> int | None:
        """Return where a replay must begin for these windows, None when anywhere will do."""
        firsts = [
            closing.first_sequence
            for closing in self.outstanding.values()
            if closing.period == BASE_PERIOD
        ]
        dirty = self.dirty.first_sequence()
        if dirty is not None:
            firsts.append(dirty)
        return min(firsts, default=None)
