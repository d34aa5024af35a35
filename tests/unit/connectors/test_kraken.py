"""connectors.kraken: what is particular to Kraken."""

import json

import pytest

from market_ingestor.connectors.kraken import PAGE_ROWS, Kraken
from market_ingestor.connectors.venue import (
    Gap,
    Heartbeat,
    HistoryPage,
    Ignored,
    Rejected,
    RestResponse,
    SubscriptionRefused,
    Trades,
)
from market_ingestor.errors import VenueBannedError, VenueProtocolError
from market_ingestor.model.instrument import VenueInstrument

VENUE = Kraken()
BTC = VenueInstrument(venue_symbol="BTC/USD", rest_symbol="XBTUSD", base="BTC", quote="USD")
START_US = 1795132800_000000
GAP = Gap(
    instrument=BTC,
    after_id=100,
    before_id=5000,
    from_time_us=START_US,
    to_time_us=START_US + 60_000_000,
)


def answer(result: object, error: tuple[str, ...] = ()) -> RestResponse:
    body = json.dumps({"error": error, "result": result}).encode()
    return RestResponse(status=200, headers={}, body=body)


def push(price: str, quantity: str) -> str:
    return (
        '{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy",'
        f'"price":{price},"qty":{quantity},"trade_id":1,"timestamp":"2026-11-20T00:00:00Z"}}]}}'
    )


def page(numbers: range, last_ns: int, *, same_time: bool = False) -> HistoryPage:
    rows = [
        f'["1.0","2.0",1795132800.{0 if same_time else number:07d},"b","l","",{number}]'
        for number in numbers
    ]
    text = f'{{"error":[],"result":{{"XXBTZUSD":[{",".join(rows)}],"last":"{last_ns}"}}}}'
    return VENUE.decode_history(GAP, RestResponse(status=200, headers={}, body=text.encode()))


def test_subscribes_with_a_snapshot_on_version_two() -> None:
    assert VENUE.connect_url("ws://127.0.0.1:1") == "ws://127.0.0.1:1/v2"
    assert json.loads(VENUE.subscribe(["BTC/USD"], 11)) == {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True},
        "req_id": 11,
    }
    assert json.loads(VENUE.unsubscribe(["BTC/USD"], 12))["params"] == {
        "channel": "trade", "symbol": ["BTC/USD"],
    }  # fmt: skip
    assert json.loads(VENUE.ping(5) or "") == {"method": "ping", "req_id": 5}


@pytest.mark.parametrize("number", ["5E-8", "1e-08", "0.50000000", "91230.10", "1E2"])
def test_numbers_keep_the_digits_of_the_frame(number: str) -> None:
    (event,) = VENUE.decode(push(price=f" {number} ", quantity=number))
    assert isinstance(event, Trades)
    plain = {"5E-8": "0.00000005", "1e-08": "0.00000001", "1E2": "100"}.get(number, number)
    assert (event.trades[0].price, event.trades[0].amount) == (plain, plain)


@pytest.mark.parametrize("value", ['"1.5"', "true", "null", "[]", "{}", '"\u00e9"'])
def test_price_that_is_no_json_number_is_rejected(value: str) -> None:
    (event,) = VENUE.decode(push(price=value, quantity="1"))
    assert isinstance(event, Rejected)
    assert event.reason == "bad_price"


def test_rows_of_several_symbols_become_one_event_each() -> None:
    row = (
        '{"symbol":"%s","side":"buy","price":1.0,"qty":1,"trade_id":%d,'
        '"timestamp":"2026-11-20T00:00:00Z"}'
    )
    rows = [row % ("A/B", 1), row % ("C/D", 7), row % ("A/B", 2), row % ("", 3)]
    frame = '{"channel":"trade","type":"update","data":[' + ",".join(rows) + "]}"
    events = VENUE.decode(frame)
    ids = {
        event.venue_symbol: [trade.id for trade in event.trades]
        for event in events
        if isinstance(event, Trades)
    }
    assert ids == {"A/B": ["1", "2"], "C/D": ["7"]}
    assert [event.reason for event in events if isinstance(event, Rejected)] == ["bad_type"]


def test_heartbeat_and_pong_are_alike() -> None:
    assert VENUE.decode('{"channel":"heartbeat"}') == [Heartbeat()]
    assert VENUE.decode('{"method":"pong","req_id":5}') == [Heartbeat()]


