"""What is known to be missing of one symbol, judged from ids and marks in the stream. Pure.

For venues whose ids grow by one it keeps the open holes between ids read; for others it asks
whether one feed was up. It never looks at prices and knows no windows, only spans of time.
"""

from bisect import bisect_left
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from market_ingestor.klines.columns import Columns, is_run
from market_ingestor.klines.feeds import Feeds
from market_ingestor.model.trade import Source

LOST_MAX: Final = 256  # trades the database refused; a healthy one refuses none
HOLES_MAX: Final = 256  # each about 200 bytes here and 60 in the resume record
RESET: Final = 1_000_000  # a longer jump is a new id sequence of the venue, not a hole
# Made-up ids continue within a millisecond only; ids that continue over a second are the venue's.
CONTINUING_US: Final = 1_000_000


class Evidence(Enum):
    """What can be said of a span of time."""

    PROVEN = "nothing is missing"
    UNCONFIRMED = "nothing is missing so far, but nobody was heard after its end"
    UNKNOWN = "not watched from its start on"
    HOLED = "something is missing"


class Hole(NamedTuple):
    """Ids strictly between two that were read, with the trade times of these two."""

    after_id: int
    before_id: int
    from_us: int
    to_us: int


class Change(NamedTuple):
    """A span whose evidence changed: a hole was found there, or (part of) one closed."""

    reason: Literal["gap", "repair"]
    from_us: int
    to_us: int


class Run(NamedTuple):
    """Consecutive ids, all accounted for, with the times of the trades at its ends."""

    first_id: int
    last_id: int
    first_us: int
    last_us: int


def runs(columns: Columns, prev_id: int | None, source: Source) -> list[Run]:
    """Return what a batch accounts for, ascending.

    In a ``rest`` batch the venue itself listed the trades, and ``prev_id`` before them, next to
    each other: ids between them do not exist.
    """
    ids, times = columns.ids, columns.times
    if is_run(ids) and source == "ws":
        return [Run(ids[0], ids[-1], times[0], times[-1])]
    if source == "rest" and all(left < right for left, right in pairwise(ids)):
        start = ids[0] if prev_id is None or prev_id >= ids[0] else prev_id + 1
        return [Run(start, ids[-1], times[0], times[-1])]
    return list(_runs(sorted(set(zip(ids, times, strict=True)))))


def _runs(rows: list[tuple[int, int]]) -> Iterator[Run]:
    start = before = rows[0]
    for row in rows[1:]:
        if row[0] > before[0] + 1:
            yield Run(start[0], before[0], start[1], before[1])
            start = row
        before = row
    yield Run(start[0], before[0], start[1], before[1])


