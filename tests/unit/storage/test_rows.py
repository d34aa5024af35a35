"""From messages to the text that is copied: what is stored, and what never gets there."""

from typing import Any

import msgspec
import pytest

from market_ingestor.errors import DecodeError
from market_ingestor.storage.rows import (
    escaped,
    gap_row,
    kline_row,
    trade_rows,
)

SUBJECT = "market.raw.binance.BTCUSDT"
KLINE_SUBJECT = "market.kline.binance.BTCUSDT.1m"
EVENT_SUBJECT = "market.event.binance.BTCUSDT"


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "id": "3456789012",
        "price": "67123.450",
        "amount": "0.00123",
        "side": "buy",
        "time_us": 1_763_676_000_120_001,
    } | changes


def batch(*trades: dict[str, Any], **changes: Any) -> bytes:
    return msgspec.json.encode(
        {
            "v": 1,
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "feed": "i0-7",
            "n": 1,
            "source": "ws",
            "received_us": 1_763_676_000_123_456,
            "prev_id": None,
            "trades": list(trades),
        }
        | changes
    )


def kline(**changes: Any) -> bytes:
    return msgspec.json.encode(
        {
            "v": 1,
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "period": "1m",
            "open_time": 1_763_676_000_000,
            "close_time": 1_763_676_059_999,
            "open": "1",
            "high": "2",
            "low": "0.5",
            "close": "1.5",
            "volume": "12.5",
            "quote_volume": "0." + "1" * 150,
            "buy_volume": "0",
            "buy_quote_volume": "0",
            "trade_count": 3,
            "first_trade_id": "9",
            "last_trade_id": "11",
            "closed": True,
            "complete": True,
            "revision": 1,
            "reason": "close",
        }
        | changes
    )


def event(**changes: Any) -> bytes:
    return msgspec.json.encode(
        {
            "v": 1,
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "type": "gap_found",
            "time_us": 1_763_676_000_000_000,
            "after_id": "10",
            "before_id": "13",
            "missing": 2,
            "from_time": 1_763_676_000_000,
            "to_time": 1_763_676_001_000,
            "detail": "",
        }
        | changes
    )


def test_digits_reach_the_table_as_they_came() -> None:
    found = trade_rows(SUBJECT, batch(trade(), trade(id="3456789013", side=None)), 7)
    assert [row.line for row in found.rows] == [
        f"binance\tBTCUSDT\t{number}\t2025-11-20 22:00:00.120001+00\t67123.450\t0.00123\t{side}"
        "\t2025-11-20 22:00:00.123456+00\n"
        for number, side in ((3456789012, "buy"), (3456789013, "\\N"))
    ]
    assert [row.sequence for row in found.rows] == [7, 7]
    assert found.rows[0].key == ("binance", "BTCUSDT", "3456789012")
    assert not found.refused


@pytest.mark.parametrize(
    "trade_id", ["1", "0", "9223372036854775807", "1763676000123001002", "999999999999999999"]
)
def test_ids_of_every_length_are_stored(trade_id: str) -> None:
    found = trade_rows(SUBJECT, batch(trade(id=trade_id)), 1)
    assert [row.key[2] for row in found.rows] == [trade_id]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": "NaN"}, "price"),
        ({"price": "Infinity"}, "price"),
        ({"price": "-1"}, "price"),
        ({"price": "0"}, "price"),
        ({"price": "0.000"}, "price"),
        ({"price": "1e5"}, "price"),
        ({"price": ""}, "price"),
        ({"price": "1\t2"}, "price"),
        ({"price": "1\\N"}, "price"),
        ({"price": "1\n2"}, "price"),
        ({"price": "1\0"}, "price"),
        ({"price": "٣"}, "price"),
        ({"amount": "1" * 100}, "amount"),
        ({"amount": "0." + "0" * 50 + "1"}, "amount"),
        ({"id": ""}, "id"),
        ({"id": "a"}, "id"),
        ({"id": "1\t"}, "id"),
        ({"id": "007"}, "id"),
        ({"id": "9223372036854775808"}, "id"),
        ({"id": "1" * 30}, "id"),
        ({"time_us": -1}, "time"),
        ({"time_us": 2**62}, "time"),
    ],
)
def test_a_trade_no_table_can_hold_is_refused_alone(changes: dict[str, Any], reason: str) -> None:
    found = trade_rows(SUBJECT, batch(trade(id="1"), trade(**changes), trade(id="3")), 1)
    assert [row.key[2] for row in found.rows] == ["1", "3"]
    assert [reason in each.reason for each in found.refused] == [True]


