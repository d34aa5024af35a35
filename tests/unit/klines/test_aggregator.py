"""Rules of `klines.aggregator`: what closes, what becomes dirty, what is open."""

from decimal import Decimal

from market_ingestor.klines.aggregator import FLAT_MS_MAX, LOOK_BACK_MS
from market_ingestor.klines.dirty import Rescan
from market_ingestor.klines.open_minutes import DEFERRED_MAX, OPEN_MAX
from market_ingestor.klines.window import Fold
from tests.unit.klines.build import HOUR, MINUTE, SECOND, T0, Course, begun, columns, rules, windows

FIVE = 5 * MINUTE


# -- closing


def test_a_minute_closes_when_a_trade_comes_lateness_behind_its_end() -> None:
    course = Course()
    course.trades((1, SECOND))
    assert course.trades((2, MINUTE + 1_999)) == []
    assert windows(course.trades((3, MINUTE + 2_000))) == [(0, 1, "UNKNOWN")]


def test_a_minute_closes_by_the_marks_of_its_feed() -> None:
    course = begun()
    course.marks(MINUTE + 4 * SECOND, 2 * MINUTE + 2 * SECOND)
    assert course.closed == []
    course.mark(2 * MINUTE + 3 * SECOND)
    assert windows(course.closed) == [(MINUTE, 1, "PROVEN")]


def test_a_trade_read_before_the_minute_closes_counts_however_late_it_is() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + SECOND))
    course.trades((4, MINUTE + 59 * SECOND), received=2 * MINUTE + 1_500)
    assert windows(course.trades((5, 2 * MINUTE + 2 * SECOND))) == [(MINUTE, 2, "PROVEN")]


def test_copies_from_a_second_feed_count_once() -> None:
    course = begun()
    for feed in ("a", "b", "c"):
        course.trades((3, MINUTE + 5_000), (4, MINUTE + 6_000), feed=feed)
    course.trades((5, 2 * MINUTE + 5_000))
    assert windows(course.closed) == [(MINUTE, 3, "PROVEN")]


def test_a_quiet_minute_makes_no_candle() -> None:
    course = begun()
    course.trades((3, 4 * MINUTE + 30_000))
    assert windows(course.closed) == [(MINUTE, 1, "PROVEN")]


def test_a_longer_window_is_the_merge_of_its_minutes() -> None:
    course = Course()
    course.trades((1, -MINUTE))
    for minute in range(5):
        course.trades((2 + minute, minute * MINUTE + SECOND, str(10 + minute), "2"))
    course.trades((9, FIVE + 5 * SECOND), prev=6)
    (long,) = [each for each in course.closed if each.period == "5m" and each.open_time == T0]
    assert long.fold.count == 5
    assert (long.fold.open, long.fold.close) == (Decimal(10), Decimal(14))
    assert long.fold.volume == Decimal(10)
    assert not long.is_tainted


def test_closings_come_in_the_order_of_time_per_period() -> None:
    course = Course(rules("1m", "3m"))
    course.trades(*((1 + minute, minute * MINUTE) for minute in range(9)))
    assert [start for start, _, _ in windows(course.closed)] == [n * MINUTE for n in range(7)] + [
        7 * MINUTE
    ] * (len(windows(course.closed)) - 7)
    assert [start for start, _, _ in windows(course.closed, "3m")] == [0, 3 * MINUTE]


# -- the clock


def test_another_feed_is_a_clock_only_when_it_has_the_newest_trade() -> None:
    course = begun()
    course.marks(MINUTE + 4 * SECOND, 2 * MINUTE)
    course.mark(2 * MINUTE + 4 * SECOND, feed="b", last=1)
    assert course.closed == []
    course.mark(2 * MINUTE + 4 * SECOND, feed="b", last=2)
    assert windows(course.closed) == [(MINUTE, 1, "PROVEN")]


def test_a_feed_that_took_over_closes_without_proof() -> None:
    course = begun()
    course.mark(MINUTE + 30 * SECOND, end=True)
    course.mark(2 * MINUTE + 5 * SECOND, feed="b", n=0)
    assert windows(course.closed) == [(MINUTE, 1, "UNCONFIRMED")]


