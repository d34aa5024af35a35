"""A bounded set of trade ids, kept as intervals. Pure.

One interval when all is well. Never a high-water mark: that would throw away what a second
connection or a refill brings behind it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

# Each is 2 integers; ids without holes need one. Beyond it the lowest is forgotten, which only
# lets a duplicate through.
INTERVALS_MAX: Final = 1_000


class IdIntervals:
    """Ids that are present, as disjoint intervals that do not touch, ascending.

    Args:
        intervals_max: Most intervals kept; beyond it the lowest is forgotten.

    Attributes:
        forgotten: How many intervals the bound has cost so far.
    """

    __slots__ = ("_firsts", "_lasts", "_max", "forgotten")

    def __init__(self, intervals_max: int = INTERVALS_MAX) -> None:
        self._max = intervals_max
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.forgotten = 0

    def __len__(self) -> int:
        """Return the number of intervals."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield each interval as (first id, last id), both present."""
        return zip(self._firsts, self._lasts, strict=True)

    def __contains__(self, trade_id: int) -> bool:
        """Return whether this id is present."""
        at = bisect_right(self._firsts, trade_id) - 1
        return at >= 0 and trade_id <= self._lasts[at]

    @property
    def lowest(self) -> int | None:
        """Return the lowest id present, None when there is none."""
        return self._firsts[0] if self._firsts else None

    @property
    def highest(self) -> int | None:
        """Return the highest id present, None when there is none."""
        return self._lasts[-1] if self._lasts else None

    def below(self, trade_id: int) -> int | None:
        """Return the highest id present that is less than ``trade_id``, None when there is none."""
        at = bisect_left(self._firsts, trade_id) - 1
        return min(self._lasts[at], trade_id - 1) if at >= 0 else None

    def add(self, trade_id: int) -> bool:
        """Add one id; return whether it was absent."""
        lasts = self._lasts
        if lasts and trade_id == lasts[-1] + 1:  # nearly always
            lasts[-1] = trade_id
            return True
        return self.add_range(trade_id, trade_id) == 1

    def add_range(self, first: int, last: int) -> int:
        """Add every id of ``first .. last``; return how many of them were absent."""
        if last < first:
            return 0
        firsts, lasts = self._firsts, self._lasts
        if lasts and first == lasts[-1] + 1:  # nearly always
            lasts[-1] = last
            return last - first + 1
        low = bisect_left(lasts, first - 1)  # the first interval that touches or overlaps
        high = bisect_right(firsts, last + 1)  # one past the last that does
        present = sum(
            min(lasts[at], last) - max(firsts[at], first) + 1
            for at in range(low, high)
            if lasts[at] >= first and firsts[at] <= last
        )
        if low < high:
            first_joined, last_joined = min(firsts[low], first), max(lasts[high - 1], last)
        else:
            first_joined, last_joined = first, last
        firsts[low:high] = [first_joined]
        lasts[low:high] = [last_joined]
        if len(firsts) > self._max:
            del firsts[0], lasts[0]
            self.forgotten += 1
        return last - first + 1 - present

    def extend(self, last: int) -> None:
        """Add the ids that directly follow the highest present, up to ``last``."""
        self._lasts[-1] = last

    def missing(self, after: int, before: int) -> list[tuple[int, int]]:
        """Return the absent ids strictly between two ids as intervals (first, last), ascending."""
        holes: list[tuple[int, int]] = []
        cursor = after + 1
        for at in range(bisect_left(self._lasts, cursor), len(self._firsts)):
            if self._firsts[at] >= before:
                break
            if self._firsts[at] > cursor:
                holes.append((cursor, self._firsts[at] - 1))
            cursor = self._lasts[at] + 1
        if cursor < before:
            holes.append((cursor, before - 1))
        return holes
