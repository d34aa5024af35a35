"""Where a symbol has more holes than are kept: one span of ids, until the database is asked. Pure.

Ids that were accounted for since the span began are noted: a refill may prove that ids do not
exist, which the database cannot know.
"""

from collections.abc import Sequence
from typing import Final

from market_ingestor.klines.holes import Hole, Run
from market_ingestor.model.intervals import IdIntervals

ACCOUNTED_MAX: Final = 256  # runs; beyond it the lowest is forgotten, and may seem missing for good
LOOK_S: Final = 2.0  # before the database is asked, doubled each time it has nothing new
LOOK_MAX_S: Final = 600.0


class Forgotten:
    """A span between two ids in which something may be missing.

    Attributes:
        span: From the id before its first hole to the one behind its last.
        accounted: Ids in it that were read, or proved not to exist, since.
        sequence: Everything the savers must have stored before the next look, None until that
            is decided.
        due_at: Monotonic seconds of the next look.
        pause_s: Between looks.
    """

    __slots__ = ("accounted", "due_at", "pause_s", "sequence", "span")

    def __init__(self, span: Hole) -> None:
        self.span = span
        self.accounted = IdIntervals(ACCOUNTED_MAX)
        self.sequence: int | None = None
        self.due_at = 0.0
        self.pause_s = LOOK_S

    def widen(self, hole: Hole) -> None:
        """Let the span reach to another hole."""
        mine = self.span
        self.span = Hole(
            min(mine.after_id, hole.after_id),
            max(mine.before_id, hole.before_id),
            min(mine.from_us, hole.from_us),
            max(mine.to_us, hole.to_us),
        )

    def note(self, run: Run) -> None:
        """Note what is accounted for, as far as it lies here."""
        first = max(run.first_id, self.span.after_id + 1)
        last = min(run.last_id, self.span.before_id - 1)
        if first <= last:
            self.accounted.add_range(first, last)
            self.pause_s = LOOK_S

    def touches(self, from_us: int, to_us: int) -> bool:
        """Return whether a hole may reach into ``[from_us, to_us)``."""
        return self.span.from_us < to_us and self.span.to_us >= from_us

    def postpone(self, now: float) -> None:
        """Decide when to look next."""
        self.sequence = None
        self.due_at = now + self.pause_s
        self.pause_s = min(2 * self.pause_s, LOOK_MAX_S)

    def recall(
        self, gaps: Sequence[Hole], *, room: int, is_all: bool
    ) -> tuple[list[Hole], Hole | None]:
        """Return the first holes there really are, and the span that stays forgotten.

        Args:
            gaps: Ids the database lacks, ascending.
            room: Most holes to return.
            is_all: There are no more gaps than these.
        """
        holes = [hole for gap in gaps for hole in self._unaccounted(gap)]
        found, more = holes[:room], holes[room:]
        if more:
            start_id, start_us = more[0].after_id, more[0].from_us
        elif is_all:
            return found, None
        else:
            start_id, start_us = gaps[-1].before_id, gaps[-1].to_us
        return found, self.span._replace(after_id=start_id, from_us=start_us)

    def _unaccounted(self, gap: Hole) -> list[Hole]:
        missing = self.accounted.missing(gap.after_id, gap.before_id)
        return [Hole(first - 1, last + 1, gap.from_us, gap.to_us) for first, last in missing]
