"""Holes in the ids of one instrument: when a jump is one, and what is known to lie in it. Pure.

All feeds of the process share one finder per instrument, so what one connection lost and another
delivered is no hole. An id that the venue itself does not list is remembered as absent and is not
asked for again. Times are monotonic seconds (``now``) or UTC microseconds (``_us``).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from market_ingestor.model.intervals import IdIntervals

ID_RESET: Final = 1_000_000  # a jump over more ids than this is a new numbering, not a loss
JOIN_IDS: Final = 1_000  # holes so near each other are one: a page of history spans them


class FoundGap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A hole, or neighbouring holes joined, strictly between two ids.

    Attributes:
        missing: How many of the ids between are absent.
        from_time_us: Not later than the trade with ``after_id``.
        to_time_us: Not earlier than the trade with ``before_id``.
    """

    after_id: int
    before_id: int
    missing: int
    from_time_us: int
    to_time_us: int


class IdReset(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The venue's numbering jumped: nothing can be proved across it and nothing is refilled."""

    after_id: int
    before_id: int
    from_time_us: int
    to_time_us: int


Finding: TypeAlias = FoundGap | IdReset


class _Suspect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Ids that were jumped over and may still arrive until ``due_at``."""

    due_at: float
    after_id: int
    before_id: int
    from_time_us: int
    to_time_us: int


class GapFinder:
    """Which ids of an instrument are there, and which of the others are missing by now.

    Args:
        reorder_wait_s: How long a jump may be filled by late arrivals before it is a gap.

    Attributes:
        is_stopped: Whether jumps mean nothing any more.
    """

    def __init__(self, *, reorder_wait_s: float) -> None:
        self._reorder_wait_s = reorder_wait_s
        self.is_stopped = False
        self._present = IdIntervals()
        self._given_up = IdIntervals()
        self._suspected = IdIntervals()
        self._suspects: deque[_Suspect] = deque()
        self._resets: list[IdReset] = []
        self._newest = -2  # two below the lowest id there can be: nothing follows it directly
        self._newest_time_us = 0
        self._first_live: int | None = None
        self._anchor: int | None = None
        self._anchor_time_us = 0

    def stop(self) -> None:
        """Find nothing from now on: the venue's ids have holes by nature."""
        self.is_stopped = True
        self._suspects.clear()
        self._resets.clear()

    @property
    def newest(self) -> int | None:
        """Return the highest id present, None before the first."""
        return self._present.highest

    @property
    def needs_look(self) -> bool:
        """Return whether `due` has anything to decide, now or later."""
        return bool(self._suspects or self._resets)

    def observe(self, trade_id: int, time_us: int, now: float) -> None:
        """Take note of a live trade."""
        if trade_id == self._newest + 1:
            self._present.add(trade_id)
            self._newest = trade_id
            self._newest_time_us = time_us
            return
        below = self._present.below(trade_id)
        if not self._present.add_range(trade_id, trade_id):
            return
        if self._first_live is None or trade_id < self._first_live:
            self._first_live = trade_id
        from_time_us = self._newest_time_us if below == self._newest else 0
        if trade_id > self._newest:
            self._newest = trade_id
            self._newest_time_us = time_us
        if self.is_stopped:
            return
        if below is None:
            if self._anchor is None or self._anchor > trade_id:
                return  # older than anything known: what lies before our start is no hole of ours
            below, from_time_us = self._anchor, self._anchor_time_us
        from_time_us = min(from_time_us, time_us) or time_us
        if trade_id - below - 1 > ID_RESET:
            self._resets.append(
                IdReset(
                    after_id=below,
                    before_id=trade_id,
                    from_time_us=from_time_us,
                    to_time_us=time_us,
                )
            )
        else:
            self._suspect(below, trade_id, from_time_us, time_us, now + self._reorder_wait_s)

    def heard(self, last_id: int, time_us: int, now: float, *, wait_s: float | None = None) -> None:
        """Take note of the venue's word that its newest trade is ``last_id``.

        Before any trade is known it is an anchor: up to it nothing is a hole of ours, unless the
        stream, still being read back, says otherwise. That trade itself we do not have.

        Args:
            last_id: The newest id at the venue.
            time_us: Its trade time, or now: not before it.
            now: Monotonic seconds.
            wait_s: How long it may still arrive by itself; None for the reorder wait.
        """
        due_at = now + (self._reorder_wait_s if wait_s is None else wait_s)
        highest, from_us = self._present.highest, self._newest_time_us
        if highest is None:
            if self._anchor is None:
                self._anchor, self._anchor_time_us = last_id, time_us
            highest, from_us = self._anchor, self._anchor_time_us
        if 0 < last_id - highest <= ID_RESET:
            self._suspect(highest, last_id + 1, from_us, max(from_us, time_us), due_at)

    def restore(
        self,
        known: Iterable[tuple[int, int]],
        time_of: Callable[[int], int],
        now: float,
        given_up: Iterable[FoundGap] = (),
        *,
        begin: int | None = None,
    ) -> None:
        """Add what the stream already holds; every hole up to the newest id becomes suspect.

        Args:
            known: Intervals (first id, last id) read back.
            time_of: Gives a trade time, UTC microseconds, near any id.
            now: Monotonic seconds.
            given_up: Holes that were asked for in vain: settled, unless more or less is missing
                in one now than its last owner missed, who may have died with trades in flight.
            begin: The id from which on everything was read; below it only some of what is there
                is known. None for the lowest one known.
        """
        first_live = self._first_live
        for first, last in known:
            self._present.add_range(first, last)
        lowest, highest = self._present.lowest, self._present.highest
        if lowest is None or highest is None:
            return
        lowest = max(lowest, begin or 0)
        for gap in given_up:
            holes = self._present.missing(gap.after_id, gap.before_id)
            if gap.after_id >= lowest and _count(holes) == gap.missing:
                self._forgo(gap.after_id, gap.before_id)
                highest = max(highest, gap.before_id - 1)
        if highest > self._newest:
            self._newest = highest
            self._newest_time_us = time_of(highest)
        if self._anchor is not None and 0 < self._anchor - highest <= ID_RESET:
            self._suspect(highest, self._anchor + 1, time_of(highest), self._anchor_time_us, now)
        for first, last in self._present.missing(lowest, highest):
            if last - first >= ID_RESET:
                continue
            after_us, before_us = time_of(first - 1), time_of(last + 1)
            if first_live is not None and last + 1 >= first_live:
                before_us = self._newest_time_us  # the stream does not know this trade's time yet
            self._suspect(
                first - 1, last + 1, min(after_us, before_us), max(after_us, before_us), now
            )

    def give_up(self, after_id: int, before_id: int) -> None:
        """Ask no longer for the ids that are missing strictly between two."""
        self._forgo(after_id, before_id)
        self._newest = max(self._newest, before_id - 1)

    def _forgo(self, after_id: int, before_id: int) -> None:
        for first, last in self.missing(after_id, before_id):
            self._given_up.add_range(first, last)
            self._present.add_range(first, last)

    def given_up(self, after_id: int, before_id: int) -> int:
        """Return how many ids strictly between two were given up, by whatever hole they lay in."""
        return before_id - after_id - 1 - _count(self._given_up.missing(after_id, before_id))

    def add(self, first: int, last: int) -> None:
        """Note ids as settled: refilled, or absent at the venue."""
        self._present.add_range(first, last)
        self._newest = max(self._newest, last)

    def __contains__(self, trade_id: int) -> bool:
        """Return whether an id is there or settled."""
        return trade_id in self._present

    def missing(self, after_id: int, before_id: int) -> list[tuple[int, int]]:
        """Return the ids strictly between two ids that are still missing, as intervals."""
        return self._present.missing(after_id, before_id)

    def due(self, now: float) -> list[Finding]:
        """Return the jumps that nothing filled in time; each is returned once."""
        findings: list[Finding] = [*self._resets]
        self._resets.clear()
        gaps: list[FoundGap] = []
        for _ in range(len(self._suspects)):
            suspect = self._suspects.popleft()
            if suspect.due_at > now:
                self._suspects.append(suspect)
                continue
            gaps += self._confirmed(suspect)
        findings += self._joined(gaps)
        return findings

    def _suspect(
        self, after_id: int, before_id: int, from_time_us: int, to_time_us: int, due_at: float
    ) -> None:
        if self.is_stopped:
            return
        for first, last in self._suspected.missing(after_id, before_id):
            self._suspected.add_range(first, last)
            self._suspects.append(
                _Suspect(
                    due_at=due_at,
                    after_id=first - 1,
                    before_id=last + 1,
                    from_time_us=from_time_us,
                    to_time_us=to_time_us,
                )
            )

    def _confirmed(self, suspect: _Suspect) -> list[FoundGap]:
        return [
            FoundGap(
                after_id=first - 1,
                before_id=last + 1,
                missing=last - first + 1,
                from_time_us=suspect.from_time_us,
                to_time_us=suspect.to_time_us,
            )
            for first, last in self._present.missing(suspect.after_id, suspect.before_id)
        ]

    def _joined(self, gaps: list[FoundGap]) -> list[FoundGap]:
        """Return gaps, ascending, with those near each other made one."""
        joined: list[FoundGap] = []
        for gap in sorted(gaps, key=lambda each: each.after_id):
            if joined and gap.after_id - joined[-1].before_id < JOIN_IDS:
                gap = self._union(joined.pop(), gap)  # noqa: PLW2901 - the two are one now
            joined.append(gap)
        return joined

    def _union(self, lower: FoundGap, upper: FoundGap) -> FoundGap:
        after_id, before_id = lower.after_id, max(lower.before_id, upper.before_id)
        holes = self._present.missing(after_id, before_id)
        return FoundGap(
            after_id=after_id,
            before_id=before_id,
            missing=_count(holes),
            from_time_us=min(lower.from_time_us, upper.from_time_us),
            to_time_us=max(lower.to_time_us, upper.to_time_us),
        )


def _count(holes: Iterable[tuple[int, int]]) -> int:
    """Return how many ids these intervals have."""
    return sum(last - first + 1 for first, last in holes)
