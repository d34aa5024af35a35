"""How parameters are read."""

import pytest

from market_ingestor.api.errors import ApiProblemError
from market_ingestor.api.params import (
    Params,
    decode_cursor,
    encode_cursor,
    parse_time_ms,
    symbol_name,
)
from market_ingestor.model.stored import TradeKey


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
        "1969-12-31T00:00:00Z",
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
    key = TradeKey(1_763_676_000_000_000, "42", "binance")
    text = encode_cursor(key)
    assert text.isascii()
    assert "=" not in text
    assert decode_cursor("cursor", text, TradeKey) == key


@pytest.mark.parametrize(
    "place",
    [
        (10**30, "42", "binance"),
        (-1, "42", "binance"),
        (1, "4\x002", "binance"),
        (1, "42", "bin'ance"),
        (1, "42"),
        {"time_us": 1},
    ],
)
def test_forged_cursors_are_refused(place: object) -> None:
    with pytest.raises(ApiProblemError):
        decode_cursor("cursor", encode_cursor(place), TradeKey)


def test_unknown_and_overlong_parameters_are_refused() -> None:
    with pytest.raises(ApiProblemError, match="froom"):
        Params({"froom": "1"}, frozenset({"from"}))
    with pytest.raises(ApiProblemError, match="too long"):
        Params({"from": "1" * 1_000}, frozenset({"from"}))
