"""Rules of `klines.aggregator`: trades and copies that come when their minute has closed."""

from market_ingestor.klines.window import Fold
from tests.unit.klines.build import MINUTE, SECOND, T0, begun, columns, windows

FIVE = 5 * MINUTE


def test_a_late_trade_is_not_folded_but_makes_its_minute_dirty() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((4, MINUTE + 50_000), received=2 * MINUTE + 6_000)
    assert course.dirty == {("1m", MINUTE): "late"}
    dirty = course.aggregator.closed.dirty.windows["1m", T0 + MINUTE]
    assert dirty.sequence == course.sequence
    assert MINUTE + T0 not in course.aggregator.open.windows


def test_a_longer_window_with_a_dirty_minute_is_recomputed_not_published() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((4, MINUTE + 50_000), received=2 * MINUTE + 6_000)
    course.trades((5, FIVE + 5_000))
    assert windows(course.closed, "5m") == []
    assert course.dirty[("5m", 0)] == "close"


def test_a_longer_window_that_lacks_a_minute_is_recomputed_not_published() -> None:
    course = begun()
    course.aggregator.closed.lose(99, (T0 + MINUTE + SECOND) * 1_000, course.sequence)
    course.trades((3, 2 * MINUTE + 5_000))
    course.aggregator.closed.dirty.settle(
        "1m", T0 + MINUTE, course.sequence, 0.0
    )  # by another's version
    course.trades((4, FIVE + 5_000))
    assert windows(course.closed, "5m") == []
    assert course.dirty[("5m", 0)] == "close"


def test_a_minute_never_taken_in_is_added_by_its_correction_not_exchanged() -> None:
    course = begun()
    course.aggregator.closed.lose(99, (T0 + MINUTE + SECOND) * 1_000, course.sequence)
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((4, 3 * MINUTE + 5_000))
    old, new = Fold.of(columns((2, MINUTE))), Fold.of(columns((2, MINUTE), (9, MINUTE)))
    course.aggregator.correct(T0 + MINUTE, old, new)
    course.aggregator.closed.dirty.settle("1m", T0 + MINUTE, course.sequence, 0.0)
    course.trades((5, FIVE + 5_000))
    assert [each[:2] for each in windows(course.closed, "5m")] == [(0, 5)]


def test_a_minute_another_published_differently_leaves_the_longer_window_to_the_database() -> None:
    course = begun()
    closing = course.trades((3, 2 * MINUTE + 5_000))[0]
    course.aggregator.closed.settle(closing, is_wrong=True)
    course.aggregator.closed.dirty.settle("1m", T0 + MINUTE, course.sequence, 0.0)
    course.trades((4, FIVE + 5_000))
    assert windows(course.closed, "5m") == []
    assert course.dirty == {("5m", 0): "close"}


def test_a_copy_of_a_trade_of_a_closed_minute_costs_nothing() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((2, MINUTE + SECOND), feed="b", received=2 * MINUTE + 6_000)
    assert course.dirty == {}


def test_a_copy_with_another_time_is_not_counted_in_another_minute() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((2, 2 * MINUTE), feed="r", source="rest", prev=1, received=2 * MINUTE + 6_000)
    course.trades((4, 3 * MINUTE + 5_000))
    assert windows(course.closed) == [(MINUTE, 1, "PROVEN")]
    assert course.dirty[("1m", 2 * MINUTE)] == "close"  # what is stored decides


def test_the_minute_that_counted_the_original_of_a_copy_waits_for_what_is_stored() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((2, 2 * MINUTE), feed="r", source="rest", prev=1, received=2 * MINUTE + 6_000)
    assert course.dirty == {("1m", MINUTE): "recompute"}
    assert course.aggregator.closed.dirty.windows["1m", T0 + MINUTE].sequence == course.sequence


def test_the_open_minute_that_counted_the_original_of_a_late_copy_waits_too() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((3, 2 * MINUTE - 1), feed="r", source="rest", prev=2, received=2 * MINUTE + 6_000)
    window = course.aggregator.open.windows[T0 + 2 * MINUTE]
    assert (window.is_doubtful, window.last_sequence) == (True, course.sequence)
    assert course.dirty == {("1m", MINUTE): "recompute"}


def test_a_copy_whose_original_is_not_remembered_doubts_the_neighbours() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    course.aggregator.known.minutes.clear()
    course.trades((2, 2 * MINUTE), feed="r", source="rest", prev=1, received=2 * MINUTE + 6_000)
    assert course.dirty == {("1m", MINUTE): "recompute"}
    assert course.aggregator.open.windows[T0 + 2 * MINUTE].is_doubtful


def test_a_trade_for_a_minute_that_had_none_makes_it_dirty() -> None:
    course = begun()
    course.trades((9, 5 * MINUTE), prev=2)
    course.trades((4, 3 * MINUTE), feed="r", source="rest", prev=3)
    assert course.dirty[("1m", 3 * MINUTE)] == "late"
