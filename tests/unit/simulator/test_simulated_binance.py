"""Binance spot as simulated, against the samples of its documents."""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from market_ingestor.simulator.protocol import Close

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Venue

Shape = Callable[[object], object]

TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1795132800127,"s":"BTCUSDT","t":5400123456,'
    '"p":"91234.56000000","q":"0.00150000","T":1795132800125,"m":true,"M":true}}'
)
AGGREGATE = (
    '{"e":"aggTrade","E":1795132800127,"s":"BTCUSDT","a":3900111222,"p":"91234.56000000",'
    '"q":"0.40000000","f":5400123450,"l":5400123456,"T":1795132800125,"m":true,"M":true}'
)
HISTORICAL = (
    '[{"id":5400123457,"price":"91234.50000000","qty":"0.00200000","quoteQty":"182.46900000",'
    '"time":1795132800131,"isBuyerMaker":false,"isBestMatch":true}]'
)
REST_AGGREGATE = (
    '[{"a":3900111223,"p":"91234.50000000","q":"0.00200000","f":5400123457,"l":5400123457,'
    '"T":1795132800131,"m":false,"M":true}]'
)
KLINES = (
    '[[1795132800000,"91230.00","91260.10","91228.00","91255.40","12.40560000",1795132859999,'
    '"1131920.11",1840,"6.10000000","556600.02","0"]]'
)


def decoded(text: str) -> Any:
    return msgspec.json.decode(text)


@pytest.fixture
def binance(venue: "type[Venue]") -> "Venue":
    return venue("binance")


def test_a_combined_trade_has_the_documented_shape(binance: "Venue", shape: Shape) -> None:
    session = binance.connect("/stream", streams="btcusdt@trade")
    frames = binance.frames(session, binance.trade(50))
    assert {shape(frame) == shape(decoded(TRADE)) for frame in frames} == {True}
    assert {frame["stream"] for frame in frames} == {"btcusdt@trade"}


def test_m_means_that_the_taker_sold_and_numbers_have_eight_digits(binance: "Venue") -> None:
    session = binance.connect("/ws/btcusdt@trade")
    fills = [fill for fill in binance.trade(50) if fill.market == 0]
    for fill, frame in zip(fills, binance.frames(session, fills), strict=True):
        assert frame["m"] is not fill.is_buy
        assert frame["t"] == fill.id
        assert frame["T"] == fill.time_us // 1_000
        assert len(frame["p"].partition(".")[2]) == len(frame["q"].partition(".")[2]) == 8


def test_raw_sockets_get_the_bare_event_and_microseconds_on_request(
    binance: "Venue", shape: Shape
) -> None:
    session = binance.connect("/ws/btcusdt@aggTrade", timeUnit="MICROSECOND")
    frame, *_ = binance.frames(session, binance.trade(50))
    assert shape(frame) == shape(decoded(AGGREGATE))
    assert frame["T"] > 10**15


def test_subscribing_is_acknowledged_and_listed(binance: "Venue") -> None:
    session = binance.connect("/stream")
    subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@trade"], "id": 7}
    assert binance.ask(session, subscribe) == [{"result": None, "id": 7}]
    assert session.wanted == {"trade|combined|ms": {0, 1}}
    drop = {"method": "UNSUBSCRIBE", "params": ["ethusdt@trade"], "id": "x"}
    assert binance.ask(session, drop) == [{"result": None, "id": "x"}]
    listed = binance.ask(session, {"method": "LIST_SUBSCRIPTIONS", "id": 9})
    assert listed == [{"result": ["btcusdt@trade"], "id": 9}]


@pytest.mark.parametrize("name", ["nopeusdt@trade", "BTCUSDT@trade", "btcusdt@bookTicker"])
def test_an_unknown_stream_is_acknowledged_and_stays_silent(binance: "Venue", name: str) -> None:
    session = binance.connect("/stream")
    answer = binance.ask(session, {"method": "SUBSCRIBE", "params": [name], "id": 1})
    assert answer == [{"result": None, "id": 1}]
    assert binance.frames(session, binance.trade(50)) == []


