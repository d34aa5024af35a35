"""Rules of `klines.known`."""

from market_ingestor.klines.known import INTERVALS_MAX, MINUTES_KEPT, MINUTES_MAX, KnownIds
from market_ingestor.model.intervals import IdIntervals
from tests.unit.klines.build import columns


def read(known: KnownIds, *ids: int) -> tuple[list[int] | None, list[int], bool]:
    found = known.read(columns(*((trade_id, 0) for trade_id in ids)))
    return (found.fresh, found.copies, found.is_vouched)


def intervals(*ids: int) -> IdIntervals:
    made = IdIntervals()
    for trade_id in ids:
        made.add(trade_id)
    return made


def test_ids_are_fresh_once() -> None:
    known = KnownIds()
    assert read(known, 5, 6) == (None, [], True)
    assert read(known, 7) == (None, [], True)
    assert read(known, 2, 3) == (None, [], True)
    assert read(known, 6, 9, 2) == ([1], [2, 6], True)


def test_what_is_forgotten_cannot_be_vouched_for() -> None:
    known = KnownIds()
    for number in range(INTERVALS_MAX + 1):
        read(known, number * 10)
    assert known.unvouched_to == 9
    assert read(known, 0) == (None, [], False)
    assert read(known, 11) == (None, [], True)


def test_a_record_keeps_the_ids_that_are_not_read_again() -> None:
    known = KnownIds()
    read(known, 1, 2, 3, 4, 5)
    read(known, 8)
    assert known.dump([intervals(4, 5, 8)]) == [(1, 3)]
    other = KnownIds()
    other.load([(1, 3)], [(60_000, 1, 3)], 0)
    assert read(other, 3, 4) == ([1], [3], True)
    assert other.holders(2) == [60_000]


def test_closed_minutes_are_bounded() -> None:
    known = KnownIds()
    for number in range(MINUTES_MAX + 5):
        known.note(number, number, number)
    assert len(known.minutes) == MINUTES_MAX
    assert known.holders(4) == []
    assert known.holders(5) == [5]
    assert len(known.dump_minutes()) == MINUTES_KEPT
    assert known.dump_minutes()[-1] == (MINUTES_MAX + 4, MINUTES_MAX + 4, MINUTES_MAX + 4)


def test_a_late_trade_widens_its_minute() -> None:
    known = KnownIds()
    known.note(0, 5, 7)
    known.note(0, 9, 9)
    known.note(0, 6, 6)
    assert known.minutes == {0: (5, 9)}


def test_made_up_ids_are_not_kept() -> None:
    known = KnownIds()
    for number in range(INTERVALS_MAX + 5):
        known.read_unproven(columns((number * 10, 0)))
    highest = (INTERVALS_MAX + 4) * 10
    assert known.unvouched_to == highest
    assert read(known, highest) == (None, [], False)
