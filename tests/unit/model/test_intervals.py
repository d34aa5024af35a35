"""Id intervals behave as a set of integers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.model.intervals import IdIntervals

IDS = st.integers(min_value=0, max_value=60)
RANGES = st.lists(st.tuples(IDS, st.integers(min_value=0, max_value=8)), max_size=20)


def filled(ranges: list[tuple[int, int]]) -> tuple[IdIntervals, set[int]]:
    intervals, ids = IdIntervals(), set[int]()
    for first, length in ranges:
        wanted = set(range(first, first + length + 1))
        assert intervals.add_range(first, first + length) == len(wanted - ids)
        ids |= wanted
    return intervals, ids


@given(RANGES)
def test_holds_what_a_set_holds(ranges: list[tuple[int, int]]) -> None:
    intervals, ids = filled(ranges)
    assert {each for first, last in intervals for each in range(first, last + 1)} == ids
    assert all((each in intervals) == (each in ids) for each in range(-1, 75))


@given(RANGES)
def test_intervals_never_touch(ranges: list[tuple[int, int]]) -> None:
    pairs = list(filled(ranges)[0])
    assert all(first <= last for first, last in pairs)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(pairs))


@given(RANGES, IDS, IDS)
def test_missing_is_what_lies_between_and_is_absent(
    ranges: list[tuple[int, int]], after: int, before: int
) -> None:
    intervals, ids = filled(ranges)
    missing = intervals.missing(after, before)
    found = [each for first, last in missing for each in range(first, last + 1)]
    assert found == [each for each in range(after + 1, before) if each not in ids]


@given(RANGES, IDS)
def test_below_is_the_highest_lower_id(ranges: list[tuple[int, int]], trade_id: int) -> None:
    intervals, ids = filled(ranges)
    assert intervals.below(trade_id) == max((x for x in ids if x < trade_id), default=None)


@given(st.lists(IDS, max_size=40))
def test_add_tells_what_is_new(ids: list[int]) -> None:
    intervals, seen = IdIntervals(), set[int]()
    for each in ids:
        assert intervals.add(each) == (each not in seen)
        seen.add(each)
    assert intervals.highest == max(seen, default=None)
    assert intervals.lowest == min(seen, default=None)


def test_the_lowest_interval_is_forgotten_beyond_the_bound() -> None:
    intervals = IdIntervals(2)
    for each in (1, 5, 9):
        assert intervals.add(each)
    assert list(intervals) == [(5, 5), (9, 9)]
    assert intervals.forgotten == 1
    assert 1 not in intervals
