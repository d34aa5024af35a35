"""Closed windows of one symbol whose published version may be wrong. Pure.

Bounded: beyond the limit the oldest minutes melt into one range of time, whose minutes are then
found again in the database.
"""

from typing import Final

import msgspec

from market_ingestor.model.kline import Reason
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS, PERIOD_MS

DIRTY_MAX: Final = 2_048  # per symbol; more than a day of minutes

WindowKey = tuple[str, int]  # period and open_time


class Dirty(msgspec.Struct, kw_only=True, eq=False):
    """Why and since when a window waits.

    Attributes:
        first_sequence: The oldest sequence of MARKET_RAW that a replay must begin at.
        sequence: The saver must have committed everything up to here.
        reason: Why a new version would exist; a change of ``complete`` overrules it.
        due_at: Monotonic seconds before which no further version is published.
        is_taken: A correction is under way.
    """

    first_sequence: int
    sequence: int
    reason: Reason
    due_at: float = 0.0
    is_taken: bool = False


class Rescan(msgspec.Struct, frozen=True, array_like=True):
    """A range of time in which every minute may be wrong."""

    from_ms: int
    to_ms: int
    first_sequence: int
    sequence: int


class DirtyWindows:
    """The dirty windows of one symbol.

    Attributes:
        windows: Period and open time to what is known.
        rescan: A range to be searched for further ones, None when there is none.
        overflows: Windows that melted into the range.
    """

    def __init__(self) -> None:
        self.windows: dict[WindowKey, Dirty] = {}
        self.rescan: Rescan | None = None
        self.overflows = 0

    def __len__(self) -> int:
        return len(self.windows) + (self.rescan is not None)

    def add(
        self, period: str, open_time: int, *, first_sequence: int, sequence: int, reason: Reason
    ) -> None:
        """Mark a window; of several marks the newest sequence and the first reason count."""
        known = self.windows.get((period, open_time))
        if known is not None:
            known.first_sequence = min(known.first_sequence, first_sequence)
            known.sequence = max(known.sequence, sequence)
            return
        self.windows[period, open_time] = Dirty(
            first_sequence=first_sequence, sequence=sequence, reason=reason
        )
        if len(self.windows) > DIRTY_MAX:
            self._melt()

    def add_range(self, from_ms: int, to_ms: int, first_sequence: int, sequence: int) -> None:
        """Mark every minute that opens in ``[from_ms, to_ms)``; nothing when that is empty."""
        if from_ms >= to_ms:
            return  # as a range it would never be searched to its end
        old = self.rescan
        if old is not None:
            from_ms, to_ms = min(old.from_ms, from_ms), max(old.to_ms, to_ms)
            first_sequence = min(old.first_sequence, first_sequence)
            sequence = max(old.sequence, sequence)
        self.rescan = Rescan(from_ms, to_ms, first_sequence, sequence)

    def scanned(self, until_ms: int) -> None:
        """Note that the range was searched up to ``until_ms``."""
        scan = self.rescan
        if scan is not None:
            is_done = until_ms >= scan.to_ms
            self.rescan = (
                None
                if is_done
                else Rescan(until_ms, scan.to_ms, scan.first_sequence, scan.sequence)
            )

    def _melt(self) -> None:
        waiting = [key for key, dirty in self.windows.items() if not dirty.is_taken]
        waiting = [key for key in waiting if key[0] == BASE_PERIOD] or waiting
        if not waiting:
            return
        key = period, opened = min(waiting, key=lambda each: each[1])
        dirty = self.windows.pop(key)
        self.overflows += 1
        self.add_range(opened, opened + PERIOD_MS[period], dirty.first_sequence, dirty.sequence)

    def settle(self, period: str, open_time: int, sequence: int, due_at: float) -> None:
        """Note the end of a correction made with everything up to ``sequence``.

        Marks that came meanwhile stay, to be worked on from ``due_at``.
        """
        dirty = self.windows.get((period, open_time))
        if dirty is None:
            return
        dirty.is_taken = False
        if dirty.sequence > sequence:
            dirty.due_at = due_at
        else:
            del self.windows[period, open_time]

    def postpone(self, period: str, open_time: int, due_at: float) -> None:
        """Give a correction up for now."""
        dirty = self.windows.get((period, open_time))
        if dirty is not None:
            dirty.is_taken = False
            dirty.due_at = due_at

    def has_minutes(self, from_ms: int, to_ms: int) -> bool:
        """Return whether a minute that opens in ``[from_ms, to_ms)`` waits."""
        minutes = range(from_ms, to_ms, MINUTE_MS)
        if len(minutes) < len(self.windows):
            is_waiting = any((BASE_PERIOD, minute) in self.windows for minute in minutes)
        else:
            is_waiting = any(
                period == BASE_PERIOD and opened in minutes for period, opened in self.windows
            )
        if is_waiting:
            return True
        scan = self.rescan
        return scan is not None and scan.from_ms < to_ms and scan.to_ms > from_ms

    def first_sequence(self) -> int | None:
        """Return where a replay must begin, None when nothing waits."""
        firsts = [dirty.first_sequence for dirty in self.windows.values()]
        if self.rescan is not None:
            firsts.append(self.rescan.first_sequence)
        return min(firsts, default=None)
