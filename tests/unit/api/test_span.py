"""Spans of time and the candles that cover them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.api.errors import ApiProblemError
from market_ingestor.api.span import (
    LEVELS,
    Range,
    Total,
    parse_span_us,
    rest_of,
    whole_minutes,
    windows_in,
)
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import MINUTE_MS, PERIOD_MS, close_time
from tests.integration.push.harness import kline

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5_400), ("1d", 86_400), ("1w1d1h1m1s", 694_861)],
)
def test_spans_are_read(text: str, seconds: int) -> None:
    assert parse_span_us(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "0m", "5", "m", "1m1h", "1.5h", "+1h", "999999999w", "1H"])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(ApiProblemError):
        parse_span_us(text)


def test_whole_minutes_lie_wholly_inside() -> None:
    minute = MINUTE_MS * 1_000
    assert whole_minutes(0, 3 * minute) == Range(MINUTE_MS, 3 * MINUTE_MS)
    assert whole_minutes(minute - 1, 3 * minute - 1) == Range(MINUTE_MS, 3 * MINUTE_MS)
    assert whole_minutes(minute, 3 * minute - 2) == Range(2 * MINUTE_MS, 2 * MINUTE_MS)
    start, end = whole_minutes(5, 7)
    assert start == end


def candle(opened: int, period: str) -> Kline:
    return kline(0, open_time=opened, close_time=close_time(opened, period), period=period)


@given(st.integers(0, 10**6), st.integers(0, 3 * 10**5), st.randoms(use_true_random=False))
def test_levels_and_what_they_leave_cover_a_range_exactly(
    start: int, length: int, rnd: object
) -> None:
    """Whatever candles there are, pieces neither overlap nor leave anything out."""
    assert hasattr(rnd, "random")
    whole = Range(start * MINUTE_MS, (start + length) * MINUTE_MS)
    left = [whole] if length else []
    pieces: list[tuple[int, int]] = []
    for period in LEVELS[:-1]:
        taken = []
        for each in left:
            inner = windows_in(each, period)
            assert each.start <= inner.start
            assert inner.end <= max(each.end, inner.start)
            taken += [
                candle(opened, period)
                for opened in range(inner.start, inner.end, PERIOD_MS[period])
                if rnd.random() < 0.8
            ]
        pieces += [(each.open_time, each.close_time + 1) for each in taken]
        left = rest_of(left, taken)
    pieces += left
    at = whole.start
    for begin, end in sorted(pieces):
        assert begin == at
        at = end
    assert at == whole.end or not length


def test_totals_add_up_and_flat_candles_have_no_price() -> None:
    total = Total()
    total.add(Total.of(kline(0, volume="1", quote_volume="5", low="4", high="6", trade_count=2)))
    total.add(Total.of(kline(1, trade_count=0, volume="0", quote_volume="0", low="1", high="99")))
    total.add(Total.of(kline(2, volume="1", quote_volume="3", low="3", high="5", complete=False)))
    assert (total.low, total.high, total.volume) == (Decimal(3), Decimal(6), Decimal(2))
    assert (total.trade_count, total.is_complete) == (347, False)
