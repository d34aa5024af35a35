"""Rolling statistics of one symbol."""

import math
import statistics
from decimal import Decimal
from itertools import pairwise

import pytest

from market_ingestor.klines.sliding import BUCKETS_MAX, PARTS_MAX, TICKS
from market_ingestor.klines.stats import DAY_MINUTES, RollingStats
from market_ingestor.klines.window import Fold
from market_ingestor.model.decimals import average
from market_ingestor.model.stats import Stats, WindowStats
from tests.unit.klines.build import HOUR, MINUTE, SECOND, T0, Course, Row, columns


class Rolling:
    """Statistics driven by hand; times are milliseconds after T0."""

    def __init__(self) -> None:
        self.stats = RollingStats("binance", "BTCUSDT")

    def trades(self, *rows: Row, now: int | None = None) -> None:
        at = max(row[1] for row in rows) if now is None else now
        self.stats.take([columns(*rows)], (T0 + at) * 1_000)

    def advance(self, at: int) -> bool:
        self.stats.has_changed = False
        self.stats.advance((T0 + at) * 1_000)
        return self.stats.has_changed

    def now(self) -> Stats:
        found = self.stats.stats([])
        assert found is not None
        return found

    def window(self, name: str) -> WindowStats:
        return self.now().windows[name]

    def minutes(self, count: int, first: int = 0, price: int = 100) -> None:
        for number in range(first, first + count):
            opened = number * MINUTE
            fold = Fold.of(columns((number, opened, str(price + number), "2")))
            self.stats.correct(T0 + opened, fold)


EMPTY = WindowStats(average=None, vwap=None, high=None, low=None, volume="0", trade_count=0)


def test_nothing_is_said_before_the_first_trade() -> None:
    rolling = Rolling()
    rolling.advance(SECOND)
    assert rolling.stats.stats([]) is None


def test_averages_are_of_trades_and_of_volume() -> None:
    rolling = Rolling()
    rolling.trades((1, 0, "10", "1"), (2, 50, "20", "3"), (3, 250, "10.5", "0"))
    assert rolling.window("5s") == WindowStats(
        average="13.5", vwap="17.5", high="20", low="10", volume="4", trade_count=3
    )
    now = rolling.now()
    assert (now.v, now.exchange, now.symbol, now.resolution_ms) == (1, "binance", "BTCUSDT", 100)
    assert (now.last_price, now.last_amount, now.last_side) == ("10.5", "0", "buy")
    assert now.time_us == (T0 + 250) * 1_000


def test_averages_have_twenty_digits_half_even() -> None:
    rolling = Rolling()
    rolling.trades((1, 0, "1"), (2, 0, "1"), (3, 0, "0"))
    assert rolling.window("5s").average == "0.66666666666666666667"


def test_trades_without_volume_have_no_vwap() -> None:
    rolling = Rolling()
    rolling.trades((1, 0, "10", "0"))
    assert rolling.window("5s").vwap is None
    assert rolling.window("5s").average == "10"


def test_old_trades_leave_each_window_in_turn_without_new_ones() -> None:
    rolling = Rolling()
    rolling.trades((1, 0, "10"))
    rolling.now()
    assert not rolling.advance(4_900)
    assert rolling.window("5s").trade_count == 1
    assert rolling.advance(5_000)
    assert rolling.window("5s") == EMPTY
    assert not rolling.advance(59_900)
    assert rolling.advance(MINUTE)
    assert (rolling.window("1m"), rolling.window("5m").trade_count) == (EMPTY, 1)
    assert rolling.advance(5 * MINUTE)
    assert rolling.window("5m") == EMPTY
    assert rolling.now().last_price == "10"
    assert len(rolling.stats.windows) == 0


def test_a_jump_empties_everything_at_once() -> None:
    rolling = Rolling()
    rolling.trades((1, 0, "10", "0.00000001"))
    rolling.now()
    rolling.trades((2, 40 * HOUR, "20"))
    assert [each.trade_count for each in rolling.now().windows.values()] == [1, 1, 1]
    assert rolling.window("5m").high == "20"


def test_late_trades_go_to_their_time_or_nowhere() -> None:
    rolling = Rolling()
    rolling.trades((5, 6_000, "50"), (7, 10_000, "70"))
    rolling.now()
    rolling.trades((4, 5_000, "90"), (6, 8_000, "60"), now=10_000)
    assert rolling.window("5s").trade_count == 3
    assert (rolling.window("5s").high, rolling.window("5s").low) == ("70", "50")
    assert (rolling.window("1m").high, rolling.window("1m").trade_count) == ("90", 4)
    rolling.trades((1, -5 * MINUTE, "1"), now=10_000)
    assert (rolling.window("5m").low, rolling.window("5m").trade_count) == ("50", 4)
    assert rolling.now().last_price == "70"


def test_the_last_trade_is_the_newest_by_time_then_id() -> None:
    rolling = Rolling()
    rolling.trades((9, 100, "9"), (10, 100, "10"), (8, 100, "8"))
    assert rolling.now().last_price == "10"
    rolling.trades((11, 50, "11"), now=100)
    assert rolling.now().last_price == "10"
    rolling.trades((12, 100, "12"))
    assert rolling.now().last_price == "12"
    rolling.trades((2, 300, "2"), (1, 200, "1"))
    assert rolling.now().last_price == "2"


