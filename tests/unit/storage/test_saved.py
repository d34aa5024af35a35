"""What the record of what was saved says of a message."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.bus.reader import Delivery
from market_ingestor.storage.saved import STRETCHES_MAX, Known, Saved, joined, kept, stretches

STORED_US = 1_000_000


def saved(
    since: int = 10, through: int = 20, stored_us: int = STORED_US, created: str = "then"
) -> Saved:
    return Saved(stream="S", created=created, since=since, through=through, stored_us=stored_us)


def delivery(sequence: int, stored_us: int) -> Delivery:
    return Delivery(
        subject="s",
        payload=b"",
        sequence=sequence,
        consumer_sequence=1,
        stored_us=stored_us,
        pending=0,
        reply="r",
    )


@pytest.mark.parametrize(
    ("sequence", "stored_us", "is_covered"),
    [
        (10, 1, False),  # before the record was begun
        (11, 1, True),
        (20, STORED_US, True),
        (20, STORED_US + 1, False),  # the sequence was given out a second time
        (21, STORED_US, False),
    ],
)
def test_a_message_is_covered_by_its_sequence_and_its_time(
    sequence: int, stored_us: int, is_covered: bool
) -> None:
    assert saved().covers(delivery(sequence, stored_us)) is is_covered


def test_what_follows_upon_another_is_one_stretch() -> None:
    taken = [delivery(each, 10 * each) for each in (7, 3, 4, 5, 4, 9)]
    assert [
        (each.since, each.through, each.stored_us) for each in stretches("S", "then", taken)
    ] == [
        (2, 5, 50),
        (6, 7, 70),
        (8, 9, 90),
    ]
    assert stretches("S", "then", []) == []


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([], []),
        ([(0, 10, 5), (10, 20, 6)], [(0, 20, 6)]),
        ([(0, 10, 5), (11, 20, 6)], [(0, 10, 5), (11, 20, 6)]),
        ([(0, 10, 5), (5, 20, 6)], [(0, 20, 6)]),
        ([(0, 20, 5), (5, 8, 5)], [(0, 20, 5)]),
        ([(0, 20, 5), (5, 8, 6)], [(5, 8, 6)]),  # 6 to 8 took the place of others
        ([(0, 20, 5), (0, 8, 6)], [(0, 8, 6)]),
        ([(0, 20, 5), (12, 20, 6), (20, 30, 7)], [(12, 30, 7)]),
    ],
)
def test_stretches_that_touch_are_joined_unless_one_refutes_the_other(
    notes: list[tuple[int, int, int]], expected: list[tuple[int, int, int]]
) -> None:
    found = joined(saved(*each) for each in notes)
    assert [(each.since, each.through, each.stored_us) for each in found] == expected


@given(st.sets(st.integers(1, 60)), st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_what_savers_took_in_turns_is_joined_to_exactly_that(
    taken: set[int], saver_of: list[int]
) -> None:
    notes = [
        each
        for saver in range(4)
        for each in stretches(
            "S", "then", [delivery(n, n) for n in taken if saver_of[n - 1] == saver]
        )
    ]
    found = joined(notes)
    assert {n for each in found for n in range(each.since + 1, each.through + 1)} == taken
    assert all(one.through < other.since for one, other in pairwise(found))


def test_only_the_stream_that_was_written_to_last_counts() -> None:
    old, new = saved(0, 500, 7, created="once"), saved(0, 5, 8)
    other = msgspec.structs.replace(old, stream="T")
    assert kept([old, new, other]) == {new, other}


def test_only_the_longest_stretches_are_kept() -> None:
    short = [saved(2 * each, 2 * each + 1) for each in range(STRETCHES_MAX)]
    long = saved(-100, -50)
    found = kept([*short, long])
    assert len(found) == STRETCHES_MAX
    assert long in found


def test_what_is_known_finds_the_stretches_that_have_a_sequence() -> None:
    known = Known(stretches=[saved(0, 50), saved(10, 20), saved(60, 70)], ends=[50, 50, 70])
    assert [each.since for each in known.holding(15)] == [0, 10]
    assert [each.since for each in known.holding(50)] == [0]
    assert list(known.holding(51)) == list(known.holding(71)) == []
    assert known.is_before([delivery(71, 1)])
    assert not known.is_before([delivery(80, 1), delivery(70, 1)])
