"""connectors.binance: what is particular to Binance."""

import json

import msgspec
import pytest

from market_ingestor.connectors.binance import PAGE_ROWS, Binance
from market_ingestor.connectors.venue import Gap, Ignored, Rejected, RestResponse, Trades
from market_ingestor.model.instrument import VenueInstrument

VENUE = Binance()
BTC = VenueInstrument(venue_symbol="BTCUSDT", rest_symbol="BTCUSDT", base="BTC", quote="USDT")
GAP = Gap(instrument=BTC, after_id=100, before_id=5000, from_time_us=0, to_time_us=1)


def page(*numbers: int) -> RestResponse:
    rows = [
        {"id": number, "price": "1.0", "qty": "2.0", "time": 1795132800000, "isBuyerMaker": True}
        for number in numbers
    ]
    return RestResponse(status=200, headers={}, body=json.dumps(rows).encode())


def test_stream_names_are_lower_case() -> None:
    assert json.loads(VENUE.subscribe(["BTCUSDT"], 7)) == {
        "method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 7,
    }  # fmt: skip
    assert VENUE.connect_url("ws://127.0.0.1:1") == "ws://127.0.0.1:1/stream"


def test_symbols_may_be_of_any_script() -> None:
    assert "\u5e01\u5b89usdt@trade" in VENUE.subscribe(["\u5e01\u5b89USDT"], 1)


def test_trade_of_an_unwrapped_stream_is_a_trade() -> None:
    frame = (
        b'{"e":"trade","E":1795132800127,"s":"BTCUSDT","t":1,"p":"2","q":"3",'
        b'"T":1795132800125,"m":false}'
    )
    (event,) = VENUE.decode(frame)
    assert isinstance(event, Trades)
    assert event.trades[0].side == "buy"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("t", "1.5", "bad_id"), ("p", "1.5", "bad_price"), ("q", "null", "bad_amount"),
        ("T", '"soon"', "bad_time"), ("m", '"true"', "bad_side"), ("m", "null", "bad_side"),
        ("s", "5", "bad_type"), ("s", '""', "bad_type"),
    ],
)  # fmt: skip
def test_field_of_the_wrong_type_names_its_reason(field: str, value: str, reason: str) -> None:
    fields = {"e": '"trade"', "s": '"BTCUSDT"', "t": "1", "p": '"2"', "q": '"3"', "m": "true"}
    fields |= {"T": "1795132800125", field: value}
    data = ",".join(f'"{name}":{text}' for name, text in fields.items())
    (event,) = VENUE.decode(f'{{"stream":"btcusdt@trade","data":{{{data}}}}}')
    assert isinstance(event, Rejected)
    assert event.reason == reason


@pytest.mark.parametrize(
    "frame",
    [
        b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":1}}}',
        b'{"stream":"btcusdt@blockTrade","data":{"e":"blockTrade","s":"BTCUSDT","t":1,"p":"1"}}',
        b'{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}',
        b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":1,"bids":[],"asks":[]}}',
        b'{"result":true,"id":"abc"}',
        b'{"result":null,"id":null}',
    ],
)
def test_other_streams_are_ignored(frame: bytes) -> None:
    assert VENUE.decode(frame) == [Ignored()]


def test_walk_goes_up_and_overlaps_by_one_trade() -> None:
    request = VENUE.history_request(GAP)
    assert request is not None
    assert request.params["fromId"] == 100  # what we have: its neighbour is then proven
    full = VENUE.decode_history(GAP, page(*range(100, 100 + PAGE_ROWS)))
    assert full.next is not None
    assert full.next.params["fromId"] == 1099


@pytest.mark.parametrize("numbers", [range(100, 700), range(4500, 5500), range(0)])
def test_walk_ends_at_a_short_page_or_behind_the_gap(numbers: range) -> None:
    assert VENUE.decode_history(GAP, page(*numbers)).next is None


def test_bad_row_of_a_page_is_rejected_alone() -> None:
    rows = msgspec.json.decode(page(100, 101, 102).body)
    rows[1]["price"] = "-1"
    body = msgspec.json.encode(rows)
    result = VENUE.decode_history(GAP, RestResponse(status=200, headers={}, body=body))
    assert [trade.id for trade in result.trades] == ["100", "102"]
    assert [each.reason for each in result.rejected] == ["bad_price"]
