"""connectors.coinbase: what is particular to Coinbase."""

import json

import pytest

from market_ingestor.connectors.coinbase import PAGE_ROWS, Coinbase
from market_ingestor.connectors.venue import (
    Gap,
    Heartbeat,
    Rejected,
    RestResponse,
    Subscribed,
    SubscriptionRefused,
)
from market_ingestor.model.instrument import VenueInstrument

VENUE = Coinbase()
BTC = VenueInstrument(venue_symbol="BTC-USD", rest_symbol="BTC-USD", base="BTC", quote="USD")
GAP = Gap(instrument=BTC, after_id=100, before_id=5000, from_time_us=0, to_time_us=1)


def page(*numbers: int) -> RestResponse:
    rows = [
        {
            "trade_id": number,
            "price": "1",
            "size": "2",
            "side": "buy",
            "time": "2026-11-20T00:00:00Z",
        }
        for number in numbers
    ]
    return RestResponse(status=200, headers={}, body=json.dumps(rows).encode())


def test_heartbeats_are_subscribed_with_the_matches() -> None:
    request = json.loads(VENUE.subscribe(["BTC-USD", "ETH-USD"], 7))
    assert request == {
        "type": "subscribe",
        "product_ids": ["BTC-USD", "ETH-USD"],
        "channels": ["matches", "heartbeat"],
    }
    assert VENUE.connect_url("ws://127.0.0.1:1") == "ws://127.0.0.1:1"


def test_side_of_history_is_inverted_too() -> None:
    assert VENUE.decode_history(GAP, page(101)).trades[0].side == "sell"


def test_only_matches_confirm_a_subscription() -> None:
    frame = {
        "type": "subscriptions",
        "channels": [
            {"name": "heartbeat", "product_ids": ["BTC-USD", "ETH-USD"]},
            {"name": "matches", "product_ids": ["BTC-USD"]},
        ],
    }
    assert VENUE.decode(json.dumps(frame)) == [Subscribed(None, ("BTC-USD",))]


def test_product_never_traded_has_a_heartbeat_without_id() -> None:
    frame = b'{"type":"heartbeat","sequence":1,"product_id":"NEW-USD","last_trade_id":null}'
    assert VENUE.decode(frame) == [Heartbeat("NEW-USD")]


@pytest.mark.parametrize("kind", ["heartbeat", "last_match"])
def test_heartbeat_with_an_unfit_id_is_rejected(kind: str) -> None:
    frame = f'{{"type":"{kind}","product_id":"A","last_trade_id":-1,"trade_id":-1}}'
    (event,) = VENUE.decode(frame)
    assert isinstance(event, Rejected)
    assert event.reason == "bad_id"


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"match","trade_id":1}',
        b'{"type":"match","trade_id":1,"product_id":7}',
        b'{"type":"last_match","trade_id":1}',
        b'{"type":"heartbeat","last_trade_id":"1","product_id":"A"}',
        b'{"type":"subscriptions","channels":"all"}',
    ],
)
def test_known_message_of_another_shape_is_rejected(frame: bytes) -> None:
    (event,) = VENUE.decode(frame)
    assert isinstance(event, Rejected)
    assert event.reason == "bad_type"


def test_error_without_product_refuses_what_is_pending() -> None:
    frame = b'{"type":"error","message":"Failed to subscribe","reason":"too many"}'
    assert VENUE.decode(frame) == [SubscriptionRefused(None, (), "too many")]


def test_walk_goes_down_from_the_first_id_behind_the_gap() -> None:
    request = VENUE.history_request(GAP)
    assert request is not None
    assert request.params == {"limit": PAGE_ROWS, "after": 5001}
    full = VENUE.decode_history(GAP, page(*range(5000, 5000 - PAGE_ROWS, -1)))
    assert full.next is not None
    assert full.next.params["after"] == 4002  # 4001, the oldest here, comes again


def test_product_name_cannot_leave_its_place_in_the_path() -> None:
    odd = VenueInstrument(venue_symbol="A/../B?", rest_symbol="A/../B?", base="A", quote="B")
    gap = Gap(instrument=odd, after_id=1, before_id=3, from_time_us=0, to_time_us=1)
    request = VENUE.history_request(gap)
    assert request is not None
    assert request.path == "/products/A%2F..%2FB%3F/trades"
