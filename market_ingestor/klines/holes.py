"""Holes between ids, and what fills them. Pure.

Owns the words: a hole between two ids that were read, a run of ids that are all accounted for,
and the change of a span of time when a hole opens or closes.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

from market_ingestor.klines.columns import Columns, is_run
from market_ingestor.model.trade import Source


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


def split(hole: Hole, run: Run, changes: list[Change]) -> Iterator[Hole]:
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
        yield Hole(run.last_id, hole.before_id, min(last_us, hole.to_us), max(last_us, hole.to_us))
    else:
        changes.append(Change("repair", last_us, hole.to_us))