def test_a_feed_takes_over_from_one_silent_for_hold_max() -> None:
    course = begun()
    course.marks(MINUTE + 4 * SECOND, 2 * MINUTE)
    course.mark(2 * MINUTE + 9 * SECOND, feed="b", n=0)
    assert course.closed == []
    course.mark(2 * MINUTE + 10 * SECOND, feed="b", n=0)
    assert windows(course.closed) == [(MINUTE, 1, "UNCONFIRMED")]


def test_the_next_trade_gives_the_proof_later() -> None:
    course = begun()
    course.mark(MINUTE + 30 * SECOND, end=True)
    course.mark(2 * MINUTE + 5 * SECOND, feed="b", n=0)
    assert course.dirty == {}
    course.trades((3, 3 * MINUTE), feed="b")
    assert course.dirty == {("1m", MINUTE): "repair"}


def test_a_mark_that_announces_unread_batches_waits_for_them() -> None:
    course = begun()
    course.mark(2 * MINUTE + 5 * SECOND, n=9, last=7)
    assert course.closed == []
    course.trades((3, MINUTE + 50 * SECOND), received=2 * MINUTE + 6 * SECOND)
    course.mark(2 * MINUTE + 18 * SECOND)
    assert windows(course.closed) == [(MINUTE, 2, "PROVEN")]


def test_a_mark_that_announces_what_never_comes_waits_no_longer_than_hold_max() -> None:
    course = begun()
    course.mark(2 * MINUTE + 5 * SECOND, n=9, last=7)
    course.mark(2 * MINUTE + 15 * SECOND, n=9, last=7)
    assert windows(course.closed) == [(MINUTE, 1, "UNCONFIRMED")]


def test_silence_closes_without_proof() -> None:
    course = begun()
    course.mark(MINUTE + 55 * SECOND)
    assert windows(course.silence(8 * SECOND)) == [(MINUTE, 1, "UNCONFIRMED")]


def test_silence_closes_a_longer_window_whose_minutes_are_all_closed() -> None:
    course = begun()
    course.marks(2 * MINUTE, 2 * MINUTE + 3 * SECOND)
    assert course.aggregator.open.windows == {}
    course.silence(30 * SECOND)
    assert windows(course.closed, "5m") == []
    course.silence(4 * MINUTE)
    assert windows(course.closed, "5m") == [(0, 2, "UNKNOWN")]


def test_silence_moves_nothing_while_nothing_open_has_ended() -> None:
    course = begun()
    value_us = course.aggregator.watermark.value_us
    course.silence(20 * SECOND)
    assert course.aggregator.watermark.value_us == value_us


def test_silence_before_the_first_trade_closes_nothing() -> None:
    assert Course().silence(HOUR) == []


def test_an_end_mark_moves_nothing() -> None:
    course = begun()
    assert course.mark(5 * MINUTE, end=True) == []


def test_one_trade_hours_ahead_makes_no_other_trade_late() -> None:
    course = begun()
    course.trades((3, 6 * HOUR), received=MINUTE + 4 * SECOND)
    course.trades((4, MINUTE + 5 * SECOND))
    assert course.closed == []
    assert course.dirty == {}


# -- completeness


def test_the_first_minute_is_cut_by_our_own_start() -> None:
    course = Course()
    course.trades((1, SECOND))
    course.trades((2, MINUTE + 2_000))
    assert windows(course.closed) == [(0, 1, "UNKNOWN")]


def test_a_hole_makes_its_minute_incomplete() -> None:
    course = begun()
    course.trades((5, MINUTE + 30 * SECOND), prev=2)
    course.trades((6, 2 * MINUTE + 5_000))
    assert windows(course.closed) == [(MINUTE, 2, "HOLED")]


def test_a_hole_shown_by_the_trade_that_closes_counts() -> None:
    course = begun()
    course.trades((5, 2 * MINUTE + 5_000), prev=2)
    assert windows(course.closed) == [(MINUTE, 1, "HOLED")]


