"""The greatest or least value of a sliding range. Pure."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from decimal import Decimal


class Extreme:
    """The greatest (or least) value of a sliding range, amortized O(1).

    Keeps only values that no later one reaches, so the first is the answer.

    Args:
        reaches: ``operator.ge`` for the greatest, ``operator.le`` for the least.
    """

    __slots__ = ("_items", "_reaches")

    def __init__(self, reaches: Callable[[Decimal, Decimal], bool]) -> None:
        self._reaches = reaches
        self._items: deque[tuple[int, Decimal]] = deque()  # by place

    @property
    def value(self) -> Decimal | None:
        """Return the extreme, None when the range is empty."""
        return self._items[0][1] if self._items else None

    def put(self, at: int, value: Decimal) -> None:
        """Add a value at a place of the range, nearly always the last."""
        items, reaches = self._items, self._reaches
        later: list[tuple[int, Decimal]] = []
        while items and items[-1][0] > at:
            later.append(items.pop())
        if not (later and reaches(later[-1][1], value)) and not (
            items and items[-1][0] == at and reaches(items[-1][1], value)
        ):
            while items and reaches(value, items[-1][1]):
                items.pop()
            items.append((at, value))
        while later:
            items.append(later.pop())

    def since(self, begin: int) -> Decimal | None:
        """Return the extreme of the places from ``begin`` on, None when they are empty."""
        row = bisect_left(self._items, (begin,))
        return self._items[row][1] if row < len(self._items) else None

    def drop_before(self, at: int) -> None:
        """Take out what lies before a place."""
        items = self._items
        while items and items[0][0] < at:
            items.popleft()

    def clear(self) -> None:
        """Take out everything."""
        self._items.clear()
