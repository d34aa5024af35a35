"""The closed windows of one symbol whose published version is not settled. Pure.

Owns how far the symbol is closed, which first versions are on their way, which windows are dirty
and why, and which of them may still turn out to be complete. Minutes are soiled by what is read,
longer windows by their minutes; what is open and holds a dirty minute is told so.
"""

from collections.abc import Iterator
from typing import Final

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.completeness import Completeness, Evidence
from market_ingestor.klines.dirty import DirtyWindows, WindowKey
from market_ingestor.klines.facts import Closing, Rules
from market_ingestor.klines.holes import Change
from market_ingestor.klines.longer import LongerWindows
from market_ingestor.model.kline import Reason
from market_ingestor.model.period import BASE_PERIOD, DAY_MS, MINUTE_MS, closes, open_time

MINUTE_US: Final = MINUTE_MS * 1_000
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
