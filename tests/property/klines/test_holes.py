"""Holes are exactly the ids not accounted for, whatever the order they come in."""

from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.completeness import Completeness, Evidence

FIRST = 100
batches = st.lists(
    st.tuples(
        st.lists(st.integers(FIRST, FIRST + 60), min_size=1, max_size=6, unique=True),
        st.booleans(),
        st.booleans(),
    ),
    max_size=25,
)


def columns(ids: list[int]) -> Columns:
    return Columns(ids, [each * 1_000 for each in ids], [], [], [])


@given(batches)
@settings(max_examples=300, deadline=None)
def test_holes_are_the_ids_not_accounted_for(
    course: list[tuple[list[int], bool, bool]],
) -> None:
    state = Completeness()
    state.read(columns([FIRST]), FIRST - 1, "ws")
    accounted = {FIRST}
    for unsorted_ids, is_rest, is_sorted in course:
        ids = sorted(unsorted_ids) if is_sorted else unsorted_ids
        state.read(columns(ids), None, "rest" if is_rest else "ws")
        if is_rest and ids == sorted(ids):
            accounted |= set(range(ids[0], ids[-1] + 1))
        accounted |= set(ids)
        missing = set(range(FIRST, max(accounted))) - accounted
        held = {each for hole in state.holes for each in range(hole.after_id + 1, hole.before_id)}
        assert held == missing
        assert all(hole.from_us <= hole.to_us for hole in state.holes)
        assert state.holes == sorted(state.holes)
    state.confirm(10**9)
    for each in accounted:
        if {each - 1, each, each + 1} <= accounted and each > FIRST:
            assert state.judge(each * 1_000 - 999, each * 1_000) is not Evidence.HOLED