def test_a_malformed_stream_is_refused_and_ends_the_connection(binance: "Venue") -> None:
    session = binance.connect("/stream")
    refusal, close = binance.ask(session, {"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 7})
    assert refusal == {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 7}
    assert isinstance(close, Close)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 3),
        ('{"id":1}', 2),
        ('{"method":"SUB","id":1}', 2),
        ('{"method":"SET_PROPERTY","params":["speed",1],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1),
    ],
)
def test_errors_are_nested_and_carry_the_documented_code(
    binance: "Venue", message: str, code: int
) -> None:
    (answer,) = binance.ask(binance.connect("/stream"), message)
    assert answer["error"]["code"] == code


def test_the_combined_property_changes_the_wrapping(binance: "Venue") -> None:
    session = binance.connect("/ws/btcusdt@trade")
    binance.ask(session, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 1})
    assert "stream" in binance.frames(session, binance.trade(50))[0]


def test_the_sixth_message_within_a_second_ends_the_connection(binance: "Venue") -> None:
    session = binance.connect("/stream")
    request = {"method": "LIST_SUBSCRIPTIONS", "id": 1}
    for _ in range(5):
        assert binance.ask(session, request) == [{"result": [], "id": 1}]
    (close,) = binance.ask(session, request)
    assert close == Close(1008, "Too many requests")


def test_the_shutdown_notice_is_wrapped_on_combined_sockets(binance: "Venue") -> None:
    wrapped, _ = binance.connect("/stream").notice(1_795_132_800_000_000)
    raw, _ = binance.connect("/ws").notice(1_795_132_800_000_000)
    event = '{"e":"serverShutdown","E":1795132800000}'
    assert raw == event
    assert wrapped == f'{{"stream":"!serverShutdown","data":{event}}}'


def test_other_paths_do_not_exist(binance: "Venue") -> None:
    assert binance.front.accept("/ws/v5/public", {}, 0) is not None  # a stream nobody knows
    assert binance.front.accept("/v2", {}, 0) is None


def test_trade_rows_have_the_documented_shape(binance: "Venue", shape: Shape) -> None:
    for name, sample in [
        ("historicalTrades", HISTORICAL),
        ("trades", HISTORICAL),
        ("aggTrades", REST_AGGREGATE),
    ]:
        answer = binance.get_json(f"/api/v3/{name}", symbol="BTCUSDT", limit=3)
        assert shape(answer) == shape(decoded(sample))
        assert len(answer) == 3