def test_a_hole_found_behind_a_closed_minute_makes_it_dirty() -> None:
    course = begun()
    course.marks(MINUTE + 4 * SECOND, 2 * MINUTE + 5 * SECOND)
    assert windows(course.closed) == [(MINUTE, 1, "PROVEN")]
    course.trades((9, 7 * MINUTE), prev=2)
    assert course.dirty == {("1m", MINUTE): "gap"}
    assert windows(course.closed, "5m") == [(0, 2, "HOLED")]


def test_a_hole_that_closes_makes_the_minutes_at_its_ends_dirty() -> None:
    course = begun()
    course.trades((9, 3 * MINUTE + 30_000), prev=2)
    course.trades((10, 4 * MINUTE + 30_000))
    course.aggregator.closed.dirty.windows.clear()
    course.trades((9, 3 * MINUTE + 30_000), prev=2, feed="r", source="rest")
    assert course.dirty == {("1m", MINUTE): "repair", ("1m", 3 * MINUTE): "repair"}


def test_a_longer_window_asks_for_its_own_span() -> None:
    course = Course()
    course.trades((1, -FIVE))
    course.trades((2, -SECOND))
    course.trades((3, SECOND))
    course.trades((9, 3 * MINUTE), prev=3)
    course.trades((10, FIVE + 5_000))
    found = {period: windows(course.closed, period)[-1] for period in ("1m", "5m")}
    assert found["5m"] == (0, 2, "HOLED")
    assert windows(course.closed, "5m")[0] == (-FIVE, 2, "PROVEN")


def test_without_ids_a_minute_needs_a_feed_up_all_through() -> None:
    base = T0 * 1_000_000
    course = Course()
    course.trades((base, SECOND), contiguous=False)
    course.marks(2 * SECOND, MINUTE)
    course.trades((base + MINUTE * 1_000_000, MINUTE + 500), contiguous=False)
    course.marks(MINUTE + SECOND, 2 * MINUTE + 3 * SECOND)
    assert windows(course.closed) == [(0, 1, "UNKNOWN"), (MINUTE, 1, "PROVEN")]


# -- bounds and doubt


def test_minutes_far_ahead_are_left_to_the_database() -> None:
    course = begun()
    for number in range(OPEN_MAX + 10):
        course.trades((10 + number, 10 * HOUR + number * MINUTE, "1"), received=MINUTE + 4_000)
        course.aggregator.watermark.suspect = None
    assert len(course.aggregator.open.windows) <= OPEN_MAX
    assert 0 < len(course.aggregator.open.deferred) < DEFERRED_MAX
    deferred = min(course.aggregator.open.deferred)
    course.aggregator.watermark.raise_to((deferred + MINUTE) * 1_000)
    course.silence(0)
    assert course.dirty[("1m", deferred - T0)] == "close"


def test_a_minute_far_ahead_does_not_hold_the_resume_position_back() -> None:
    course = begun()
    course.trades((3, 6 * HOUR), received=MINUTE + 4 * SECOND)
    far = course.sequence
    course.trades((4, 2 * MINUTE + 5_000))
    assert course.aggregator.far_windows() == {T0 + 6 * HOUR: far}
    assert course.aggregator.first_sequence() == course.sequence


def test_the_resume_position_is_the_first_batch_of_what_is_open_or_dirty() -> None:
    course = begun()
    assert course.aggregator.first_sequence() == 2
    course.trades((3, 2 * MINUTE + 5_000))
    assert course.aggregator.first_sequence() == course.sequence
    course.trades((4, MINUTE + 50_000), received=2 * MINUTE + 6_000)
    course.trades((5, 3 * MINUTE + 50_000))
    assert course.aggregator.first_sequence() == 5


