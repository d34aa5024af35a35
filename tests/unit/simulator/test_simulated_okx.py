"""OKX v5 as simulated, against the samples of its documents."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from market_ingestor.simulator.protocol import Close

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Venue

Shape = Callable[[object], object]

BUSINESS = "/ws/v5/business"
PUBLIC = "/ws/v5/public"
TRADES = "/api/v5/market/trades"
HISTORY = "/api/v5/market/history-trades"

ALL = (
    '{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
    '"tradeId":"812345678","px":"91234.5","sz":"0.00123","side":"buy","source":"0",'
    '"ts":"1795132800125"}]}'
)
AGGREGATED = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
    '"tradeId":"812345680","px":"91234.5","sz":"0.5021","side":"buy","ts":"1795132800126",'
    '"count":"3","source":"0","seqId":70012345678}]}'
)
ACK = (
    '{"id":"t1","event":"subscribe","arg":{"channel":"trades-all","instId":"BTC-USDT"},'
    '"connId":"a1b2c3d4"}'
)
ROWS = (
    '{"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001","source":"0",'
    '"px":"91234.4","tradeId":"812345679","ts":"1795132800130"}]}'
)
CANDLES = (
    '{"code":"0","msg":"","data":[["1795132860000","91255.4","91260","91250","91251.1","3.21",'
    '"292900.1","292900.1","0"]]}'
)
INSTRUMENTS = (
    '{"code":"0","msg":"","data":[{"instType":"SPOT","instId":"BTC-USDT","baseCcy":"BTC",'
    '"quoteCcy":"USDT","tradeQuoteCcyList":["USDT"],"state":"live","tickSz":"0.1",'
    '"lotSz":"0.00000001","minSz":"0.00001","listTime":"1600000000000","contTdSwTime":"",'
    '"expTime":"","openType":"","ruleType":"normal","instIdCode":1000000001,"instCategory":"1",'
    '"upcChg":[]}]}'
)


def decoded(text: str) -> Any:
    return msgspec.json.decode(text)


def request(*names: str, operation: str = "subscribe", channel: str = "trades-all") -> Any:
    arguments = [{"channel": channel, "instId": name} for name in names]
    return {"id": "t1", "op": operation, "args": arguments}


def ids(answer: Any) -> list[int]:
    return [int(row["tradeId"]) for row in answer["data"]]


@pytest.fixture
def okx(venue: "type[Venue]") -> "Venue":
    return venue("okx")


def test_every_argument_gets_its_own_answer(okx: "Venue", shape: Shape) -> None:
    session = okx.connect(BUSINESS)
    first, refused, second = okx.ask(session, request("BTC-USDT", "FOO-USDT", "ETH-USDT"))
    assert shape(first) == shape(second) == shape(decoded(ACK))
    assert (refused["event"], refused["code"], refused["id"]) == ("error", "60018", "t1")
    assert "channel:trades-all,instId:FOO-USDT doesn't exist" in refused["msg"]
    assert session.wanted == {"trades-all": {0, 1}}
    okx.ask(session, request("ETH-USDT", operation="unsubscribe"))
    assert session.wanted == {"trades-all": {0}}


def test_each_channel_lives_on_one_endpoint_only(okx: "Venue") -> None:
    for path, wrong in [(PUBLIC, "trades-all"), (BUSINESS, "trades")]:
        (refused,) = okx.ask(okx.connect(path), request("BTC-USDT", channel=wrong))
        assert refused["code"] == "60018"
    assert okx.front.accept("/ws/v5/private", {}, 0) is None


def test_trades_all_pushes_one_trade_a_frame(okx: "Venue", shape: Shape) -> None:
    session = okx.connect(BUSINESS)
    okx.ask(session, request("BTC-USDT"))
    fills = [fill for fill in okx.trade(80) if fill.market == 0]
    frames = okx.frames(session, fills)
    assert {shape(frame) == shape(decoded(ALL)) for frame in frames} == {True}
    assert [ids(frame) for frame in frames] == [[fill.id] for fill in fills]
    sides = [frame["data"][0]["side"] for frame in frames]
    assert sides == ["buy" if fill.is_buy else "sell" for fill in fills]


def test_numbers_have_no_trailing_zeros(okx: "Venue") -> None:
    session = okx.connect(BUSINESS)
    okx.ask(session, request("BTC-USDT"))
    for frame in okx.frames(session, okx.trade(200)):
        for text in (frame["data"][0]["px"], frame["data"][0]["sz"]):
            assert "." not in text or text[-1] not in "0."


def test_trades_is_the_aggregate_of_the_same_tape(okx: "Venue", shape: Shape) -> None:
    session = okx.connect(PUBLIC)
    okx.ask(session, request("BTC-USDT", channel="trades"))
    fills = [fill for fill in okx.trade(300) if fill.market == 0]
    frames = okx.frames(session, fills)
    assert {shape(frame) == shape(decoded(AGGREGATED)) for frame in frames} == {True}
    rows = [frame["data"][0] for frame in frames]
    assert sum(int(row["count"]) for row in rows) == len(fills)
    assert any(int(row["count"]) > 1 for row in rows)
    last = fills[0].id - 1
    for row in rows:
        assert int(row["tradeId"]) - int(row["count"]) == last
        last = int(row["tradeId"])
    assert len(frames) < len(fills)


def test_a_text_ping_gets_a_text_pong(okx: "Venue") -> None:
    assert okx.ask(okx.connect(PUBLIC), "ping") == ["pong"]


def test_thirty_seconds_of_silence_end_the_connection(okx: "Venue") -> None:
    session = okx.connect(PUBLIC)
    assert session.tick(okx.now_us + 29_000_000) == []
    okx.now_us += 29_000_000
    okx.ask(session, "ping")
    assert session.tick(okx.now_us + 29_000_000) == []
    (close,) = session.tick(okx.now_us + 31_000_000)
    assert isinstance(close, Close)
    assert close.code == 4004


@pytest.mark.parametrize(
    ("message", "code"),
    [("{", "60012"), ('{"op":"dance"}', "60012"), ('{"op":"subscribe","args":[]}', "60013")],
)
def test_bad_requests_get_an_error_event(okx: "Venue", message: str, code: str) -> None:
    (answer,) = okx.ask(okx.connect(PUBLIC), message)
    assert (answer["event"], answer["code"]) == ("error", code)


def test_too_many_operations_in_an_hour_are_refused(okx: "Venue") -> None:
    session = okx.connect(BUSINESS)
    for _ in range(480):
        okx.ask(session, request("BTC-USDT"))
    (answer,) = okx.ask(session, request("BTC-USDT"))
    assert answer["code"] == "60014"


def test_requests_over_64_kilobytes_end_the_connection(okx: "Venue") -> None:
    (close,) = okx.ask(okx.connect(BUSINESS), request(*["BTC-USDT"] * 2_000))
    assert isinstance(close, Close)
    assert close.code == 1009


def test_the_notice_comes_a_minute_ahead(okx: "Venue") -> None:
    text, lead_s = okx.connect(BUSINESS).notice(0)
    assert text is not None
    assert decoded(text)["code"] == "64008"
    assert lead_s == 60


def test_trade_pages_have_the_documented_shape_newest_first(okx: "Venue", shape: Shape) -> None:
    last = okx.last_id()
    for path in (TRADES, HISTORY):
        answer = okx.get_json(path, instId="BTC-USDT", limit=3)
        assert shape(answer) == shape(decoded(ROWS))
        assert ids(answer) == [last, last - 1, last - 2]


def test_pages_are_limited(okx: "Venue") -> None:
    okx.trade(2_000)
    assert len(okx.get_json(TRADES, instId="BTC-USDT")["data"]) == 100
    assert len(okx.get_json(TRADES, instId="BTC-USDT", limit=900)["data"]) == 500
    assert len(okx.get_json(HISTORY, instId="BTC-USDT", limit=500)["data"]) == 100


def test_after_walks_backward_and_before_alone_gives_the_newest_page(okx: "Venue") -> None:
    okx.trade(2_000)
    last = okx.last_id()
    older = okx.get_json(HISTORY, instId="BTC-USDT", after=1_020, limit=5)
    assert ids(older) == [1_019, 1_018, 1_017, 1_016, 1_015]
    newest = okx.get_json(HISTORY, instId="BTC-USDT", before=1_020, limit=5)
    assert ids(newest) == [last, last - 1, last - 2, last - 3, last - 4]
    both = okx.get_json(HISTORY, instId="BTC-USDT", after=1_005, before=1_002, limit=50)
    assert ids(both) == [1_004, 1_003]


def test_paging_back_meets_every_trade_once(okx: "Venue") -> None:
    seen: list[int] = []
    cursor = okx.last_id() + 1
    while page := ids(okx.get_json(HISTORY, instId="BTC-USDT", after=cursor, limit=20)):
        seen += page
        cursor = page[-1]
    assert seen == list(range(okx.last_id(), 999, -1))


def test_rest_errors_carry_a_code(okx: "Venue") -> None:
    assert okx.get_json(TRADES, instId="FOO-USDT")["code"] == "51001"
    assert okx.get_json(TRADES, instId="BTC-USDT", limit="x")["code"] == "51000"
    assert okx.get_json(TRADES)["code"] == "50014"


def test_each_path_has_its_own_rate_limit(okx: "Venue") -> None:
    statuses = [okx.get(HISTORY, instId="BTC-USDT").status for _ in range(21)]
    assert statuses == [200] * 20 + [429]
    assert okx.get_json(HISTORY, instId="BTC-USDT")["code"] == "50011"
    assert okx.get(TRADES, instId="BTC-USDT").status == 200
    okx.now_us += 2_000_000
    assert okx.get(HISTORY, instId="BTC-USDT").status == 200


def test_candles_are_newest_first_and_the_open_one_says_so(okx: "Venue", shape: Shape) -> None:
    answer = okx.get_json("/api/v5/market/candles", instId="BTC-USDT", bar="1m")
    assert shape(answer) == shape(decoded(CANDLES))
    times = [int(row[0]) for row in answer["data"]]
    assert times == sorted(times, reverse=True)
    assert [row[8] for row in answer["data"]] == ["0", "1"]


def test_the_instrument_list_has_the_documented_shape(okx: "Venue", shape: Shape) -> None:
    answer = okx.get_json("/api/v5/public/instruments", instType="SPOT")
    assert shape(answer) == shape(decoded(INSTRUMENTS))
    assert [row["instId"] for row in answer["data"]] == ["BTC-USDT", "ETH-USDT"]
