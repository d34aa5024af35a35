"""Which ids of a symbol were read before, and which closed minute holds them. Pure.

A copy of a trade may carry another time than the trade, and the database keeps the time of
whichever it stored first. So a known id is no licence to drop it: it must be found where it is.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from market_ingestor.klines.columns import Columns, is_run
from market_ingestor.model.intervals import IdIntervals

INTERVALS_MAX: Final = 64  # of ids read; one when all is well
MINUTES_MAX: Final = 64  # over an hour, within which the database looks for a stored id
MINUTES_KEPT: Final = 16  # in a resume record, which holds many symbols


class Sorted(NamedTuple):
    """The ids of a batch.

    Attributes:
        fresh: Rows not read before, None for all of them.
        copies: Ids that were.
        is_vouched: No row in ``fresh`` can have been read before.
    """

    fresh: list[int] | None
    copies: list[int]
    is_vouched: bool


_ALL_NEW: Final = Sorted(None, [], is_vouched=True)  # made once: nearly every batch is that


class KnownIds:
    """The ids of one symbol; what they tell is of use only where they grow by one.

    Attributes:
        unvouched_to: Ids up to here may have been read although they are not among these.
        minutes: Closed minutes with their lowest and highest id, oldest first.
    """

    __slots__ = ("_seen", "minutes", "unvouched_to")

    def __init__(self) -> None:
        self._seen = IdIntervals(INTERVALS_MAX)
        self.unvouched_to = -1
        self.minutes: dict[int, tuple[int, int]] = {}

    def forget_to(self, trade_id: int) -> None:
        """Vouch no longer for ids up to this one."""
        self.unvouched_to = max(self.unvouched_to, trade_id)

    def ends_at(self, trade_id: int) -> bool:
        """Return whether this is the highest id read, and all behind it can be vouched for."""
        return self._seen.highest == trade_id and trade_id >= self.unvouched_to

    def extend(self, last_id: int) -> None:
        """Take in the ids that directly follow the highest, up to ``last_id``."""
        self._seen.extend(last_id)

    def read(self, columns: Columns) -> Sorted:
        """Take in the ids of a batch and return how they are known."""
        ids, seen = columns.ids, self._seen
        if ids[0] > self.unvouched_to and is_run(ids):
            if ids[0] - 1 == seen.highest:  # nearly always
                seen.add_range(ids[0], ids[-1])
                return _ALL_NEW
            if seen.missing(ids[0] - 1, ids[-1] + 1) == [(ids[0], ids[-1])]:
                seen.add_range(ids[0], ids[-1])
                self._bound()
                return Sorted(None, [], is_vouched=True)
        unvouched_to = self.unvouched_to
        fresh = [row for row, trade_id in enumerate(ids) if seen.add(trade_id)]
        self._bound()
        is_vouched = all(ids[row] > unvouched_to for row in fresh)
        if len(fresh) == len(ids):
            return Sorted(None, [], is_vouched)
        return Sorted(fresh, sorted(set(ids).difference(ids[row] for row in fresh)), is_vouched)

    def read_unproven(self, columns: Columns) -> None:
        """Take in ids that may be made up: once too many have gaps, they are not kept."""
        if self._seen.forgotten:
            self.forget_to(max(columns.ids))
        else:
            self.read(columns)

    def _bound(self) -> None:
        if self._seen.forgotten and self._seen.lowest is not None:
            self.forget_to(self._seen.lowest - 1)

    def note(self, opened: int, lowest: int, highest: int) -> None:
        """Note ids of a closed minute, besides those noted before."""
        low, high = self.minutes.get(opened, (lowest, highest))
        self.minutes[opened] = (min(low, lowest), max(high, highest))
        while len(self.minutes) > MINUTES_MAX:
            del self.minutes[next(iter(self.minutes))]

    def holders(self, trade_id: int) -> list[int]:
        """Return the closed minutes that may hold an id, as far as they are remembered."""
        return [at for at, (low, high) in self.minutes.items() if low <= trade_id <= high]

    # -- what a resume record keeps

    def dump(self, still_open: Iterable[IdIntervals]) -> list[tuple[int, int]]:
        """Return the ids read, without those a replay will bring again."""
        inside = IdIntervals(INTERVALS_MAX)
        for ids in still_open:
            for first, last in ids:
                inside.add_range(first, last)
        return [part for first, last in self._seen for part in inside.missing(first - 1, last + 1)]

    def dump_minutes(self) -> list[tuple[int, int, int]]:
        """Return the newest closed minutes as (open time, lowest id, highest id)."""
        skipped = max(len(self.minutes) - MINUTES_KEPT, 0)
        return [(at, low, high) for at, (low, high) in islice(self.minutes.items(), skipped, None)]

    def load(
        self,
        seen: Iterable[tuple[int, int]],
        minutes: Iterable[tuple[int, int, int]],
        unvouched_to: int,
    ) -> None:
        """Take up what was kept."""
        self.unvouched_to = unvouched_to
        for first, last in seen:
            self._seen.add_range(first, last)
        self._bound()
        self.minutes = {at: (low, high) for at, low, high in minutes}
