"""connectors.bybit: what is particular to Bybit."""

import json

import pytest

from market_ingestor.connectors.bybit import Bybit
from market_ingestor.connectors.venue import (
    Gap,
    Heartbeat,
    Ignored,
    Rejected,
    RestResponse,
    SubscriptionRefused,
    Trades,
)
from market_ingestor.errors import VenueBannedError
from market_ingestor.model.instrument import VenueInstrument

VENUE = Bybit()
BTC = VenueInstrument(venue_symbol="BTCUSDT", rest_symbol="BTCUSDT", base="BTC", quote="USDT")
GAP = Gap(instrument=BTC, after_id=100, before_id=500, from_time_us=0, to_time_us=1)


def test_path_chooses_the_spot_market() -> None:
    assert VENUE.connect_url("ws://127.0.0.1:1") == "ws://127.0.0.1:1/v5/public/spot"
    assert VENUE.instruments_request().params == {"category": "spot"}
    request = VENUE.history_request(GAP)
    assert request is not None
    assert request.params == {"category": "spot", "symbol": "BTCUSDT", "limit": 60}


def test_requests_carry_their_number_as_text() -> None:
    assert json.loads(VENUE.subscribe(["BTCUSDT"], 7)) == {
        "req_id": "7", "op": "subscribe", "args": ["publicTrade.BTCUSDT"],
    }  # fmt: skip
    ping = VENUE.ping(8)
    assert ping is not None
    assert json.loads(ping) == {"req_id": "8", "op": "ping"}


@pytest.mark.parametrize("op", ["ping", "pong"])
def test_pong_of_either_name_is_a_heartbeat(op: str) -> None:
    assert VENUE.decode(json.dumps({"op": op, "ret_msg": "pong"})) == [Heartbeat()]


def test_refused_request_names_no_symbol_because_all_of_it_failed() -> None:
    text = "error:handler not found,topic:publicTrade.NOTASYMBOL"
    frame = json.dumps({"success": False, "ret_msg": text, "req_id": "7", "op": "subscribe"})
    assert VENUE.decode(frame) == [SubscriptionRefused(7, (), text)]


@pytest.mark.parametrize("success", [True, False])
def test_answer_to_unsubscribe_is_ignored(success: bool) -> None:
    frame = json.dumps({"success": success, "ret_msg": "", "req_id": "7", "op": "unsubscribe"})
    assert VENUE.decode(frame) == [Ignored()]


def test_push_without_symbol_is_rejected() -> None:
    for rows in ("[]", "[7]"):
        (event,) = VENUE.decode(f'{{"topic":"publicTrade.","data":{rows}}}')
        assert isinstance(event, Rejected)
        assert event.reason == "bad_type"


def test_largest_push_keeps_every_trade_in_order() -> None:
    row = '{"T":1795132800125,"s":"BTCUSDT","S":"Buy","v":"1","p":"2","i":"%d"}'
    rows = ",".join(row % number for number in range(1, 1025))
    (event,) = VENUE.decode(f'{{"topic":"publicTrade.BTCUSDT","type":"snapshot","data":[{rows}]}}')
    assert isinstance(event, Trades)
    ids = [trade.id for trade in event.trades]
    assert ids == [str(number) for number in range(1, 1025)]


def test_one_page_is_all_there_is() -> None:
    rows = [
        {"execId": str(number), "price": "1", "size": "2", "side": "Buy", "time": "1795132800125"}
        for number in range(260, 200, -1)
    ]
    body = json.dumps({"retCode": 0, "retMsg": "OK", "result": {"list": rows}}).encode()
    page = VENUE.decode_history(GAP, RestResponse(status=200, headers={}, body=body))
    assert page.next is None
    assert (page.trades[0].id, page.trades[-1].id) == ("201", "260")


def test_too_many_visits_is_a_ban() -> None:
    body = b'{"retCode":10006,"retMsg":"Too many visits!","result":{}}'
    with pytest.raises(VenueBannedError):
        VENUE.decode_history(GAP, RestResponse(status=200, headers={}, body=body))
