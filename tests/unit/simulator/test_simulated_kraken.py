"""Kraken v2 as simulated, against the samples of its documents."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from market_ingestor.simulator.protocol import Close
from market_ingestor.simulator.tape import Fill

if TYPE_CHECKING:
    from market_ingestor.simulator.protocol import Session
    from tests.unit.simulator.conftest import Venue

Shape = Callable[[object], object]

TRADES = "/0/public/Trades"

STATUS = (
    '{"channel":"status","type":"update","data":[{"api_version":"v2",'
    '"connection_id":13834774380200099999,"system":"online","version":"2.0.10"}]}'
)
ACK = (
    '{"method":"subscribe","req_id":11,"result":{"channel":"trade","snapshot":true,'
    '"symbol":"BTC/USD"},"success":true,"time_in":"2026-11-20T00:00:00.000100Z",'
    '"time_out":"2026-11-20T00:00:00.000160Z"}'
)
REFUSED = (
    '{"error":"Currency pair not supported XBT/USD","method":"subscribe","req_id":11,'
    '"success":false,"symbol":"XBT/USD","time_in":"...","time_out":"..."}'
)
UPDATE = (
    '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":91230.1,'
    '"qty":0.5,"ord_type":"market","trade_id":98765432,"timestamp":"2026-11-20T00:00:00.771402Z"}]}'
)
PAIRS = (
    '{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD",'
    '"aclass_base":"currency","base":"XXBT","aclass_quote":"currency","quote":"ZUSD",'
    '"execution_venue":"international","pair_decimals":1,"cost_decimals":5,"lot_decimals":8,'
    '"lot_multiplier":1,"ordermin":"0.00005","costmin":"0.5","tick_size":"0.1",'
    '"status":"online"}}}'
)


def decoded(text: str) -> Any:
    return msgspec.json.decode(text)


def request(*names: str, method: str = "subscribe", **params: object) -> Any:
    body = {"channel": "trade", "symbol": list(names), **params}
    return {"method": method, "params": body, "req_id": 11}


def ids(answer: Any) -> list[int]:
    return [row[6] for row in answer["result"]["XXBTZUSD"]]


@pytest.fixture
def kraken(venue: "type[Venue]") -> "Venue":
    return venue("kraken")


@pytest.fixture
def session(kraken: "Venue") -> "Session":
    return kraken.connect("/v2")


def test_the_status_comes_unasked_with_a_number_beyond_64_bits(
    kraken: "Venue", session: "Session", shape: Shape
) -> None:
    (greeting,) = session.greet(kraken.now_us)
    assert isinstance(greeting, str)
    assert shape(decoded(greeting)) == shape(decoded(STATUS))
    assert decoded(greeting)["data"][0]["connection_id"] > 2**63


def test_every_symbol_gets_its_own_answer(
    kraken: "Venue", session: "Session", shape: Shape
) -> None:
    first, refused, second = kraken.ask(session, request("BTC/USD", "XBT/USD", "ETH/USD"))
    assert shape(first) == shape(second) == shape(decoded(ACK))
    assert first["result"]["snapshot"] is False
    assert shape(refused) == shape(decoded(REFUSED))
    assert refused["error"] == "Currency pair not supported XBT/USD"
    (dropped,) = kraken.ask(session, request("ETH/USD", method="unsubscribe"))
    assert dropped["result"] == {"channel": "trade", "symbol": "ETH/USD"}
    assert session.wanted == {"trade": {0}}


@pytest.mark.parametrize("name", ["XBTUSD", "XXBTZUSD", "BTCUSD", "btc/usd"])
def test_other_name_spaces_are_refused(kraken: "Venue", session: "Session", name: str) -> None:
    (refused,) = kraken.ask(session, request(name))
    assert refused["success"] is False


def test_the_snapshot_holds_the_newest_fifty_oldest_first(
    kraken: "Venue", session: "Session"
) -> None:
    _, snapshot = kraken.ask(session, request("BTC/USD", snapshot=True))
    assert snapshot["type"] == "snapshot"
    told = [row["trade_id"] for row in snapshot["data"]]
    assert told == list(range(kraken.last_id() - 49, kraken.last_id() + 1))


def test_updates_have_the_documented_shape(
    kraken: "Venue", session: "Session", shape: Shape
) -> None:
    kraken.ask(session, request("BTC/USD", "ETH/USD"))
    fills = kraken.trade(100)
    frames = kraken.frames(session, fills)
    assert {shape(frame) == shape(decoded(UPDATE)) for frame in frames} == {True}
    told = {row["trade_id"] for frame in frames for row in frame["data"]}
    assert told == {fill.id for fill in fills}
    assert max(len(frame["data"]) for frame in frames) > 1


def test_numbers_keep_their_zeros_and_the_smallest_take_an_exponent(
    kraken: "Venue", session: "Session"
) -> None:
    for amount, text in [
        (1, "1e-08"),
        (12, "1.2e-07"),
        (20, "2e-07"),
        (100, "0.00000100"),
        (1_200_000, "0.01200000"),
        (10**8, "1.00000000"),
    ]:
        fill = Fill(0, 5, 912_300, amount, True, kraken.now_us)
        ((_, payload, _),) = kraken.front.encode("trade", [fill], kraken.now_us)
        assert f'"price":91230.0,"qty":{text},'.encode() in payload
        assert Decimal(text) == Decimal(amount) * Decimal("1e-8")
    del session


def test_a_heartbeat_comes_a_second_after_the_last_message(
    kraken: "Venue", session: "Session"
) -> None:
    assert session.tick(kraken.now_us + 5_000_000) == []  # nothing subscribed
    kraken.ask(session, request("BTC/USD"))
    session.last_sent_us = kraken.now_us
    assert session.tick(kraken.now_us + 900_000) == []
    assert session.tick(kraken.now_us + 1_000_000) == ['{"channel":"heartbeat"}']


def test_a_client_without_subscription_and_ping_is_cut_after_a_minute(
    kraken: "Venue", session: "Session"
) -> None:
    kraken.now_us += 59_000_000
    (pong,) = kraken.ask(session, {"method": "ping", "req_id": 5})
    assert (pong["method"], pong["req_id"]) == ("pong", 5)
    assert "success" not in pong
    assert session.tick(kraken.now_us + 59_000_000) == []
    assert isinstance(session.tick(kraken.now_us + 61_000_000)[0], Close)


def test_the_instrument_channel_lists_pairs(kraken: "Venue", session: "Session") -> None:
    params = {"channel": "instrument", "snapshot": True}
    ack, snapshot = kraken.ask(session, {"method": "subscribe", "params": params})
    assert ack["success"] is True
    assert [pair["symbol"] for pair in snapshot["data"]["pairs"]] == ["BTC/USD", "ETH/USD"]


def test_rows_have_seven_fractional_digits_and_the_venues_own_key(kraken: "Venue") -> None:
    body = kraken.get(TRADES, pair="XBTUSD", count=2).body.decode()
    assert re.fullmatch(
        r'\{"error":\[\],"result":\{"XXBTZUSD":\['
        r'(\["\d+\.\d{5}","\d+\.\d{8}",\d{10}\.\d{7},"[bs]","[ml]","",\d+\],?){2}\],'
        r'"last":"\d{19}"\}\}',
        body,
    )


def test_rest_cuts_to_what_the_websocket_said(kraken: "Venue", session: "Session") -> None:
    kraken.ask(session, request("BTC/USD"))
    rows = [row for frame in kraken.frames(session, kraken.trade(60)) for row in frame["data"]]
    body = kraken.get(TRADES, pair="BTC/USD", count=len(rows)).body
    answer = msgspec.json.Decoder(float_hook=Decimal).decode(body)
    for told, (_, _, seconds, side, _, _, trade_id) in zip(
        rows, answer["result"]["XXBTZUSD"], strict=True
    ):
        assert told["trade_id"] == trade_id
        assert told["side"][0] == side
        assert told["timestamp"][20:26] == str(seconds).partition(".")[2][:6]


def test_paging_by_the_cursor_meets_every_trade(kraken: "Venue") -> None:
    seen: list[int] = []
    cursor = "1795132799"
    while True:
        kraken.now_us += 1_000_000
        answer = kraken.get_json(TRADES, pair="XBTUSD", since=cursor, count=40)
        page = ids(answer)
        assert answer["result"]["last"] >= cursor.ljust(19, "0")
        if not page:
            break
        seen += page
        cursor = answer["result"]["last"]
    # Trades that share the time of a page's last row are left out, as the cursor is exclusive.
    missing = set(range(1_000, kraken.last_id() + 1)) - set(seen)
    assert seen == sorted(set(seen))
    assert len(missing) < 10


def test_without_cursor_the_newest_rows_come(kraken: "Venue") -> None:
    assert ids(kraken.get_json(TRADES, pair="XBTUSD", count=2)) == [
        kraken.last_id() - 1,
        kraken.last_id(),
    ]


def test_errors_come_with_status_200(kraken: "Venue") -> None:
    answer = kraken.get(TRADES, pair="NOPE")
    assert answer.status == 200
    assert decoded(answer.body.decode()) == {"error": ["EQuery:Unknown asset pair"]}
    for _ in range(5):
        kraken.get(TRADES, pair="XBTUSD")
    assert kraken.get_json(TRADES, pair="XBTUSD") == {"error": ["EGeneral:Too many requests"]}
    assert kraken.get_json(TRADES, pair="ETHUSD")["error"] == []
    kraken.now_us += 5_000_000
    assert kraken.get_json(TRADES, pair="XBTUSD")["error"] == []


def test_candles_end_with_the_open_one_and_have_flat_minutes(kraken: "Venue") -> None:
    kraken.now_us += 180_000_000
    answer = kraken.get_json("/0/public/OHLC", pair="XBTUSD")
    rows = answer["result"]["XXBTZUSD"]
    assert [row[0] for row in rows] == list(range(1_795_132_800, 1_795_133_100, 60))
    assert rows[-1][1:] == [rows[-1][1]] * 4 + ["0.0", "0.00000000", 0]
    assert answer["result"]["last"] == rows[-2][0]


def test_pairs_carry_all_three_names(kraken: "Venue", shape: Shape) -> None:
    answer = kraken.get_json("/0/public/AssetPairs", pair="XBTUSD")
    assert shape(answer) == shape(decoded(PAIRS))
    assert answer["result"]["XXBTZUSD"]["wsname"] == "XBT/USD"
    kraken.now_us += 5_000_000
    assert list(kraken.get_json("/0/public/AssetPairs")["result"]) == ["XXBTZUSD", "XETHZUSD"]
