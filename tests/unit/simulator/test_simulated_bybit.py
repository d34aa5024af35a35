"""Bybit v5 spot as simulated, against the samples of its documents."""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from market_ingestor.simulator.protocol import Close

if TYPE_CHECKING:
    from market_ingestor.simulator.protocol import Session
    from tests.unit.simulator.conftest import Venue

Shape = Callable[[object], object]

PATH = "/v5/public/spot"
RECENT = "/v5/market/recent-trade"
KLINE = "/v5/market/kline"

PUSH = (
    '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1795132800130,"data":[{'
    '"T":1795132800125,"s":"BTCUSDT","S":"Buy","v":"0.0012","p":"91234.5",'
    '"i":"2290000000912345678","BT":false,"RPI":false,"seq":98765432101}]}'
)
ACK = '{"success":true,"ret_msg":"subscribe","conn_id":"0b1c...","req_id":"s1","op":"subscribe"}'
ROWS = (
    '{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{'
    '"execId":"2290000000912345680","symbol":"BTCUSDT","price":"91234.4","size":"0.0005",'
    '"side":"Sell","time":"1795132800140","isBlockTrade":false,"isRPITrade":false,'
    '"seq":"98765432110"}]},"retExtInfo":{},"time":1795132800200}'
)
KLINES = (
    '{"retCode":0,"retMsg":"OK","result":{"category":"spot","symbol":"BTCUSDT","list":[['
    '"1795132860000","91255.4","91260","91250","91251.1","3.21","292900.1"]]},"retExtInfo":{},'
    '"time":1795132875000}'
)
INSTRUMENTS = (
    '{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"symbolId":12,'
    '"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","innovation":"0","symbolType":"",'
    '"status":"Trading","marginTrading":"utaOnly","stTag":"0","lotSizeFilter":{'
    '"basePrecision":"0.000001","quotePrecision":"0.0000001","minOrderQty":"0.00002",'
    '"maxOrderQty":"70","minOrderAmt":"6","maxOrderAmt":"5000000"},"priceFilter":{'
    '"tickSize":"0.1"},"riskParameters":{"priceLimitRatioX":"0.005","priceLimitRatioY":"0.01"}}]},'
    '"retExtInfo":{},"time":1795132800000}'
)


def decoded(text: str) -> Any:
    return msgspec.json.decode(text)


def request(*names: str, operation: str = "subscribe") -> Any:
    return {"req_id": "s1", "op": operation, "args": [f"publicTrade.{name}" for name in names]}


@pytest.fixture
def bybit(venue: "type[Venue]") -> "Venue":
    return venue("bybit")


@pytest.fixture
def session(bybit: "Venue") -> "Session":
    return bybit.connect(PATH)


def test_a_request_gets_one_answer(bybit: "Venue", session: "Session", shape: Shape) -> None:
    (answer,) = bybit.ask(session, request("BTCUSDT", "ETHUSDT"))
    assert shape(answer) == shape(decoded(ACK))
    assert answer["req_id"] == "s1"
    assert session.wanted == {"publicTrade": {0, 1}}
    bybit.ask(session, request("ETHUSDT", operation="unsubscribe"))
    assert session.wanted == {"publicTrade": {0}}


def test_one_bad_topic_refuses_the_whole_batch(bybit: "Venue", session: "Session") -> None:
    (answer,) = bybit.ask(session, request("BTCUSDT", "NOTASYMBOL", "ETHUSDT"))
    assert answer["success"] is False
    assert answer["ret_msg"] == "error:handler not found,topic:publicTrade.NOTASYMBOL"
    assert answer["req_id"] == ""
    assert session.wanted == {}


def test_more_than_ten_arguments_are_refused(bybit: "Venue", session: "Session") -> None:
    (answer,) = bybit.ask(session, request(*["BTCUSDT"] * 11))
    assert answer["success"] is False
    assert session.wanted == {}


def test_a_repeated_topic_is_refused(bybit: "Venue", session: "Session") -> None:
    bybit.ask(session, request("BTCUSDT"))
    (answer,) = bybit.ask(session, request("BTCUSDT"))
    assert answer["ret_msg"] == "error:already subscribed,topic:publicTrade.BTCUSDT"