def test_refusal_of_too_many_messages_names_its_symbol_when_it_can() -> None:
    frame = {
        "error": "Exceeded msg rate", "method": "subscribe", "req_id": 1, "success": False,
        "symbol": "BTC/USD",
    }  # fmt: skip
    assert VENUE.decode(json.dumps(frame)) == [
        SubscriptionRefused(1, ("BTC/USD",), "Exceeded msg rate")
    ]


@pytest.mark.parametrize(
    "frame",
    [
        '{"method":"unsubscribe","req_id":12,"success":true,"result":{"channel":"trade"}}',
        '{"method":"subscribe","req_id":12,"success":true,"result":{"channel":"ohlc"}}',
        '{"channel":"ohlc","type":"update","data":[{"symbol":"BTC/USD"}]}',
    ],
)
def test_what_we_did_not_ask_for_is_ignored(frame: str) -> None:
    assert VENUE.decode(frame) == [Ignored()]


def test_walk_begins_before_the_gap_and_goes_up_by_time() -> None:
    request = VENUE.history_request(GAP)
    assert request is not None
    assert request.params["since"] == (START_US - 1000) * 1000
    full = page(range(100, 100 + PAGE_ROWS), START_US * 1000 + 109_900)
    assert full.next is not None
    assert full.next.params["since"] == START_US * 1000 + 109_899  # the last trade comes again


def test_walk_ends_at_a_short_page_or_behind_the_gap_in_time() -> None:
    assert page(range(100, 700), START_US * 1000).next is None
    full = range(100, 100 + PAGE_ROWS)
    assert page(full, (START_US + 120_000_000) * 1000).next is None


def test_ids_beyond_the_gap_do_not_end_a_walk_by_time() -> None:
    assert page(range(4500, 4500 + PAGE_ROWS), START_US * 1000).next is not None


def test_a_page_of_one_instant_ends_the_walk_unproved() -> None:
    result = page(range(100, 100 + PAGE_ROWS), START_US * 1000, same_time=True)
    assert result.next is None
    assert not result.is_whole
    assert page(range(100, 700), START_US * 1000).is_whole


def test_times_are_cut_to_the_microsecond() -> None:
    assert page(range(109, 110), 0).trades[0].time_us == START_US + 10


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('[1.0,"2.0",1795132800.1,"b","l","",1]', "bad_price"),
        ('["1.0","2.0","1795132800.1","b","l","",1]', "bad_time"),
        ('["1.0","2.0",1795132800.1,"buy","l","",1]', "bad_side"),
        ('["1.0","2.0",1795132800.1,"b","l","",-1]', "bad_id"),
        ('["1.0","2.0",1795132800.1,"b","l",""]', "bad_type"),
        ("{}", "bad_type"),
    ],
)
def test_bad_row_of_a_page_is_rejected_alone(row: str, reason: str) -> None:
    good = '["1.0","2.0",1795132800.1,"b","l","",7,"new field"]'
    body = f'{{"error":[],"result":{{"X":[{row},{good}],"last":"1"}}}}'
    result = VENUE.decode_history(GAP, RestResponse(status=200, headers={}, body=body.encode()))
    assert [trade.id for trade in result.trades] == ["7"]
    assert [each.reason for each in result.rejected] == [reason]


@pytest.mark.parametrize("result", [{}, {"last": "1"}, {"X": []}, {"X": {}, "last": "1"}])
def test_odd_result_is_a_protocol_error(result: object) -> None:
    with pytest.raises(VenueProtocolError):
        VENUE.decode_history(GAP, answer(result))


def test_warnings_are_no_errors() -> None:
    result = {"X": [], "last": "1"}
    assert VENUE.decode_history(GAP, answer(result, ("WGeneral:Something",))).trades == []
    with pytest.raises(VenueBannedError):
        VENUE.decode_history(GAP, answer(result, ("EAPI:Rate limit exceeded",)))


@pytest.mark.parametrize("wsname", ["", "BTC", "/USD", "BTC/", "A/B/C"])
def test_pair_without_a_name_of_two_parts_is_left_out(wsname: str) -> None:
    pairs = {"X": {"altname": "X", "wsname": wsname}}
    assert VENUE.decode_instruments(answer(pairs)) == []


def test_absurd_lot_decimals_give_no_step() -> None:
    for decimals, expected in ((0, "1"), (8, "0.00000001"), (-1, None), (10**9, None)):
        pairs = {"X": {"altname": "X", "wsname": "A/B", "lot_decimals": decimals}}
        (instrument,) = VENUE.decode_instruments(answer(pairs))
        assert instrument.amount_step == expected
