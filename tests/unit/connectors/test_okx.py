"""connectors.okx: what is particular to OKX."""

import json

import pytest

from market_ingestor.connectors.okx import PAGE_ROWS, Okx
from market_ingestor.connectors.venue import (
    Gap,
    Heartbeat,
    Ignored,
    Rejected,
    RestResponse,
    SubscriptionRefused,
)
from market_ingestor.errors import VenueError, VenueProtocolError
from market_ingestor.model.instrument import VenueInstrument

VENUE = Okx()
BTC = VenueInstrument(venue_symbol="BTC-USDT", rest_symbol="BTC-USDT", base="BTC", quote="USDT")
GAP = Gap(instrument=BTC, after_id=100, before_id=500, from_time_us=0, to_time_us=1)


def page(*numbers: int) -> RestResponse:
    rows = [
        {"tradeId": str(number), "px": "1.0", "sz": "2", "side": "buy", "ts": "1795132800000"}
        for number in numbers
    ]
    body = json.dumps({"code": "0", "msg": "", "data": rows}).encode()
    return RestResponse(status=200, headers={}, body=body)


def test_subscribes_on_the_business_socket() -> None:
    assert VENUE.connect_url("ws://127.0.0.1:1") == "ws://127.0.0.1:1/ws/v5/business"
    assert json.loads(VENUE.subscribe(["BTC-USDT"], 7)) == {
        "id": "7", "op": "subscribe", "args": [{"channel": "trades-all", "instId": "BTC-USDT"}],
    }  # fmt: skip


def test_ping_is_text() -> None:
    assert VENUE.ping(1) == "ping"
    assert VENUE.decode("pong") == VENUE.decode(b"pong") == [Heartbeat()]
    assert isinstance(VENUE.decode("pung")[0], Rejected)


@pytest.mark.parametrize(
    ("message", "symbols"),
    [
        ("channel:trades-all,instId:FOO-USDT doesn't exist", ("FOO-USDT",)),
        ("channel:trades-all,instId:FOO-USDT,x", ("FOO-USDT",)),
        ("channel:trades-all,instId:", ()),
        ("nothing named", ()),
    ],
)
def test_refusal_names_its_instrument_when_the_text_does(
    message: str, symbols: tuple[str, ...]
) -> None:
    frame = json.dumps({"event": "error", "code": "60018", "msg": message, "id": "3"})
    assert VENUE.decode(frame) == [SubscriptionRefused(3, symbols, message)]


@pytest.mark.parametrize(
    "frame",
    [
        b'{"event":"notice","code":"64000","msg":"something else"}',
        b'{"event":"subscribe","arg":{"channel":"candle1m","instId":"BTC-USDT"}}',
        b'{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1","2"]]}',
    ],
)
def test_what_we_did_not_ask_for_is_ignored(frame: bytes) -> None:
    assert VENUE.decode(frame) == [Ignored()]


@pytest.mark.parametrize(
    "frame",
    [
        b'{"arg":{"channel":"trades-all","instId":""},"data":[]}',
        b'{"arg":{"channel":"trades-all","instId":7},"data":[]}',
        b'{"arg":{"channel":"trades-all","instId":"A"},"data":{}}',
        b'{"arg":{"channel":"trades-all","instId":"A"}}',
    ],
)
def test_push_without_symbol_or_rows_is_rejected(frame: bytes) -> None:
    (event,) = VENUE.decode(frame)
    assert isinstance(event, Rejected)
    assert event.reason == "bad_type"


def test_walk_goes_down_from_an_id_that_exists() -> None:
    request = VENUE.history_request(GAP)
    assert request is not None
    assert request.params["after"] == 500
    full = VENUE.decode_history(GAP, page(*range(499, 499 - PAGE_ROWS, -1)))
    assert full.next is not None
    assert full.next.params["after"] == 401  # 400, the oldest here, comes again
    assert VENUE.decode_history(GAP, page(*range(150, 50, -1))).next is None


def test_code_counts_and_not_the_status() -> None:
    busy = RestResponse(status=200, headers={}, body=b'{"code":"50013","msg":"busy","data":[]}')
    with pytest.raises(VenueError) as raised:
        VENUE.decode_history(GAP, busy)
    assert raised.value.retry_after_s == 2.0
    odd = RestResponse(status=200, headers={}, body=b'{"data":[]}')
    with pytest.raises(VenueProtocolError):
        VENUE.decode_history(GAP, odd)
