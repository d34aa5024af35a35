"""Finnhub as simulated: no answers, fifty symbols, one connection per key."""

import random
from typing import Any

import msgspec
import pytest

from market_ingestor.simulator.finnhub import PING_S, SYMBOLS_MAX, FinnhubFront, FinnhubSession
from market_ingestor.simulator.markets import ALL_VENUES, VENUES, build, default_symbols
from market_ingestor.simulator.protocol import Close, HttpRequest
from market_ingestor.simulator.tape import Fill
from market_ingestor.simulator.world import World

NOW_US = 1_795_186_200_000_000
TOO_MANY = ['{"type":"error","msg":"Subscribing to too many symbols"}']


def front_of(*symbols: str) -> FinnhubFront:
    return FinnhubFront(World(build("finnhub", symbols or default_symbols("finnhub"))))


def connect(front: FinnhubFront, token: str = "a") -> FinnhubSession:  # noqa: S107 - guards nothing
    session = front.accept("/", {"token": token}, NOW_US)
    assert session is not None
    return session


def ask(session: FinnhubSession, symbol: str, kind: str = "subscribe") -> list[Any]:
    message = msgspec.json.encode({"type": kind, "symbol": symbol}).decode()
    return list(session.receive(message, NOW_US))


def rows(front: FinnhubFront, session: FinnhubSession, fills: list[Fill]) -> list[Any]:
    return [
        msgspec.json.decode(data)["data"]
        for variant in session.wanted
        for _, data, _ in front.encode(variant, fills, NOW_US)
    ]


def test_it_is_simulated_when_asked_for_only() -> None:
    assert set(ALL_VENUES) - set(VENUES) == {"finnhub"}


def test_a_key_is_needed() -> None:
    front = front_of()
    assert front.accept("/", {}, NOW_US) is None
    assert front.limits.bad_handshake == 401
    assert front.rest(HttpRequest(path="/stock/symbol", query={}), NOW_US).status == 401


def test_a_second_connection_of_a_key_ends_both() -> None:
    front = front_of()
    first, other = connect(front), connect(front, "other")
    assert first.greet(NOW_US) == other.greet(NOW_US) == []
    second = connect(front)
    assert [type(each) for each in second.greet(NOW_US)] == [Close]
    assert [type(each) for each in first.tick(NOW_US)] == [Close]
    assert other.tick(NOW_US) == []
    assert front.clashes == 1
    first.closed()
    second.closed()
    assert connect(front).greet(NOW_US) == []


def test_fifty_symbols_are_granted_in_silence() -> None:
    front = front_of(*[f"S{number}" for number in range(SYMBOLS_MAX + 1)])
    session = connect(front)
    assert [ask(session, f"S{number}") for number in range(SYMBOLS_MAX)] == [[]] * SYMBOLS_MAX
    assert ask(session, "NOPE") == ask(session, "S0") == []
    assert ask(session, "S50") == TOO_MANY
    assert ask(session, "S0", "unsubscribe") == ask(session, "S50") == []


def test_a_frame_mixes_symbols_out_of_order_and_keeps_equal_trades() -> None:
    front = front_of("AAPL", "TSLA", "MSFT")
    session = connect(front)
    ask(session, "AAPL")
    ask(session, "TSLA")
    fills = [
        Fill(number % 3, number, 23_145, 1 + number % 2, True, NOW_US + number // 6 * 1_000)
        for number in range(30)
    ]
    random.Random(1).shuffle(fills)
    (frame,) = rows(front, session, fills)
    assert {row["s"] for row in frame} == {"AAPL", "TSLA"}
    assert len(frame) == 20
    times = [row["t"] for row in frame]
    assert times != sorted(times)
    assert {msgspec.json.encode(row["c"]) for row in frame} <= {b'["1"]', b'["1","12"]', b"null"}
    assert any(row["c"] is None for row in frame)


def test_a_frame_can_be_sent_twice() -> None:
    front = front_of("AAPL")
    session = connect(front)
    ask(session, "AAPL")
    front.repeats = 1
    fill = Fill(0, 1, 23_145, 10, True, NOW_US)
    assert len(rows(front, session, [fill])) == 2
    assert rows(front, session, [fill]) == [
        [{"c": ["1", "12"], "p": 231.45, "s": "AAPL", "t": NOW_US // 1_000, "v": 10}]
    ]


def test_a_ping_comes_once_a_minute() -> None:
    session = connect(front_of())
    later = NOW_US + PING_S * 1_000_000
    assert session.tick(later - 1) == []
    assert session.tick(later) == ['{"type":"ping"}']
    assert session.tick(later + 1) == []


@pytest.mark.parametrize(("lists", "status"), [(True, 200), (False, 403)])
def test_not_every_plan_has_the_list(lists: bool, status: int) -> None:
    front = front_of("BRK.B")
    front.lists_symbols = lists
    request = HttpRequest(
        path="/api/v1/stock/symbol", query={"exchange": "US"}, headers={"x-finnhub-token": "key"}
    )
    answer = front.rest(request, NOW_US)
    assert answer.status == status
    if lists:
        assert msgspec.json.decode(answer.body)[0]["symbol"] == "BRK.B"
