"""Coinbase Exchange as simulated, against the samples of its documents."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from market_ingestor.simulator.protocol import Close

if TYPE_CHECKING:
    from market_ingestor.simulator.protocol import Session
    from tests.unit.simulator.conftest import Venue

Shape = Callable[[object], object]

TRADES = "/products/BTC-USD/trades"
CANDLES = "/products/BTC-USD/candles"

MATCH = (
    '{"type":"match","trade_id":712345678,"maker_order_id":"...","taker_order_id":"...",'
    '"side":"sell","size":"0.01200000","price":"91234.57","product_id":"BTC-USD",'
    '"sequence":90012345689,"time":"2026-11-20T00:00:00.540212Z"}'
)
BEAT = (
    '{"type":"heartbeat","sequence":90012345700,"last_trade_id":712345678,"product_id":"BTC-USD",'
    '"time":"2026-11-20T00:00:01.000123Z"}'
)
ROWS = (
    '[{"trade_id":712345678,"side":"sell","size":"0.01200000","price":"91234.57",'
    '"time":"2026-11-20T00:00:00.540212Z"}]'
)
PRODUCTS = (
    '[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01",'
    '"base_increment":"0.00000001","display_name":"BTC-USD","min_market_funds":"1",'
    '"margin_enabled":false,"post_only":false,"limit_only":false,"cancel_only":false,'
    '"status":"online","status_message":"","trading_disabled":false,"fx_stablecoin":false,'
    '"auction_mode":false}]'
)


def decoded(text: str) -> Any:
    return msgspec.json.decode(text)


def subscribe(*products: str, kind: str = "subscribe", channels: Any = None) -> Any:
    names = ["matches", "heartbeat"] if channels is None else channels
    return {"type": kind, "product_ids": list(products), "channels": names}


def ids(answer: Any) -> list[int]:
    return [row["trade_id"] for row in answer]


@pytest.fixture
def coinbase(venue: "type[Venue]") -> "Venue":
    return venue("coinbase")


@pytest.fixture
def session(coinbase: "Venue") -> "Session":
    return coinbase.connect("/")


def test_the_answer_lists_everything_subscribed(coinbase: "Venue", session: "Session") -> None:
    answer, *_ = coinbase.ask(session, subscribe("BTC-USD", "ETH-USD"))
    products = ["BTC-USD", "ETH-USD"]
    assert answer == {
        "type": "subscriptions",
        "channels": [
            {"name": "matches", "product_ids": products, "account_ids": None},
            {"name": "heartbeat", "product_ids": products, "account_ids": None},
        ],
    }
    (answer,) = coinbase.ask(
        session, subscribe("ETH-USD", kind="unsubscribe", channels=["matches"])
    )
    assert answer["channels"][0]["product_ids"] == ["BTC-USD"]
    assert answer["channels"][1]["product_ids"] == products


def test_channels_may_be_objects(coinbase: "Venue", session: "Session") -> None:
    channels = [{"name": "matches", "product_ids": ["BTC-USD"]}]
    coinbase.ask(session, {"type": "subscribe", "channels": channels})
    assert session.wanted == {"matches": {0}}


def test_the_last_match_anchors_a_new_subscription(
    coinbase: "Venue", session: "Session", shape: Shape
) -> None:
    _, bitcoin, ether = coinbase.ask(session, subscribe("BTC-USD", "ETH-USD"))
    assert shape(bitcoin) == shape(decoded(MATCH))
    assert bitcoin["type"] == ether["type"] == "last_match"
    assert bitcoin["trade_id"] == coinbase.last_id(0)
    assert len(coinbase.ask(session, subscribe("BTC-USD"))) == 1  # already there: no new anchor


def test_a_bad_product_is_refused_and_the_good_one_subscribed(
    coinbase: "Venue", session: "Session"
) -> None:
    error, state, *_ = coinbase.ask(session, subscribe("FOO-USD", "BTC-USD"))
    assert error == {
        "type": "error",
        "message": "Failed to subscribe",
        "reason": "FOO-USD is not a valid product",
    }
    assert state["channels"][0]["product_ids"] == ["BTC-USD"]


def test_who_does_not_subscribe_within_five_seconds_is_cut(
    coinbase: "Venue", session: "Session"
) -> None:
    assert session.tick(coinbase.now_us + 4_900_000) == []
    assert isinstance(session.tick(coinbase.now_us + 5_100_000)[0], Close)


def test_a_match_carries_the_side_of_the_maker(
    coinbase: "Venue", session: "Session", shape: Shape
) -> None:
    coinbase.ask(session, subscribe("BTC-USD"))
    fills = [fill for fill in coinbase.trade(80) if fill.market == 0]
    for fill, frame in zip(fills, coinbase.frames(session, fills), strict=True):
        assert shape(frame) == shape(decoded(MATCH))
        assert frame["side"] == ("sell" if fill.is_buy else "buy")
        assert frame["trade_id"] == fill.id


def test_every_product_beats_once_a_second_with_its_newest_id(
    coinbase: "Venue", session: "Session", shape: Shape
) -> None:
    coinbase.ask(session, subscribe("BTC-USD", "ETH-USD"))
    beats = [
        (tenth, decoded(beat))
        for tenth in range(1, 31)
        for beat in session.tick(coinbase.now_us + tenth * 100_000)
        if isinstance(beat, str)
    ]
    assert [tenth for tenth, _ in beats] == [10, 10, 20, 20, 30, 30]
    assert shape(beats[0][1]) == shape(decoded(BEAT))
    assert beats[0][1]["last_trade_id"] == coinbase.last_id(0)
    assert beats[1][1]["last_trade_id"] == coinbase.last_id(1)


def test_missed_beats_are_not_made_up_for(coinbase: "Venue", session: "Session") -> None:
    coinbase.ask(session, subscribe("BTC-USD"))
    assert len(session.tick(coinbase.now_us + 10_000_000)) == 1
    assert session.tick(coinbase.now_us + 10_100_000) == []


def test_rows_have_the_documented_shape_newest_first(coinbase: "Venue", shape: Shape) -> None:
    answer = coinbase.get(TRADES, limit=3)
    rows = decoded(answer.body.decode())
    last = coinbase.last_id()
    assert shape(rows) == shape(decoded(ROWS))
    assert ids(rows) == [last, last - 1, last - 2]
    assert answer.headers == {"cb-before": str(last), "cb-after": str(last - 2)}


def test_after_is_older_and_before_gives_the_newest_page(coinbase: "Venue") -> None:
    last = coinbase.last_id()
    assert ids(coinbase.get_json(TRADES, after=1_011, limit=10)) == list(range(1_010, 1_000, -1))
    assert ids(coinbase.get_json(TRADES, before=1_010, limit=2)) == [last, last - 1]
    assert ids(coinbase.get_json(TRADES, before=last - 1, limit=9)) == [last]
    assert ids(coinbase.get_json(TRADES, before=last)) == []


def test_rest_and_websocket_agree(coinbase: "Venue", session: "Session") -> None:
    coinbase.ask(session, subscribe("BTC-USD"))
    frames = coinbase.frames(session, coinbase.trade(60))
    rows = coinbase.get_json(TRADES, limit=len(frames))
    names = ("trade_id", "side", "size", "price", "time")
    told = [tuple(row[name] for name in names) for row in reversed(rows)]
    assert told == [tuple(frame[name] for name in names) for frame in frames]


def test_rest_refuses_as_the_venue_does(coinbase: "Venue") -> None:
    assert coinbase.get_json("/products/FOO-USD/trades") == {"message": "NotFound"}
    assert coinbase.get("/products/FOO-USD/trades").status == 404
    assert coinbase.get(TRADES, {"user-agent": ""}).status == 400
    assert coinbase.get(TRADES, limit="x").status == 400


def test_fifteen_requests_may_come_at_once_and_ten_a_second(coinbase: "Venue") -> None:
    statuses = [coinbase.get(TRADES).status for _ in range(16)]
    assert statuses == [200] * 15 + [429]
    coinbase.now_us += 1_500_000
    assert coinbase.get(TRADES).status == 200


def test_candles_are_low_high_open_close_without_empty_rows(coinbase: "Venue") -> None:
    coinbase.now_us += 300_000_000
    coinbase.trade(10, seconds=1)
    rows = coinbase.get_json(CANDLES, granularity=60)
    assert [row[0] for row in rows] == [1_795_133_220, 1_795_133_160, 1_795_132_860, 1_795_132_800][
        -len(rows) :
    ]
    for _, low, high, opened, close, _ in rows:
        assert low <= min(opened, close) <= max(opened, close) <= high


def test_candle_ranges_are_refused_when_too_large(coinbase: "Venue") -> None:
    wide = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    assert coinbase.get(CANDLES, granularity=60, **wide).status == 400
    assert coinbase.get(CANDLES, granularity=180).status == 400
    narrow = {"start": "2026-11-20T00:01:00Z", "end": "2026-11-20T00:05:00Z"}
    rows = coinbase.get_json(CANDLES, granularity=60, **narrow)
    assert [row[0] for row in rows] == [1_795_132_860]


def test_the_product_list_has_the_documented_shape(coinbase: "Venue", shape: Shape) -> None:
    assert shape(coinbase.get_json("/products")) == shape(decoded(PRODUCTS))
