"""Courses of the machine that once went wrong."""

from market_ingestor.model.period import BASE_PERIOD
from tests.property.klines.sent import One
from tests.property.klines.test_machine import Market


def test_a_longer_window_closes_though_nothing_follows_a_restart() -> None:
    market = Market()
    market.trade([(0, 1)])
    market.mark(70_000_000)
    market.keep_up_and_die(is_loaded=False)
    market.teardown()


def test_flat_candles_follow_a_correction_whose_author_was_killed() -> None:
    """The next life finds the corrected minute right and must still look behind it."""
    market = Market()
    market.choose(has_ids=False, fill_empty=True)
    market.trade([(0, 1)])
    late = One(market.newest_id + 1, market.now_us)
    market.mark(400_000_000)
    market.newest_id += 1
    market.send("refill", "rest", (late,))
    market.keep_up()
    market.die(is_loaded=True)
    market.teardown()


def test_minutes_before_the_first_candle_are_filled_from_a_refill_on() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=True)
    market.trade([(0, 0)])
    market.mark(400_000_000)
    market.trade([(0, 1)])
    market.teardown()


def test_a_late_trade_that_was_saved_and_not_read_before_its_stream_was_lost_counts() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=False)
    market.trade([(0, 0), (40_000_000, 1), (30_000_000, 1)])
    market.keep_up()
    market.send("refill", "rest", (market.held.pop(),))
    market.save_trades(20)
    market.recreate_stream()
    market.teardown()


def test_a_candle_of_trades_that_were_lost_before_they_were_saved_does_not_stay() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=False)
    market.trade([(0, 1)])
    market.trade([(130_000_000, 1)])
    market.read(2)
    market.publish(20)
    assert market.versions
    market.recreate_stream()
    market.teardown()


def test_trades_that_were_saved_and_never_read_get_a_candle_though_nothing_follows() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=False)
    market.trade([(0, 1)])
    market.save_trades(20)
    market.recreate_stream()
    market.mark(0)
    market.read(20)
    market.silence(200_000_000)
    market.save_trades(20)
    for _ in range(20):
        market.keep_up()
    assert [key for key in market.versions if key[0] == BASE_PERIOD]
    market.teardown()