def test_a_delisted_symbol_breaks_the_next_batch(bybit: "Venue", session: "Session") -> None:
    bybit.world.delisted.add(1)
    (answer,) = bybit.ask(session, request("BTCUSDT", "ETHUSDT"))
    assert answer["success"] is False


def test_the_pong_says_op_ping(bybit: "Venue", session: "Session") -> None:
    (pong,) = bybit.ask(session, {"req_id": "p1", "op": "ping"})
    assert (pong["success"], pong["ret_msg"], pong["op"]) == (True, "pong", "ping")


def test_ten_minutes_of_silence_end_the_connection(bybit: "Venue", session: "Session") -> None:
    assert session.tick(bybit.now_us + 599_000_000) == []
    assert isinstance(session.tick(bybit.now_us + 601_000_000)[0], Close)


def test_only_the_spot_path_exists(bybit: "Venue") -> None:
    assert bybit.front.accept("/v5/public/linear", {}, 0) is None


def test_ready_trades_of_a_symbol_share_a_frame(
    bybit: "Venue", session: "Session", shape: Shape
) -> None:
    bybit.ask(session, request("BTCUSDT", "ETHUSDT"))
    fills = bybit.trade(100)
    frames = bybit.frames(session, fills)
    assert [frame["topic"] for frame in frames] == [
        f"publicTrade.{bybit.world.markets[market].native}"
        for market in dict.fromkeys(fill.market for fill in fills)
    ]
    assert {shape(frame) == shape(decoded(PUSH)) for frame in frames} == {True}
    for frame in frames:
        ids = [int(row["i"]) for row in frame["data"]]
        assert all(right == left + 1 for left, right in pairwise(ids))


def test_a_frame_holds_at_most_1024_trades(bybit: "Venue", session: "Session") -> None:
    bybit.ask(session, request("BTCUSDT"))
    fills = bybit.trade(5_000)
    sizes = [len(frame["data"]) for frame in bybit.frames(session, fills)]
    assert max(sizes) == 1_024
    assert sum(sizes) == sum(fill.market == 0 for fill in fills)


def test_real_ids_have_nineteen_digits_and_fit_64_bits(bybit: "Venue") -> None:
    first = bybit.front.first_id(7, 1_795_132_800)
    assert len(str(first)) == 19
    assert first < 2**63


def test_recent_trades_are_the_newest_sixty_and_no_more(bybit: "Venue", shape: Shape) -> None:
    answer = bybit.get_json(RECENT, category="spot", symbol="BTCUSDT", limit=1_000)
    assert shape(answer) == shape(decoded(ROWS))
    ids = [int(row["execId"]) for row in answer["result"]["list"]]
    assert ids == list(range(bybit.last_id(), bybit.last_id() - 60, -1))


def test_category_is_needed_and_klines_default_to_another_market(bybit: "Venue") -> None:
    for path in (RECENT, KLINE):
        assert bybit.get_json(path, symbol="BTCUSDT", interval="1")["retCode"] == 10_001
    assert bybit.get_json(RECENT, category="spot", symbol="NOPE")["retCode"] == 10_001


def test_klines_are_newest_first(bybit: "Venue", shape: Shape) -> None:
    answer = bybit.get_json(KLINE, category="spot", symbol="BTCUSDT", interval="1")
    assert shape(answer) == shape(decoded(KLINES))
    times = [int(row[0]) for row in answer["result"]["list"]]
    assert times == sorted(times, reverse=True)


def test_too_many_requests_ban_the_address_for_ten_minutes(bybit: "Venue") -> None:
    for _ in range(600):
        assert bybit.get("/v5/market/time").status == 200
    banned = bybit.get("/v5/market/time")
    assert (banned.status, banned.body) == (403, b"403, access too frequent")
    bybit.now_us += 599_000_000
    assert bybit.get("/v5/market/time").status == 403
    bybit.now_us += 2_000_000
    assert bybit.get("/v5/market/time").status == 200


def test_the_instrument_list_has_the_documented_shape(bybit: "Venue", shape: Shape) -> None:
    answer = bybit.get_json("/v5/market/instruments-info", category="spot")
    assert shape(answer) == shape(decoded(INSTRUMENTS))
    bybit.world.delisted.add(0)
    listed = bybit.get_json("/v5/market/instruments-info", category="spot")["result"]["list"]
    assert [row["symbol"] for row in listed] == ["ETHUSDT"]
