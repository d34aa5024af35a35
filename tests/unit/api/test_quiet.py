"""Flat candles where a market was watched and quiet, none where nobody watched."""

from typing import Any

import pytest

from market_ingestor.api.quiet import (
    Evidence,
    Span,
    filled,
    has_made_up_ids,
    is_watched,
    needs_evidence,
)
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import DAY_MS, PERIOD_MS, close_time
from market_ingestor.model.stored import GapSpan
from tests.integration.push.harness import MINUTE, START, kline

END = START + 20 * MINUTE


def made_up(n: int, **fields: Any) -> Kline:
    """Return a candle of a feed without ids."""
    name = f"{START + n * MINUTE + 5}{123:03}{0:03}"
    return kline(n, first_trade_id=name, last_trade_id=name, **fields)


def with_ids(n: int, first: int, last: int, **fields: Any) -> Kline:
    return kline(n, first_trade_id=str(first), last_trade_id=str(last), **fields)


def minutes(
    klines: list[Kline],
    evidence: Evidence | None = None,
    *,
    start: int = 0,
    end: int = END,
    limit: int = 100,
    newest: bool = False,
) -> list[int]:
    """Return the minutes there are rows of; flat ones negative."""
    found = filled(klines, evidence or Evidence(), start=start, end=end, limit=limit, newest=newest)
    assert [each.open_time for each in found] == sorted({each.open_time for each in found})
    return [(each.open_time - START) // MINUTE * (1 if each.trade_count else -1) for each in found]


def at(first: int, last: int) -> Span:
    return Span(START + first * MINUTE, START + last * MINUTE)


def hole(first_ms: int, last_ms: int, *, is_filled: bool = False) -> GapSpan:
    return GapSpan(from_ms=START + first_ms, to_ms=START + last_ms, is_filled=is_filled)


def test_ids_that_go_on_prove_that_nothing_was_traded() -> None:
    klines = [with_ids(1, 5, 9), with_ids(4, 10, 11), with_ids(6, 13, 13)]
    assert minutes(klines) == [1, -2, -3, 4, 6]
    assert needs_evidence(klines[:2], START + 5 * MINUTE) is None
    assert needs_evidence(klines, START + 7 * MINUTE) == at(5, 6)


def test_ids_that_arrived_in_another_order_than_their_times_go_on_too() -> None:
    assert minutes([with_ids(1, 5, 10), with_ids(3, 9, 12)]) == [1, -2, 3]


def test_a_hole_that_was_filled_is_none_and_one_that_is_open_hides_what_it_touches() -> None:
    klines = [with_ids(1, 5, 9), with_ids(8, 20, 21)]
    is_filled = hole(2 * MINUTE, 7 * MINUTE, is_filled=True)
    assert minutes(klines) == [1, 8]
    assert minutes(klines, Evidence(gaps=[is_filled])) == [1, -2, -3, -4, -5, -6, -7, 8]
    half = hole(4 * MINUTE + 1, 6 * MINUTE)
    assert minutes(klines, Evidence(gaps=[is_filled, half])) == [1, -2, -3, -7, 8]


def test_a_longer_candle_that_is_complete_proves_its_minutes() -> None:
    klines = [made_up(1), made_up(9)]
    assert minutes(klines) == [1, 9]
    assert minutes(klines, Evidence(complete=[at(3, 6), at(5, 7)])) == [1, -3, -4, -5, -6, 9]
    assert minutes(klines, Evidence(complete=[at(-50, 50)]), end=START + 10 * MINUTE) == [
        1,
        *range(-2, -9, -1),
        9,
    ]


def test_behind_the_last_candle_a_feed_that_is_up_proves_what_it_saw() -> None:
    now = START + 5 * MINUTE
    up = Evidence(up=Span(START + 3 * MINUTE + 1, now))
    assert minutes([with_ids(1, 5, 9)], end=now) == [1]
    assert minutes([with_ids(1, 5, 9)], up, end=now) == [1, -2, -3, -4]
    assert minutes([made_up(1)], up, end=now) == [1, -4]
    busy = Evidence(up=up.up, is_traded_since=True)
    assert minutes([with_ids(1, 5, 9)], busy, end=now) == [1]
    broken = Evidence(up=up.up, gaps=[hole(2 * MINUTE, 2 * MINUTE + 1)])
    assert minutes([with_ids(1, 5, 9)], broken, end=now) == [1, -3, -4]


def test_ranges_and_limits_count_flat_candles() -> None:
    klines = [with_ids(1, 5, 9), with_ids(6, 10, 11), with_ids(9, 12, 12)]
    assert minutes(klines, start=START + 3 * MINUTE, limit=2) == [-3, -4]
    assert minutes(klines, end=START + 5 * MINUTE) == [1, -2, -3, -4]
    assert minutes(klines, limit=3, newest=True) == [-7, -8, 9]
    assert minutes(klines, start=START + MINUTE + 1, limit=1) == [-2]
    assert minutes([], Evidence(up=at(0, 9))) == []


def test_a_flat_candle_has_the_close_before_it() -> None:
    first, flat, _ = filled(
        [with_ids(1, 5, 9, close="7.5"), with_ids(3, 10, 11)], Evidence(),
        start=0, end=END, limit=9, newest=False,
    )  # fmt: skip
    assert (first.close, flat.open, flat.high, flat.low, flat.close) == ("7.5",) * 5
    assert (flat.volume, flat.trade_count, flat.first_trade_id) == ("0", 0, None)
    assert (flat.open_time, flat.close_time) == (START + 2 * MINUTE, START + 3 * MINUTE - 1)


def test_years_of_a_quiet_market_cost_no_more_than_the_answer() -> None:
    klines = [with_ids(0, 5, 9), with_ids(5_000_000, 10, 11)]
    end = klines[-1].close_time + 1
    assert minutes(klines, end=end, limit=3) == [0, -1, -2]
    assert minutes(klines, end=end, limit=3, newest=True) == [-4_999_998, -4_999_999, 5_000_000]


@pytest.mark.parametrize("period", ["3m", "1h", "1d", "1w"])
def test_windows_of_any_period_lie_on_its_grid(period: str) -> None:
    length = PERIOD_MS[period]
    monday = 1_763_337_600_000
    opened = [monday, monday + 4 * length]
    klines = [
        with_ids(0, n * 10, n * 10 + 9, period=period, open_time=each,
                 close_time=close_time(each, period))
        for n, each in enumerate(opened)
    ]  # fmt: skip
    found = filled(
        klines, Evidence(), start=monday + 1, end=opened[1] + length, limit=99, newest=False
    )
    assert [each.open_time for each in found] == [monday + n * length for n in range(1, 5)]
    assert monday % DAY_MS == 0


def test_stored_flat_candles_are_believed_when_they_are_complete() -> None:
    flat: dict[str, Any] = {"trade_count": 0, "first_trade_id": None, "last_trade_id": None}
    assert is_watched(kline(1, **flat))
    assert not is_watched(kline(1, complete=False, **flat))
    assert is_watched(kline(1, complete=False))
    klines = [with_ids(1, 5, 9), kline(3, **flat), with_ids(5, 10, 11)]
    assert minutes(klines) == [1, -3, -4, 5]


def test_made_up_ids_are_told_from_a_venues() -> None:
    assert has_made_up_ids(made_up(1))
    assert not has_made_up_ids(with_ids(1, 5, 9))
    assert not has_made_up_ids(with_ids(1, 10**18, 10**18 + 1))
