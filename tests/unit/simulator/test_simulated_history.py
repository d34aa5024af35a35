"""What REST answers from: pages in id order and candles."""

import pytest

from market_ingestor.simulator.history import History
from market_ingestor.simulator.tape import Fill

MINUTE_US = 60_000_000
START_US = 1_795_132_800_000_000


def trade(trade_id: int, price: int = 100, amount: int = 1, time_us: int = START_US) -> Fill:
    return Fill(0, trade_id, price, abs(amount), amount > 0, time_us)


@pytest.fixture
def history() -> History:
    """Ids 1..100, one a second."""
    made = History(0, keep=1_000)
    for number in range(1, 101):
        made.append(trade(number, price=number, time_us=START_US + number * 1_000_000))
    return made


def ids(page: list[Fill]) -> list[int]:
    return [fill.id for fill in page]


def test_pages_are_ascending_and_cut_at_the_right_end(history: History) -> None:
    assert ids(history.newest(3)) == [98, 99, 100]
    assert ids(history.starting(50, 3)) == [50, 51, 52]
    assert ids(history.below(50, 3)) == [47, 48, 49]
    assert ids(history.above(50, 3)) == [98, 99, 100]
    assert ids(history.above(98, 10)) == [99, 100]
    assert ids(history.since(START_US + 10_000_000, 2)) == [11, 12]


def test_nothing_newer_than_the_horizon_is_visible(history: History) -> None:
    horizon_us = START_US + 60_000_000
    assert ids(history.newest(2, horizon_us)) == [59, 60]
    assert ids(history.starting(59, 10, horizon_us)) == [59, 60]
    assert ids(history.below(90, 2, horizon_us)) == [59, 60]


def test_removed_trades_are_skipped_but_pages_stay_full(history: History) -> None:
    history.remove(99)
    assert ids(history.newest(3)) == [97, 98, 100]


def test_times_that_run_back_hide_nothing_from_pages_by_time() -> None:
    history = History(0, keep=100)
    for number, second in enumerate([1, 2, 3_603, 3_604, 5, 6], start=1):
        history.append(trade(number, time_us=START_US + second * 1_000_000))
    assert ids(history.since(START_US + 2_000_000, 10)) == [5, 6, 3, 4]
    assert ids(history.newest(2)) == [5, 6]
    assert ids(history.newest(2, START_US + 5_000_000)) == [4, 5]


def test_memory_is_bounded_and_candles_survive_the_trim() -> None:
    history = History(0, keep=100)
    for number in range(1, 1_001):
        history.append(trade(number, price=number, time_us=START_US + number))
    assert len(history) <= 125
    assert history.last_id == 1_000
    (candle,) = history.candles(60_000, is_flat=False, until_ms=START_US // 1_000)
    assert (candle.open, candle.close, candle.count) == (1, 1_000, 1_000)
    assert (candle.first_id, candle.last_id) == (1, 1_000)


def test_a_candle_is_the_fold_of_its_trades() -> None:
    history = History(0, keep=100)
    for number, price, amount in [(1, 10, 5), (2, 14, -2), (3, 8, 1), (4, 9, -4)]:
        history.append(trade(number, price, amount))
    (candle,) = history.candles(60_000, is_flat=False, until_ms=START_US // 1_000)
    assert (candle.open, candle.high, candle.low, candle.close) == (10, 14, 8, 9)
    assert (candle.volume, candle.buy_volume) == (12, 6)
    assert (candle.quote, candle.buy_quote) == (50 + 28 + 8 + 36, 58)


def test_longer_candles_merge_minutes_and_empty_ones_are_flat_on_request() -> None:
    history = History(0, keep=100)
    for number, minute in [(1, 0), (2, 1), (3, 4)]:
        history.append(trade(number, price=number, time_us=START_US + minute * MINUTE_US))
    until_ms = (START_US + 5 * MINUTE_US) // 1_000
    minutes = history.candles(60_000, is_flat=True, until_ms=until_ms)
    assert [(each.open, each.close, each.count) for each in minutes] == [
        (1, 1, 1),
        (2, 2, 1),
        (2, 2, 0),
        (2, 2, 0),
        (3, 3, 1),
        (3, 3, 0),
    ]
    assert len(history.candles(60_000, is_flat=False, until_ms=until_ms)) == 3
    (whole, _) = history.candles(300_000, is_flat=True, until_ms=until_ms)
    assert (whole.open, whole.close, whole.count) == (1, 3, 3)


def test_weeks_open_on_monday() -> None:
    history = History(0, keep=10)
    history.append(trade(1))
    (week,) = history.candles(7 * 86_400_000, is_flat=False, until_ms=START_US // 1_000)
    assert week.open_ms == 1_794_787_200_000  # 2026-11-16