def test_a_time_nobody_believes_is_left_out() -> None:
    rolling = Rolling()
    rolling.trades((1, 0, "10"), (2, 3 * HOUR, "99"), now=0)
    assert rolling.now().last_price == "10"
    assert rolling.window("5m").trade_count == 1
    assert rolling.now().time_us == T0 * 1_000
    rolling.trades((3, 3 * HOUR, "99"), now=0)
    assert rolling.window("5m").trade_count == 1


def test_time_never_goes_back() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.advance(SECOND)
    rolling.trades((2, 900))
    assert rolling.now().time_us == (T0 + SECOND) * 1_000


def test_memory_is_bounded_at_any_rate() -> None:
    rolling = Rolling()
    for at in range(0, 15 * MINUTE, 500):
        rolling.trades(*((at * 10 + n, at + n) for n in range(500)), now=at + 499)
        assert len(rolling.stats.windows) <= BUCKETS_MAX + 2 * PARTS_MAX
    assert rolling.window("5m").trade_count == 300_000


@pytest.mark.parametrize("step", [1, 7, 60, 150])
def test_the_last_ticks_whatever_the_batches(step: int) -> None:
    rolling = Rolling()
    rows = [(n, n, str(100 + n % 13), str(1 + n % 7)) for n in range(300)]
    for start in range(0, len(rows), step):
        rolling.trades(*rows[start : start + step])
        seen = rows[: start + step]
        last = [(Decimal(price), Decimal(amount)) for _, _, price, amount in seen[-TICKS:]]
        value = rolling.now().vwap_ticks.value
        if len(seen) < TICKS:
            assert value is None
        else:
            quote = sum((price * amount for price, amount in last), Decimal(0))
            assert value == average(quote, sum((amount for _, amount in last), Decimal(0)))


def test_moving_averages_wait_for_their_closes() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(6)
    assert rolling.now().sma.values == {"7": None, "25": None, "99": None}
    rolling.minutes(19, first=6)
    assert rolling.now().sma.values == {"7": "121", "25": "112", "99": None}
    rolling.minutes(75, first=25)
    assert rolling.now().sma.values == {"7": "196", "25": "187", "99": "150"}


def test_volatility_is_of_the_log_returns_of_its_closes() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(29)
    assert rolling.now().volatility.value is None
    rolling.minutes(6, first=29)
    closes = [105 + n for n in range(30)]
    returns = [math.log(new / old) for old, new in pairwise(closes)]
    assert rolling.now().volatility.value == pytest.approx(statistics.stdev(returns))
    assert (rolling.now().volatility.n, rolling.now().volatility.period) == (30, "1m")


def test_a_price_of_zero_has_no_volatility() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(30, price=0)
    assert rolling.now().volatility.value is None
    assert rolling.now().day.change_percent is None


def test_the_day_holds_closed_and_open_minutes_once() -> None:
    rolling = Rolling()
    rolling.trades((1, 2 * MINUTE, "90"))
    rolling.minutes(2)
    opened = Fold.of(columns((9, 2 * MINUTE, "80"), (10, 2 * MINUTE, "90")))
    day = rolling.stats.stats([(T0 + 2 * MINUTE, opened), (T0 + 9 * HOUR, opened)])
    assert day is not None
    assert (day.day.open, day.day.high, day.day.low) == ("100", "101", "80")
    assert (day.day.volume, day.day.quote_volume, day.day.trade_count) == ("6", "572", 4)
    assert (day.day.change, day.day.change_percent) == ("-10", "-10")
    rolling.stats.close(T0 + 2 * MINUTE, opened)
    again = rolling.stats.stats([(T0 + 2 * MINUTE, opened)])
    assert again is not None
    assert again.day == day.day


def test_the_day_forgets_minutes_of_yesterday() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(2)
    rolling.advance(HOUR)
    assert not rolling.advance((DAY_MINUTES - 1) * MINUTE)
    assert rolling.advance(DAY_MINUTES * MINUTE)
    assert (rolling.now().day.open, rolling.now().day.trade_count) == ("101", 1)
    assert rolling.advance((DAY_MINUTES + 1) * MINUTE)
    day = rolling.now().day
    assert (day.open, day.high, day.volume, day.change) == (None, None, "0", None)


def test_a_corrected_minute_counts_as_it_is_now() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(3)
    rolling.stats.correct(T0 + 2 * MINUTE, Fold.of(columns((2, 2 * MINUTE, "99", "1"))))
    day = rolling.now().day
    assert (day.high, day.low, day.volume, day.trade_count) == ("101", "99", "5", 3)


def test_what_is_known_is_not_replaced_by_what_was_stored_or_folded() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(1)
    rolling.stats.has_changed = False
    rolling.stats.close(T0, Fold.of(columns((2, 0, "5"))))
    assert not rolling.stats.has_changed
    assert rolling.now().day.low == "100"


def test_flat_minutes_count_as_closes_only() -> None:
    rolling = Rolling()
    rolling.trades((1, 0))
    rolling.minutes(6)
    rolling.stats.correct(T0 + 6 * MINUTE, Fold.flat(Decimal(500)))
    now = rolling.now()
    assert now.sma.values["7"] is not None
    assert (now.day.high, now.day.trade_count) == ("105", 6)


def test_only_trades_folded_as_new_are_offered() -> None:
    course = Course()
    course.trades((1, 0), (2, 100))
    assert [each.ids for each in course.aggregator.fresh] == [[1, 2]]
    course.trades((2, 100), (3, 200), feed="b")
    assert [each.ids for each in course.aggregator.fresh] == [[3]]
    course.trades((1, 0), (2, 100), feed="b")
    assert course.aggregator.fresh == []