def test_historical_trades_go_up_from_an_id_to_the_newest(binance: "Venue") -> None:
    last = binance.last_id()
    page = binance.get_json("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=1_010, limit=5)
    assert [row["id"] for row in page] == [1_010, 1_011, 1_012, 1_013, 1_014]
    newest = binance.get_json("/api/v3/historicalTrades", symbol="BTCUSDT", limit=2)
    assert [row["id"] for row in newest] == [last - 1, last]
    beyond = binance.get_json("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=last + 1)
    assert beyond == []


def test_walking_up_by_id_meets_every_trade_once(binance: "Venue") -> None:
    seen: list[int] = []
    while True:
        start = seen[-1] + 1 if seen else 1_000
        page = binance.get_json("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=start, limit=7)
        if not page:
            break
        seen += [row["id"] for row in page]
    assert seen == list(range(1_000, binance.last_id() + 1))


def test_websocket_and_rest_agree_on_every_trade(binance: "Venue") -> None:
    session = binance.connect("/ws/btcusdt@trade")
    frames = binance.frames(session, binance.trade(100))
    rows = binance.get_json(
        "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=frames[0]["t"], limit=1000
    )
    told = [(row["id"], row["price"], row["qty"], row["time"]) for row in rows]
    assert told == [(frame["t"], frame["p"], frame["q"], frame["T"]) for frame in frames]


def test_aggregates_run_in_their_own_contiguous_ids(binance: "Venue") -> None:
    rows = binance.get_json("/api/v3/aggTrades", symbol="BTCUSDT", limit=20)
    assert all(right["a"] == left["a"] + 1 for left, right in pairwise(rows))
    again = binance.get_json("/api/v3/aggTrades", symbol="BTCUSDT", fromId=rows[3]["a"], limit=1)
    assert again == [rows[3]]
    start = rows[5]["T"]
    by_time = binance.get_json("/api/v3/aggTrades", symbol="BTCUSDT", startTime=start, limit=1)
    assert by_time[0]["T"] == start


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/api/v3/trades", {"symbol": "NOPEUSDT"}, -1121),
        ("/api/v3/trades", {}, -1102),
        ("/api/v3/trades", {"symbol": "BTCUSDT", "limit": "x"}, -1102),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "2m"}, -1120),
        ("/api/v3/exchangeInfo", {"symbol": "NOPEUSDT"}, -1121),
    ],
)
def test_bad_requests_are_answered_with_400_and_a_code(
    binance: "Venue", path: str, query: dict[str, str], code: int
) -> None:
    answer = binance.get(path, **query)
    assert answer.status == 400
    assert decoded(answer.body.decode())["code"] == code


def test_weight_is_counted_and_too_much_of_it_is_429_then_418(binance: "Venue") -> None:
    first = binance.get("/api/v3/trades", symbol="BTCUSDT")
    assert first.headers["X-MBX-USED-WEIGHT-1M"] == "25"
    statuses = [binance.get("/api/v3/trades", symbol="BTCUSDT").status for _ in range(250)]
    assert statuses.index(429) == 239  # 240 calls of weight 25 are 6,000
    banned = binance.get("/api/v3/ping")
    assert banned.status == 418
    assert int(banned.headers["Retry-After"]) > 60


def test_microsecond_rows_on_request(binance: "Venue") -> None:
    answer = binance.get(
        "/api/v3/trades", {"x-mbx-time-unit": "MICROSECOND"}, symbol="BTCUSDT", limit=1
    )
    assert decoded(answer.body.decode())[0]["time"] > 10**15


def test_klines_have_twelve_columns_and_flat_rows(binance: "Venue", shape: Shape) -> None:
    binance.now_us += 180_000_000
    rows = binance.get_json("/api/v3/klines", symbol="BTCUSDT", interval="1m")
    assert shape(rows[0]) == shape(decoded(KLINES)[0])
    assert all(right[0] - left[0] == 60_000 for left, right in pairwise(rows))
    assert rows[-1][8] == 0
    assert rows[-1][1] == rows[-1][4] == rows[-2][4]
    oldest = binance.get_json(
        "/api/v3/klines", symbol="BTCUSDT", interval="1m", startTime=rows[0][0], limit=1
    )
    assert oldest == rows[:1]
    newest = binance.get_json("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1)
    assert newest == rows[-1:]


def test_the_instrument_list_can_be_narrowed(binance: "Venue") -> None:
    everything = binance.get_json("/api/v3/exchangeInfo")
    assert [each["symbol"] for each in everything["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    one = binance.get_json("/api/v3/exchangeInfo", symbols='["ETHUSDT"]')
    assert [each["baseAsset"] for each in one["symbols"]] == ["ETH"]
    price, _ = everything["symbols"][0]["filters"]
    assert price["tickSize"] == "0.01"


def test_a_delisted_symbol_vanishes(binance: "Venue") -> None:
    binance.world.delisted.add(0)
    listed = binance.get_json("/api/v3/exchangeInfo")["symbols"]
    assert [each["symbol"] for each in listed] == ["ETHUSDT"]
    assert binance.get("/api/v3/trades", symbol="BTCUSDT").status == 400
