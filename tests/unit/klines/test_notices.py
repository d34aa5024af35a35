"""Rules of `klines.notices`."""

import msgspec
import pytest

from market_ingestor.klines.completeness import Evidence
from market_ingestor.klines.notices import lost_trade
from market_ingestor.model.event import MarketEvent
from tests.unit.klines.build import MINUTE, SECOND, T0, Course, columns, windows

EVENT = MarketEvent(
    v=1,
    exchange="okx",
    symbol="BTCUSDT",
    type="gap_unfillable",
    time_us=1,
    after_id="7",
    before_id="9",
    missing=1,
    from_time=T0,
    to_time=T0,
    detail="dead letter",
)


def test_a_refused_trade_is_a_gap_of_one_id() -> None:
    assert lost_trade(EVENT) == (8, T0 * 1_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "gap_found"),
        ("missing", 2),
        ("from_time", None),
        ("to_time", T0 + 1),
        ("after_id", None),
        ("after_id", "x"),
        ("before_id", "20"),
        ("before_id", "7"),
    ],
)
def test_other_gaps_are_no_refused_trades(field: str, value: object) -> None:
    assert lost_trade(msgspec.structs.replace(EVENT, **{field: value})) is None


def test_a_refused_trade_of_a_closed_minute_makes_it_dirty_and_incomplete() -> None:
    course = Course()
    course.trades((1, SECOND))
    course.trades((2, MINUTE + SECOND))
    course.trades((3, 2 * MINUTE + 5 * SECOND))
    course.aggregator.closed.lose(2, (T0 + MINUTE + SECOND) * 1_000, course.sequence)
    assert course.dirty == {("1m", MINUTE): "recompute"}
    assert course.aggregator.closed.judge("1m", T0 + MINUTE) is Evidence.HOLED
    course.aggregator.closed.stored(columns((2, MINUTE + SECOND)), course.sequence)
    assert course.aggregator.closed.judge("1m", T0 + MINUTE) is Evidence.PROVEN


def test_a_refused_trade_of_an_open_minute_leaves_it_to_the_database() -> None:
    course = Course()
    course.trades((1, SECOND))
    course.trades((2, MINUTE + SECOND))
    course.aggregator.closed.lose(2, (T0 + MINUTE + SECOND) * 1_000, course.sequence)
    course.trades((3, 2 * MINUTE + 5 * SECOND))
    assert windows(course.closed) == [(0, 1, "UNKNOWN")]
    assert course.dirty == {("1m", MINUTE): "close"}
