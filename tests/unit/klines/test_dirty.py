"""Rules of `klines.dirty`."""

from market_ingestor.klines.dirty import DIRTY_MAX, DirtyWindows, Rescan
from tests.unit.klines.build import MINUTE


def add(dirty: DirtyWindows, opened: int, sequence: int, period: str = "1m") -> None:
    dirty.add(period, opened, first_sequence=sequence, sequence=sequence, reason="late")


def test_several_marks_of_a_window_are_gathered() -> None:
    dirty = DirtyWindows()
    for sequence in (5, 9, 7):
        add(dirty, 0, sequence)
    assert len(dirty) == 1
    assert dirty.windows["1m", 0].sequence == 9
    assert dirty.first_sequence() == 5


def test_a_settled_window_is_clean() -> None:
    dirty = DirtyWindows()
    add(dirty, 0, 5)
    dirty.settle("1m", 0, 5, due_at=1.0)
    assert len(dirty) == 0
    assert dirty.first_sequence() is None


def test_a_mark_that_came_during_the_correction_stays() -> None:
    dirty = DirtyWindows()
    add(dirty, 0, 5)
    dirty.windows["1m", 0].is_taken = True
    add(dirty, 0, 6)
    dirty.settle("1m", 0, 5, due_at=3.0)
    assert dirty.windows["1m", 0].due_at == 3.0
    assert not dirty.windows["1m", 0].is_taken


def test_a_postponed_window_stays() -> None:
    dirty = DirtyWindows()
    add(dirty, 0, 5)
    dirty.windows["1m", 0].is_taken = True
    dirty.postpone("1m", 0, due_at=2.0)
    assert not dirty.windows["1m", 0].is_taken
    assert len(dirty) == 1


def test_beyond_the_limit_the_oldest_minutes_melt_into_a_range() -> None:
    dirty = DirtyWindows()
    for number in range(DIRTY_MAX + 3):
        add(dirty, number * MINUTE, number + 1)
    assert len(dirty.windows) == DIRTY_MAX
    assert dirty.overflows == 3
    assert dirty.rescan == Rescan(0, 3 * MINUTE, 1, 3)
    assert dirty.first_sequence() == 1


def test_a_longer_window_melts_into_all_of_its_minutes() -> None:
    dirty = DirtyWindows()
    for number in range(DIRTY_MAX + 1):
        add(dirty, number * 5 * MINUTE, number + 1, "5m")
    assert dirty.rescan == Rescan(0, 5 * MINUTE, 1, 1)


def test_a_range_shrinks_as_it_is_searched() -> None:
    dirty = DirtyWindows()
    dirty.add_range(0, 10 * MINUTE, 4, 8)
    assert dirty.has_minutes(9 * MINUTE, 20 * MINUTE)
    dirty.scanned(4 * MINUTE)
    assert dirty.rescan == Rescan(4 * MINUTE, 10 * MINUTE, 4, 8)
    dirty.scanned(10 * MINUTE)
    assert not dirty.has_minutes(0, 20 * MINUTE)
    assert len(dirty) == 0


def test_longer_windows_are_no_minutes() -> None:
    dirty = DirtyWindows()
    add(dirty, 0, 1, "5m")
    assert not dirty.has_minutes(0, 5 * MINUTE)


def test_an_empty_range_is_none() -> None:
    dirty = DirtyWindows()
    dirty.add_range(120_000, 120_000, 5, 5)
    dirty.add_range(120_000, 60_000, 5, 5)
    assert dirty.rescan is None
