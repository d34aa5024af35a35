"""How parameters are read."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.api.cursors import (
    GAPS,
    KLINES,
    STRETCHES,
    TRADES,
    gap_cursor,
    kline_cursor,
    trade_cursor,
)
from market_ingestor.api.errors import ApiProblemError
from market_ingestor.api.params import (
    CursorKind,
    Params,
    decode_cursor,
    parse_time_ms,
    symbol_name,
)
from market_ingestor.model.stored import GapKey, TradeKey


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("0", 0),
        ("1763676000000", 1_763_676_000_000),
        ("2025-11-20T22:00:00Z", 1_763_676_000_000),
        ("2025-11-20T22:00:00.0005Z", 1_763_676_000_001),
        ("2025-11-20T23:00:00+01:00", 1_763_676_000_000),
        ("2025-11-20T23:00:00 01:00", 1_763_676_000_000),
        ("2025-11-20", 1_763_596_800_000),
        ("1969-12-31T00:00:00Z", 0),
    ],
)
def test_times_are_milliseconds_or_rfc3339(text: str, time_ms: int) -> None:
    assert parse_time_ms("from", text) == time_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1e9",
        "now",
        "2025-13-01",
        "9" * 15,
        "\u0663",
        "20251120T00",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ApiProblemError):
        parse_time_ms("from", text)


def test_symbols_are_read_in_any_usual_spelling() -> None:
    assert {symbol_name(each) for each in ("btc-usdt", "BTC_USDT", "BTC/USDT", "btcusdt")} == {
        "BTCUSDT"
    }


def test_cursors_come_back_as_they_were() -> None:
    trade = TradeKey(1_763_676_000_000_000, "42", "sim-binance")
    assert decode_cursor("cursor", trade_cursor(trade), TRADES) == trade
    gap = GapKey(datetime(2025, 11, 20, 22, 0, 0, 17, UTC), "okx", "_", "", "9")
    assert decode_cursor("cursor", gap_cursor(gap), GAPS) == gap
    for newest_first in (True, False):
        text = kline_cursor(1_763_676_000_000, newest_first=newest_first)
        assert decode_cursor("cursor", text, KLINES) == (1_763_676_000_000, newest_first)


@pytest.mark.parametrize("kind", [KLINES, TRADES, GAPS, STRETCHES])
@given(data=st.data())
def test_whatever_fits_the_pattern_can_be_read(kind: CursorKind[Any], data: st.DataObject) -> None:
    decode_cursor("cursor", data.draw(st.from_regex(kind.pattern, fullmatch=True)).strip(), kind)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1~2", "-1~42~binance", "1~4\x002~binance", "1~42~bin'ance", "1~42~binance~",
        "1~42~binance\n", "\u0661~42~binance", "9" * 18 + "~42~binance",
    ],
)  # fmt: skip
def test_forged_cursors_are_refused(text: str) -> None:
    with pytest.raises(ApiProblemError):
        decode_cursor("cursor", text, TRADES)


def test_unknown_and_overlong_parameters_are_refused() -> None:
    with pytest.raises(ApiProblemError, match="froom"):
        Params([("froom", "1")], frozenset({"from"}))
    with pytest.raises(ApiProblemError, match="twice"):
        Params([("from", "1"), ("from", "2")], frozenset({"from"}))
    with pytest.raises(ApiProblemError, match="too long"):
        Params([("from", "1" * 1_000)], frozenset({"from"}))
