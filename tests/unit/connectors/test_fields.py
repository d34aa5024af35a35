"""connectors.fields: ids, numbers and times, exactly."""

from typing import Any

import pytest

from market_ingestor.connectors.fields import (
    TIME_US_MAX,
    TIME_US_MIN,
    checked_id,
    checked_number,
    checked_trade,
    event_of,
    events_of,
    open_frame,
    request_number,
    us_from_ms,
    us_from_ms_text,
    us_from_rfc3339,
    us_from_seconds,
)
from market_ingestor.connectors.venue import Rejected, Trades
from market_ingestor.model.trade import TextTrade, Trade


def trade(number: str) -> TextTrade:
    return Trade(id=number, price="1", amount="1", side="buy", time_us=TIME_US_MIN)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"), (7, "7"), (2**63 - 1, "9223372036854775807"), ("12", "12"), ("0", "0"),
        ("0012", "12"), ("9223372036854775807", "9223372036854775807"),
        ("0000000000000000007", "7"),
    ],
)  # fmt: skip
def test_id_is_digits_without_leading_zeros(value: object, expected: str) -> None:
    assert checked_id(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        -1, 2**63, 10**40, True, 1.0, None, "", "-1", "+1", " 1", "1 ", "1e3",
        "9223372036854775808", "00000000000000000007", "\u0661", "\u00b2", "a", [], {},
    ],
)  # fmt: skip
def test_id_of_another_form_is_none(value: object) -> None:
    assert checked_id(value) is None


@pytest.mark.parametrize(
    "value", ["1", "1.50", "0.1", "007.5", "9" * 39, "9" * 40, "0." + "1" * 40]
)
def test_plain_number_stays_as_sent(value: str) -> None:
    assert checked_number(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [("12.", "12"), (".5", "0.5"), ("1E+3", "1000"), ("1.2e-7", "0.00000012"), ("+1", "1")],
)
def test_other_notations_become_plain(value: str, expected: str) -> None:
    assert checked_number(value) == expected


@pytest.mark.parametrize("value", ["0", "0.00", "00", "0.", "0e5", ".0"])
def test_zero_passes_only_where_allowed(value: str) -> None:
    assert checked_number(value) is None
    allowed = checked_number(value, may_be_zero=True)
    assert allowed is not None
    assert set(allowed) <= {"0", "."}


@pytest.mark.parametrize(
    "value", [1, 1.5, None, True, "", ".", "-1", "1..2", "1.2.3", "1,5", "NaN", "inf", "1" * 200]
)
def test_what_is_no_number_is_none(value: object) -> None:
    assert checked_number(value) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T00:00:00Z", 1795132800_000000),
        ("2026-11-20T00:00:00.1Z", 1795132800_100000),
        ("2026-11-20T00:00:00.12Z", 1795132800_120000),
        ("2026-11-20T00:00:00.123Z", 1795132800_123000),
        ("2026-11-20T00:00:00.1234Z", 1795132800_123400),
        ("2026-11-20T00:00:00.12345Z", 1795132800_123450),
        ("2026-11-20T00:00:00.540212Z", 1795132800_540212),
        ("2026-11-20T00:00:00.5402129Z", 1795132800_540212),
        ("2026-11-20T00:00:59.999999999Z", 1795132859_999999),  # cut: the minute stays
        ("2026-11-20T01:00:00.000001+01:00", 1795132800_000001),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00Z", -62135596800_000000),
    ],
)
def test_rfc3339_is_exact(text: str, expected: int) -> None:
    assert us_from_rfc3339(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        None, 1795132800, "", "Z", "2026-11-20", "2026-11-20T00:00:00", "2026-11-20 00:00:00Z",
        "2026-11-20T00:00:00,5Z", "2026-W47-5T00:00:00Z", "20261120T000000Z",
        "2026-13-20T00:00:00Z", "2026-11-20T24:00:01Z", "2026-11-20T00:00:60Z",
        "2026-11-20T00:00:00.12xZ", "2026-11-20T00:00:00ZZ", "2026-11-20T00:00:00\u0661Z",
        "2026-11-20T00:00:00.5", "x" * 100_000,
    ],
)  # fmt: skip
def test_other_notations_of_time_are_none(value: object) -> None:
    assert us_from_rfc3339(value) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1795132800.7714021", 1795132800_771402),
        ("1795132800.7714029", 1795132800_771402),
        ("1795132800.9999999", 1795132800_999999),
        ("1795132800", 1795132800_000000),
        ("1795132800.5", 1795132800_500000),
        ("", None), (".5", None), ("1.", None), ("1e9", None), ("-1", None), ("1.2.3", None),
        ("1" * 40, None), ("\u0661", None),
    ],
)  # fmt: skip
def test_decimal_seconds_are_exact(text: str, expected: int | None) -> None:
    assert us_from_seconds(text) == expected


def test_milliseconds_are_integers_or_digits() -> None:
    assert us_from_ms(1795132800125) == us_from_ms_text("1795132800125") == 1795132800125000
    for value in (None, True, 1.5, "1795132800125"):
        assert us_from_ms(value) is None
    for text in (None, 1795132800125, "", "-1", "1.5", "1" * 20, "\u0661"):
        assert us_from_ms_text(text) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7), ("7", 7), ("t7", None), ("", None), (None, None), (True, None), ("1" * 5000, None)],
)
def test_request_number_is_read_from_number_or_text(value: object, expected: int | None) -> None:
    assert request_number(value) == expected


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("id", "x", "bad_id"),
        ("price", "0", "bad_price"),
        ("amount", "0", "bad_amount"),
        ("side", None, "bad_side"),
        ("time_us", None, "bad_time"),
        ("time_us", TIME_US_MIN - 1, "bad_time"),
        ("time_us", TIME_US_MAX, "bad_time"),
    ],
)
def test_first_unfit_field_names_the_reason(field: str, value: object, reason: str) -> None:
    fields: dict[str, Any] = {
        "id": 1,
        "price": "1",
        "amount": "1",
        "side": "buy",
        "time_us": TIME_US_MIN,
    }
    assert isinstance(checked_trade(**fields), Trade)
    rejected = checked_trade(**{**fields, field: value})
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


def test_zero_amount_passes_where_the_venue_has_no_amounts() -> None:
    result = checked_trade(
        id=1, price="1", amount="0", side="buy", time_us=TIME_US_MIN, has_amounts=False
    )
    assert isinstance(result, Trade)
    assert result.amount == "0"


def test_excerpt_is_bounded_whatever_the_values() -> None:
    huge: list[object] = [10**4000, "9" * 100_000, {"deep": []}]
    for value in huge:
        result = checked_trade(id=value, price=value, amount=value, side=None, time_us=10**4000)
        assert isinstance(result, Rejected)
        assert len(result.excerpt) <= 203


def test_rejections_follow_the_good_trades_in_order() -> None:
    bad = Rejected("bad_id", "")
    assert events_of("A", [trade("1"), bad, trade("2")]) == [
        Trades("A", [trade("1"), trade("2")]),
        bad,
    ]
    assert events_of("A", [bad, bad]) == [bad, bad]
    assert events_of("A", []) == []
    assert event_of("A", bad) == [bad]
    assert event_of("A", trade("1")) == [Trades("A", (trade("1"),))]


def test_open_frame_tells_no_json_from_no_object() -> None:
    assert open_frame(b'{"a":1e999}') != {}
    assert open_frame(b"nonsense") == Rejected("bad_json", "nonsense")
    assert open_frame(b"[1]") == Rejected("bad_type", "[1]")
