"""What is known to be missing of one symbol, judged from ids and marks in the stream. Pure.

For venues whose ids grow by one it keeps the open holes between ids read; for others it asks
whether one feed was up. It never looks at prices and knows no windows, only spans of time.
"""

from bisect import bisect_left
from collections.abc import Sequence
from enum import Enum
from typing import Final

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.feeds import Feeds
from market_ingestor.klines.forgotten import Forgotten
from market_ingestor.klines.holes import Change, Hole, Run, runs, split
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


class Completeness:
    """The evidence for one symbol.

    Attributes:
        is_contiguous: The venue's ids grow by one, so a jump is a hole.
        has_holes: So a feed said by then, but found holes in them by nature: a jump proves nothing
            any more, and it is the feeds that count.
        last_id: Highest id read, with its time ``last_us``.
        since_us: Nothing can be said of spans that begin before it.
        proven_us: The symbol's feeds were heard up to here, with all they had.
        forgotten: Where there were more holes than are kept; the database knows which.
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
        self.forgotten: Forgotten | None = None
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
            if self.forgotten is not None:
                self.forgotten.note(run)
        return changes

    def ends_at(self, trade_id: int) -> bool:
        """Return whether ids grow by one and this is the highest that was read."""
        return (
            self.is_contiguous
            and self.last_id == trade_id
            and not self.has_holes
            and self.forgotten is None
        )

    def extend(self, last_id: int, last_us: int) -> None:
        """Take in ids that directly follow the highest, up to ``last_id``, of a live feed."""
        self.last_id, self.last_us = last_id, last_us

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
            oldest = next(iter(self.lost))
            at_us = self.lost.pop(oldest)
            self._forget(Hole(oldest - 1, oldest + 1, at_us, at_us))

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
        if self.forgotten is not None and self.forgotten.touches(from_us, to_us):
            return Evidence.UNKNOWN
        if self.has_holes or not self.is_contiguous:
            return Evidence.PROVEN if self.feeds.cover(from_us, to_us) else Evidence.UNKNOWN
        if self.since_us is None or from_us < self.since_us:
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
        self.forgotten = None
        self.since_us = run.first_us
        self.last_id, self.last_us = run.last_id, run.last_us

    def _open(self, hole: Hole, changes: list[Change]) -> None:
        self.holes.append(hole)  # ascending: a new one lies behind all others
        changes.append(Change("gap", hole.from_us, hole.to_us))
        self._bound()

    def _bound(self) -> None:
        while len(self.holes) > HOLES_MAX:
            self._forget(self.holes.pop(0))

    def _forget(self, hole: Hole) -> None:
        if self.forgotten is None:
            self.forgotten = Forgotten(hole)
        else:
            self.forgotten.widen(hole)

    def recall(self, gaps: Sequence[Hole], *, is_all: bool) -> tuple[int, int] | None:
        """Take in which ids the database lacks where holes were forgotten.

        As many as fill half of the room become holes again; the rest stays forgotten.

        Args:
            gaps: Ascending.
            is_all: There are no more than these.

        Returns:
            The span of time that can be judged again, None when nothing was gained.
        """
        forgotten = self.forgotten
        if forgotten is None:
            return None
        room = max(HOLES_MAX // 2 - len(self.holes), 0)
        if not room and gaps:
            return None
        found, rest = forgotten.recall(gaps, room=room, is_all=is_all)
        begin, end = forgotten.span.from_us, forgotten.span.to_us
        if rest is None:
            self.forgotten = None
        else:
            end = rest.from_us
            forgotten.span = rest
        self.holes = sorted(found + self.holes)
        return begin, end

    def _fill(self, run: Run, changes: list[Change]) -> None:
        """Take a run out of the holes it lies in."""
        low = bisect_left(self.holes, run.first_id, key=lambda hole: hole.before_id - 1)
        high = bisect_left(self.holes, run.last_id, lo=low, key=lambda hole: hole.after_id)
        left: list[Hole] = []
        for hole in self.holes[low:high]:
            left += split(hole, run, changes)
        self.holes[low:high] = left
        self._bound()