class Completeness:
    """The evidence for one symbol.

    Attributes:
        is_contiguous: The venue's ids grow by one, so a jump is a hole.
        has_holes: So a feed said by then, but found holes in them by nature: a jump proves nothing
            any more, and it is the feeds that count.
        last_id: Highest id read, with its time ``last_us``.
        since_us: Nothing can be said of spans that begin before it.
        proven_us: The symbol's feeds were heard up to here, with all they had.
        forgotten_us: Holes before it may have been forgotten.
        holes_forgotten: How many the bound has cost.
        lost: Ids that were read but cannot be stored, with their times.
        feeds: Who was up when; for venues without such ids the only evidence.
    """

    def __init__(self) -> None:
        self.feeds = Feeds()
        self.is_contiguous = False
        self.has_holes = False
        self.last_id: int | None = None
        self.last_us = 0
        self.since_us: int | None = None
        self.proven_us = 0
        self.forgotten_us = 0
        self.holes_forgotten = 0
        self.holes: list[Hole] = []
        self.lost: dict[int, int] = {}

    def read(
        self, columns: Columns, prev_id: int | None, source: Source, n: int = 1
    ) -> list[Change]:
        """Take in a batch, its feed's ``n``-th, and return the spans whose evidence changed."""
        accounted = runs(columns, prev_id, source)
        if source == "ws" and (n > 1 or prev_id is not None):
            self._hear_of_holes(accounted, has_holes=prev_id is None)
        if not self.is_contiguous and not self._recognise(accounted, prev_id):
            return []
        changes: list[Change] = []
        for run in accounted:
            self._cover(run, changes)
        return changes

    def stored(self, columns: Columns) -> list[Change]:
        """Take in trades read from the database: their ids are there, whoever delivered them."""
        changes: list[Change] = []
        for trade_id in self.lost.keys() & set(columns.ids) if self.lost else ():
            time_us = self.lost.pop(trade_id)
            changes.append(Change("repair", time_us, time_us))
        if self.is_contiguous and self.holes:
            for run in runs(columns, None, "ws"):
                self._fill(run, changes)
        return changes

    def lose(self, trade_id: int, time_us: int) -> None:
        """Note a trade that was read but cannot be stored: it is missing for good."""
        self.lost[trade_id] = time_us
        while len(self.lost) > LOST_MAX:
            self.forgotten_us = max(self.forgotten_us, self.lost.pop(next(iter(self.lost))))

    def has_lost(self, from_us: int, to_us: int) -> bool:
        """Return whether a trade of ``[from_us, to_us)`` cannot be stored."""
        return any(from_us <= time_us < to_us for time_us in self.lost.values())

    def confirm(self, heard_us: int) -> None:
        """Note that up to ``heard_us`` nothing came after the last id read."""
        self.proven_us = max(self.proven_us, heard_us)

    def judge(self, from_us: int, to_us: int) -> Evidence:
        """Return what can be said of ``[from_us, to_us)``."""
        if self.lost and self.has_lost(from_us, to_us):
            return Evidence.HOLED
        if any(hole.from_us < to_us and hole.to_us >= from_us for hole in self.holes):
            return Evidence.HOLED
        if self.has_holes or not self.is_contiguous:
            return Evidence.PROVEN if self.feeds.cover(from_us, to_us) else Evidence.UNKNOWN
        if self.since_us is None or from_us < max(self.since_us, self.forgotten_us):
            return Evidence.UNKNOWN
        return Evidence.PROVEN if self.proven_us >= to_us else Evidence.UNCONFIRMED

    def _hear_of_holes(self, accounted: list[Run], *, has_holes: bool) -> None:
        """Follow what a feed says of the ids: ``prev_id`` is absent where they prove nothing."""
        if self.has_holes and not has_holes:
            first = accounted[0]
            self.since_us = self.last_us = first.first_us
            self.last_id = first.first_id - 1
        self.has_holes = has_holes

    def _recognise(self, accounted: list[Run], prev_id: int | None) -> bool:
        """Find out whether ids grow by one; until then a jump only restarts the evidence."""
        if prev_id is not None:
            self.is_contiguous = True
            return True
        for run in accounted:
            continues = self.last_id is not None and run.first_id == self.last_id + 1
            if continues and abs(run.first_us - self.last_us) >= CONTINUING_US:
                self.is_contiguous = True
                return True
            if not continues:
                self.since_us = run.first_us
            if self.last_id is None or run.last_id > self.last_id:
                self.last_id, self.last_us = run.last_id, run.last_us
        return False

    def _cover(self, run: Run, changes: list[Change]) -> None:
        last_id = self.last_id
        if last_id is None:
            self.since_us = run.first_us
        elif run.first_id > last_id + RESET or (
            run.last_id < last_id - RESET and run.first_us > self.last_us
        ):
            self._reset(run)
            return
        elif run.first_id > last_id + 1:
            if not self.has_holes:
                first_us, last_us = sorted((self.last_us, run.first_us))
                self._open(Hole(last_id, run.first_id, first_us, last_us), changes)
        elif self.holes and run.first_id <= last_id:
            self._fill(run, changes)
        if last_id is None or run.last_id > last_id:
            self.last_id, self.last_us = run.last_id, run.last_us

    def _reset(self, run: Run) -> None:
        self.holes.clear()
        self.since_us = run.first_us
        self.last_id, self.last_us = run.last_id, run.last_us

    def _open(self, hole: Hole, changes: list[Change]) -> None:
        self.holes.append(hole)  # ascending: a new one lies behind all others
        changes.append(Change("gap", hole.from_us, hole.to_us))
        self._bound()

    def _bound(self) -> None:
        while len(self.holes) > HOLES_MAX:
            oldest = self.holes.pop(0)
            self.forgotten_us = max(self.forgotten_us, oldest.to_us)
            self.holes_forgotten += 1

    def _fill(self, run: Run, changes: list[Change]) -> None:
        """Take a run out of the holes it lies in."""
        low = bisect_left(self.holes, run.first_id, key=lambda hole: hole.before_id - 1)
        high = bisect_left(self.holes, run.last_id, lo=low, key=lambda hole: hole.after_id)
        left: list[Hole] = []
        for hole in self.holes[low:high]:
            left += self._split(hole, run, changes)
        self.holes[low:high] = left
        self._bound()

    @staticmethod
    def _split(hole: Hole, run: Run, changes: list[Change]) -> Iterator[Hole]:
        """Yield what remains of a hole that a run reaches into."""
        starts_inside = run.first_id > hole.after_id
        ends_inside = run.last_id < hole.before_id
        first_us = run.first_us if starts_inside else hole.from_us
        last_us = run.last_us if ends_inside else hole.to_us
        if run.first_id > hole.after_id + 1:
            yield Hole(
                hole.after_id,
                run.first_id,
                min(hole.from_us, first_us),
                max(hole.from_us, first_us),
            )
        else:
            changes.append(Change("repair", hole.from_us, first_us))
        if run.last_id < hole.before_id - 1:
            yield Hole(
                run.last_id, hole.before_id, min(last_us, hole.to_us), max(last_us, hole.to_us)
            )
        else:
            changes.append(Change("repair", last_us, hole.to_us))