def test_nothing_is_trusted_that_may_have_begun_before_what_can_be_read() -> None:
    course = Course(has_lost=True)
    course.trades((1, SECOND))
    course.trades((2, MINUTE + 5_000))
    course.trades((3, FIVE + 5_000))
    course.trades((4, 2 * FIVE + 5_000))
    assert windows(course.closed) == [(MINUTE, 1, "PROVEN"), (FIVE, 1, "PROVEN")]
    assert windows(course.closed, "5m") == [(FIVE, 1, "PROVEN")]
    assert course.dirty == {("1m", 0): "close", ("5m", 0): "close"}


def test_an_id_from_before_what_can_be_read_may_have_been_counted_in_another_minute() -> None:
    course = Course(has_lost=True)
    course.trades((5, SECOND))
    course.trades((6, MINUTE + 5_000))
    course.trades((4, MINUTE), feed="r", source="rest", prev=3, received=MINUTE + 6_000)
    course.trades((7, 2 * MINUTE + 5_000))
    assert windows(course.closed) == []
    assert course.dirty == {("1m", 0): "close", ("1m", MINUTE): "close"}


# -- flat candles


def test_fill_empty_makes_flat_candles() -> None:
    course = Course(rules("1m", "5m", fill_empty=True))
    course.trades((1, SECOND, "7"))
    course.trades((2, MINUTE + 5_000, "8"))
    course.trades((3, 4 * MINUTE + 5_000, "9"))
    course.trades((4, FIVE + 5_000))
    flat = [each for each in course.closed if each.fold.count == 0]
    assert [each.open_time - T0 for each in flat] == [2 * MINUTE, 3 * MINUTE]
    assert {each.fold.close for each in flat} == {Decimal(8)}
    assert windows(course.closed, "5m") == [(0, 3, "UNKNOWN")]


# -- open candles


def test_open_candles_merge_closed_minutes_with_open_ones() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000, "50", "4"))
    course.aggregator.open_candles()
    course.trades((4, 2 * MINUTE + 6_000, "60", "5"))
    found = {each.period: each for each in course.aggregator.open_candles()}
    assert found["1m"].trade_count == 2
    assert (found["5m"].trade_count, found["5m"].high, found["5m"].volume) == (4, "100", "11")
    assert (found["5m"].closed, found["5m"].revision, found["5m"].reason) == (False, 0, "open")
    assert found["1m"].complete
    assert not found["5m"].complete


def test_both_minutes_are_open_around_a_boundary() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 100), (4, 2 * MINUTE - 100))
    assert [each.open_time - T0 for each in course.aggregator.open_candles()] == [
        MINUTE,
        0,
        2 * MINUTE,
    ]


def test_open_candles_come_only_when_they_changed() -> None:
    course = begun()
    assert course.aggregator.open_candles() != []
    course.mark(MINUTE + 4 * SECOND)
    course.trades((2, MINUTE + SECOND), feed="b")
    assert course.aggregator.open_candles() == []


def test_open_candles_can_be_had_of_one_period_and_any_minute() -> None:
    course = begun()
    course.aggregator.open.take_changed()
    (found,) = course.aggregator.open_candles([T0 + MINUTE], ["1m"])
    assert (found.period, found.open_time) == ("1m", T0 + MINUTE)


# -- longer windows after a restart


def test_a_longer_window_that_is_not_loaded_is_recomputed_not_published() -> None:
    course = Course()
    course.aggregator.longer.known_since = T0 + 2 * MINUTE
    course.aggregator.closed.through = T0 + 2 * MINUTE
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((4, FIVE + 5_000))
    assert windows(course.closed, "5m") == []
    assert course.dirty == {("5m", 0): "close"}


def test_a_longer_window_is_published_once_its_minutes_are_loaded() -> None:
    course = Course()
    course.aggregator.longer.known_since = T0 + 2 * MINUTE
    course.aggregator.closed.through = T0 + 2 * MINUTE
    course.trades((3, 2 * MINUTE + 5_000))
    course.trades((4, 3 * MINUTE + 5_000))
    minutes = [(T0, Fold.of(columns((1, 0)))), (T0 + MINUTE, Fold.of(columns((2, MINUTE))))]
    course.aggregator.load_minutes(T0 + 2 * MINUTE, minutes)
    course.trades((5, FIVE + 5_000))
    assert [each[:2] for each in windows(course.closed, "5m")] == [(0, 4)]
    assert course.dirty == {}


