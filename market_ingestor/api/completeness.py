"""Which stretches of a recording are whole, and how that is known. Pure.

Minute by minute, from the 1m candles, the longer candles over minutes without trades, and the holes
that were found. Times are Unix milliseconds on whole minutes.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeAlias

from market_ingestor.model.period import DAY_MS, MINUTE_MS, PERIOD_MS
from market_ingestor.model.stored import GapSpan, MinuteMark

RANGE_MS_MAX: Final = 7 * DAY_MS
SETTLED_MS: Final = 15_000  # a minute's candle is closed and its holes are named by then

State: TypeAlias = Literal["complete", "repaired", "incomplete", "unprovable"]


class Stretch(NamedTuple):
    """Minutes of one state, ``[start, end)``.

    ``complete``: nothing is missing. ``repaired``: nothing any more. ``incomplete``: something
    is known to be. ``unprovable``: nothing is known to be, and nothing shows that all is there.
    """

    start: int
    end: int
    state: State


class _Minutes:
    """Flags of the minutes of a range."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self.flags = bytearray((end - start) // MINUTE_MS)

    def mark(self, start: int, end: int) -> None:
        """Flag the minutes that ``[start, end)`` touches."""
        first = max((start - self._start) // MINUTE_MS, 0)
        last = min(-((self._start - end) // MINUTE_MS), len(self.flags))
        if first < last:
            self.flags[first:last] = b"\x01" * (last - first)

    def __getitem__(self, opened: int) -> bool:
        return bool(self.flags[(opened - self._start) // MINUTE_MS])


def stretches(
    start: int,
    end: int,
    marks: Sequence[MinuteMark],
    complete_windows: Iterable[tuple[str, int]],
    gaps: Iterable[GapSpan],
) -> list[Stretch]:
    """Return a range as stretches of one state each, without a hole between them.

    Args:
        marks: 1m candles, oldest first.
        complete_windows: Period and opening time of longer candles that are complete.
        gaps: Holes found, filled or not.
    """
    proven, filled, missing = (_Minutes(start, end) for _ in range(3))
    for period, opened in complete_windows:
        proven.mark(opened, opened + PERIOD_MS[period])
    for before, behind in pairwise(marks):
        if _are_neighbours(before, behind):
            proven.mark(before.open_time + MINUTE_MS, behind.open_time)
    for gap in gaps:
        (filled if gap.is_filled else missing).mark(gap.from_ms, gap.to_ms + 1)
    by_minute = {each.open_time: each for each in marks}
    found: list[Stretch] = []
    for opened in range(start, end, MINUTE_MS):
        state = _state(
            by_minute.get(opened),
            is_proven=proven[opened],
            is_filled=filled[opened],
            is_missing=missing[opened],
        )
        if found and found[-1].state == state:
            found[-1] = found[-1]._replace(end=opened + MINUTE_MS)
        else:
            found.append(Stretch(opened, opened + MINUTE_MS, state))
    return found


def _are_neighbours(before: MinuteMark, behind: MinuteMark) -> bool:
    """Return whether the ids of two candles leave no trade between them."""
    if before.last_id is None or behind.first_id is None:
        return False
    return int(before.last_id) + 1 == int(behind.first_id)


def _state(mark: MinuteMark | None, *, is_proven: bool, is_filled: bool, is_missing: bool) -> State:
    is_whole = mark.complete if mark is not None else is_proven
    if is_missing:
        return "incomplete"
    if is_whole:
        is_repaired = is_filled or (mark is not None and mark.is_repaired)
        return "repaired" if is_repaired else "complete"
    return "incomplete" if is_filled else "unprovable"
