"""Which hole of an exchange is refilled next. Pure.

Newest first: it is the one whose candle people look at. Neighbouring holes of an instrument are
one walk. Bounded: beyond the bound the oldest is given up, which its event then says.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from market_ingestor.connectors.gaps import JOIN_IDS, FoundGap
from market_ingestor.connectors.intake import Track
from market_ingestor.connectors.venue import RestRequest

HOLES_MAX: Final = 10_000  # per exchange; a venue that makes more has holes by nature
LATE_ATTEMPTS_MAX: Final = 10  # history that is late by more than these waits is not coming
LATE_FIRST_S: Final = 1.0  # then 2, 4 .. 256: eight minutes in all
FAILED_S_MAX: Final = 60.0  # for a hole whose walks fail while those of others succeed


class Hole(msgspec.Struct, kw_only=True, eq=False):
    """A gap that waits to be refilled.

    Attributes:
        track: Its instrument.
        gap: As it was found and published.
        not_before: Monotonic seconds; before it the venue is not asked.
        late: Walks after which the venue's history did not reach it yet.
        failures: Walks that an error ended.
        reached: Where a walk made way for a newer hole. Only of use where history is asked for by
            time; elsewhere the ids still missing say it.
    """

    track: Track
    gap: FoundGap
    not_before: float = 0.0
    late: int = 0
    failures: int = 0
    reached: RestRequest | None = None

    def put_off(self, until: float) -> None:
        """Put off after an error; the more it had, the longer, so that others have their turn."""
        self.not_before = until + min(2.0**self.failures - 1, FAILED_S_MAX)
        self.failures += 1

    def try_later(self, now: float) -> bool:
        """Put off because the venue's history is late; return whether another try is due."""
        self.late += 1
        self.not_before = now + LATE_FIRST_S * 2.0 ** (self.late - 1)
        return self.late < LATE_ATTEMPTS_MAX


class RefillQueue:
    """The holes of one exchange."""

    def __init__(self, holes_max: int = HOLES_MAX) -> None:
        self._holes: list[Hole] = []
        self._holes_max = holes_max

    def __len__(self) -> int:
        return len(self._holes)

    def __iter__(self) -> Iterator[Hole]:
        return iter(self._holes)

    def put(self, hole: Hole) -> Hole | None:
        """Add a hole; return the one that must be given up for it, if any."""
        self._holes.append(hole)
        if len(self._holes) <= self._holes_max:
            return None
        oldest = min(self._holes, key=lambda each: each.gap.to_time_us)
        self._holes.remove(oldest)
        return oldest

    def take(self, now: float) -> list[Hole]:
        """Take out the newest hole that may be tried, with its neighbours, ascending.

        Returns:
            Holes of one instrument, each less than `JOIN_IDS` from the next; empty when none is
            due.
        """
        ready = [each for each in self._holes if each.not_before <= now]
        if not ready:
            return []
        newest = max(ready, key=lambda each: each.gap.to_time_us)
        siblings = sorted(
            (each for each in ready if each.track is newest.track),
            key=lambda each: each.gap.after_id,
        )
        at = siblings.index(newest)
        begin, end = at, at + 1
        while begin and _near(siblings[begin - 1], siblings[begin]):
            begin -= 1
        while end < len(siblings) and _near(siblings[end - 1], siblings[end]):
            end += 1
        taken = siblings[begin:end]
        self._holes = [each for each in self._holes if each not in taken]
        return taken

    def take_all(self, track: Track) -> list[Hole]:
        """Take out every hole of an instrument."""
        taken = [each for each in self._holes if each.track is track]
        self._holes = [each for each in self._holes if each.track is not track]
        return taken

    def has_newer(self, than: Hole, now: float) -> bool:
        """Return whether a newer hole than this one may be tried now."""
        return any(
            each.not_before <= now and each.gap.to_time_us > than.gap.to_time_us
            for each in self._holes
        )

    def next_at(self) -> float | None:
        """Return when the next hole may be tried, None when there is none."""
        return min((each.not_before for each in self._holes), default=None)


def _near(lower: Hole, upper: Hole) -> bool:
    return upper.gap.after_id - lower.gap.before_id < JOIN_IDS