def test_a_corrected_minute_is_carried_into_the_longer_open_window() -> None:
    course = begun()
    course.trades((3, 2 * MINUTE + 5_000))
    old = Fold.of(columns((2, MINUTE + SECOND)))
    course.aggregator.correct(T0 + MINUTE, old, Fold.of(columns((2, MINUTE), (4, MINUTE, "200"))))
    course.trades((5, FIVE + 5_000))
    (long,) = [each for each in course.closed if each.period == "5m"]
    assert long.fold.count == 4
    assert long.fold.high == Decimal(200)
    assert long.is_tainted


def test_flat_candles_of_a_long_silence_are_few_at_once_and_the_rest_is_searched_for() -> None:
    course = Course(rules(fill_empty=True))
    course.trades((1, SECOND, "10"))
    course.closed.clear()
    course.mark(30 * HOUR)
    minutes = [each for each in course.closed if each.period == "1m"]
    assert len(minutes) == FLAT_MS_MAX // MINUTE + 1  # and the one that had a trade
    assert {str(each.fold.close) for each in minutes} == {"10"}
    scan = course.aggregator.closed.dirty.rescan
    assert scan is not None
    through = course.aggregator.closed.through
    assert through is not None
    assert (scan.from_ms, scan.to_ms) == (T0 - MINUTE, through - FLAT_MS_MAX)
    piece = course.aggregator.closed.next_search(course.sequence)
    assert piece is not None
    course.aggregator.closed.searched(scan, piece[1], [])
    assert len([key for key in course.dirty if key[0] == "1m"]) == (piece[1] - piece[0]) // MINUTE


def test_a_flat_candle_follows_a_correction_of_the_minute_before() -> None:
    course = Course(rules(fill_empty=True))
    course.trades((1, SECOND, "10"))
    course.mark(2 * MINUTE + 5 * SECOND)
    course.aggregator.carry_price(Decimal(15), [(T0 + MINUTE, False)], 2)
    assert course.dirty == {("1m", MINUTE): "recompute"}
    course.mark(3 * MINUTE + 5 * SECOND)
    assert str(course.closed[-1].fold.close) == "15"


def test_a_corrected_price_is_carried_no_further_than_to_the_next_trades() -> None:
    course = Course(rules(fill_empty=True))
    course.trades((1, SECOND, "10"))
    course.trades((2, 2 * MINUTE + SECOND, "12"))
    course.mark(4 * MINUTE + 5 * SECOND)
    unlike = [(T0 + MINUTE, False), (T0 + 2 * MINUTE, True)]
    course.aggregator.carry_price(Decimal(15), unlike, 2)
    assert course.dirty == {("1m", MINUTE): "recompute"}
    course.mark(5 * MINUTE + 5 * SECOND)
    assert str(course.closed[-1].fold.close) == "12"


def test_what_is_stored_but_was_never_read_is_searched_though_nothing_comes() -> None:
    course = Course()
    course.aggregator.doubt_stored((T0 + 5 * SECOND) * 1_000, 1)
    scan = course.aggregator.closed.dirty.rescan
    assert scan == Rescan(T0 - LOOK_BACK_MS, T0 + MINUTE, 1, 1)
    course.aggregator.silence(70_000_000, 1)
    assert course.aggregator.closed.next_search(1) is not None
    assert course.aggregator.closed.holds("1m", T0)
    assert course.aggregator.has_lost


def test_after_a_loss_the_holes_that_were_known_are_searched_too() -> None:
    course = Course()
    course.trades((1, SECOND))
    course.trades((5, MINUTE), prev=4)
    course.trades((6, 300 * MINUTE), (7, 301 * MINUTE))
    course.aggregator.closed.dirty.windows.clear()
    course.aggregator.doubt_stored((T0 + 302 * MINUTE) * 1_000, 1)
    assert {key for key in course.dirty if key[0] == "1m"} == {("1m", 0), ("1m", MINUTE)}