def test_a_number_with_many_digits_is_stored_exactly() -> None:
    price = "123456789012345678901234567890.123456789012345678901234567890"
    found = trade_rows(SUBJECT, batch(trade(price=price)), 1)
    assert price in found.rows[0].line
    assert not found.refused


@pytest.mark.parametrize(
    ("subject", "payload"),
    [
        (SUBJECT, b"not json"),
        (SUBJECT, batch()),
        (SUBJECT, batch(trade(), exchange="okx")),
        (SUBJECT, batch(trade(), symbol="ETHUSDT")),
        (SUBJECT, batch(trade(), v=2)),
        (SUBJECT, batch(trade(), received_us=-5)),
        (SUBJECT, batch(trade(side="both"))),
        ("market.raw.BAD!.BTCUSDT", batch(trade(), exchange="BAD!")),
        ("market.raw.binance", batch(trade())),
    ],
)
def test_what_is_no_batch_of_its_subject_is_not_decoded(subject: str, payload: bytes) -> None:
    with pytest.raises(DecodeError):
        trade_rows(subject, payload, 1)


def test_a_candle_keeps_every_digit_of_its_sums() -> None:
    row = kline_row(KLINE_SUBJECT, kline(), 4)
    assert row.line.split("\t")[9] == "0." + "1" * 150
    assert row.key == ("binance", "BTCUSDT", "1m", 1_763_676_000_000, 1)


def test_a_flat_candle_has_no_ids() -> None:
    row = kline_row(KLINE_SUBJECT, kline(trade_count=0, first_trade_id=None, last_trade_id=None), 4)
    assert row.line.split("\t")[13:15] == ["\\N", "\\N"]


@pytest.mark.parametrize(
    "changes",
    [
        {"closed": False, "revision": 0, "reason": "open"},
        {"revision": 0},
        {"revision": 2**31},
        {"open": "NaN"},
        {"open": "1.2.3"},
        {"volume": "-1"},
        {"volume": "1" * 600},
        {"open_time": -604_800_000},
        {"open_time": 2**60},
        {"trade_count": -1},
        {"first_trade_id": "x"},
        {"symbol": "ETHUSDT"},
    ],
)
def test_what_is_no_closed_candle_is_not_decoded(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        kline_row(KLINE_SUBJECT, kline(**changes), 1)


@pytest.mark.parametrize(
    ("kind", "state"),
    [("gap_found", "open"), ("gap_unfillable", "unfillable"), ("gap_filled", "filled")],
)
def test_an_event_about_a_gap_becomes_its_state(kind: str, state: str) -> None:
    row = gap_row(EVENT_SUBJECT, event(type=kind), 1)
    assert row is not None
    assert row.line == (
        "binance\tBTCUSDT\t10\t13\t1763676000000000\t1763676000000000\t1763676001000000\t2"
        f"\t{state}\n"
    )


@pytest.mark.parametrize("kind", ["feed_up", "feed_down", "feed_stale", "backlog"])
def test_other_events_have_no_row(kind: str) -> None:
    assert gap_row(EVENT_SUBJECT, event(type=kind, after_id=None, before_id=None), 1) is None


def test_a_gap_without_ids_is_named_by_its_times() -> None:
    row = gap_row(EVENT_SUBJECT, event(after_id=None, before_id=None, missing=None), 1)
    assert row is not None
    assert row.key[2:4] == ("1763676000000000000", "1763676001000000000")


def test_a_gap_with_one_id_keeps_the_other_side_empty() -> None:
    row = gap_row(EVENT_SUBJECT, event(after_id=None), 1)
    assert row is not None
    assert row.key[2:4] == ("", "13")


@pytest.mark.parametrize(
    "changes",
    [
        {"after_id": None, "before_id": None, "from_time": None},
        {"after_id": "1" * 65},
        {"after_id": "1\0"},
        {"from_time": -1},
        {"missing": -1},
        {"exchange": "a b"},
        {"type": "gap_guessed"},
    ],
)
def test_a_gap_that_cannot_be_named_is_not_decoded(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        gap_row(EVENT_SUBJECT, event(**changes), 1)


def test_escaping_keeps_a_field_a_field() -> None:
    assert escaped("a\tb\nc\\d\re") == "a\\tb\\nc\\\\d\\re"
    with pytest.raises(ValueError, match="NUL"):
        escaped("\0")
