"""Binance streams over real sockets: what unmodified clients rely on."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect

from market_ingestor.access import AccessPolicy
from market_ingestor.bus import subjects
from market_ingestor.model.stats import (
    DayStats,
    MovingAverages,
    Stats,
    TickVwap,
    Volatility,
)
from market_ingestor.push.binance import board
from market_ingestor.push.websocket import SERVICE_RESTART
from tests.integration.push.harness import MINUTE, START, Market, batch, gateway, kline, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

CANDLE = {
    "t": START,
    "T": START + MINUTE - 1,
    "s": "BTCUSDT",
    "i": "1m",
    "f": 3456789012,
    "L": 3456789356,
    "o": "67123.45",
    "c": "67149.99",
    "h": "67150",
    "l": "67100.1",
    "v": "12.5",
    "n": 345,
    "x": False,
    "q": "839123.12",
    "V": "6.25",
    "Q": "419561.56",
    "B": "0",
}


class StreamClient:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def call(self, **fields: Any) -> Any:
        await self.connection.send(json.dumps(fields))
        return await self.receive()

    async def receive(self, wait_s: float = 5) -> Any:
        async with asyncio.timeout(wait_s):
            return json.loads(await self.connection.recv())

    async def is_quiet(self, wait_s: float = 0.3) -> bool:
        try:
            await self.receive(wait_s)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def streams(port: int, target: str, **options: Any) -> AsyncIterator[StreamClient]:
    address = f"ws://127.0.0.1:{port}{target}"
    async with connect(address, proxy=None, **options) as connection:
        yield StreamClient(connection)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "SETTLING_S", 0.0)


async def statistics(bus: Market, price: str = "7") -> None:
    stats = Stats(
        v=1,
        exchange="binance",
        symbol="BTCUSDT",
        time_us=START * 1_000 + 5,
        resolution_ms=100,
        last_price=price,
        last_amount="0.5",
        last_side="buy",
        windows={},
        vwap_ticks=TickVwap(n=100, value=None),
        sma=MovingAverages(period="1m", values={}),
        volatility=Volatility(period="1m", n=30, value=None),
        day=DayStats(
            open="5",
            high="8",
            low="4",
            volume="2",
            quote_volume="13",
            change="2",
            change_percent="40",
            trade_count=9,
        ),
    )
    await bus.bus.client.publish(subjects.stats("binance", "BTCUSDT"), msgspec.json.encode(stats))


async def test_candle_stream_has_binances_shape(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        streams(push.port, "/ws/btcusdt@kline_1m") as raw,
        streams(push.port, "/stream?streams=btcusdt@kline_1m") as combined,
        streams(push.port, "/ws/btcusdt@kline_1m?timeUnit=MICROSECOND") as micro,
    ):
        await bus.open(kline(0, closed=False))
        event = await raw.receive()
        assert event.pop("E") > START
        assert event == {"e": "kline", "s": "BTCUSDT", "k": CANDLE}
        wrapped = await combined.receive()
        assert wrapped.pop("stream") == "btcusdt@kline_1m"
        assert list(wrapped) == ["data"]
        assert wrapped["data"]["k"] == CANDLE
        fine = await micro.receive()
        assert fine["k"] == CANDLE | {"t": START * 1_000, "T": (START + MINUTE) * 1_000 - 1}
        assert fine["E"] > START * 1_000
        await bus.closed(kline(0), kline(0, revision=2))
        assert (await raw.receive())["k"] == CANDLE | {"x": True}
        await bus.open(kline(1, closed=False))
        assert (await raw.receive())["k"]["t"] == START + MINUTE


async def test_streams_of_another_exchange_have_a_prefix(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        streams(push.port, "/binance/kraken/ws") as kraken,
        streams(push.port, "/ws/0") as binance,
    ):
        for client in (kraken, binance):
            answer = await client.call(
                method="SUBSCRIBE", params=["btcusdt@kline_1m", "ethusdt@trade"], id=1
            )
            assert answer == {"result": None, "id": 1}
        await bus.closed(kline(0, exchange="kraken"))
        assert (await kraken.receive())["k"]["x"]
        assert await binance.is_quiet()


async def test_exchanges_are_simulated_ones_in_test_mode(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, is_test_mode=lambda: True) as push,
        streams(push.port, "/binance/kraken/ws/btcusdt@kline_1m") as kraken,
        streams(push.port, "/ws/btcusdt@kline_1m") as binance,
    ):
        await bus.closed(kline(0, exchange="kraken"), kline(0))
        await bus.closed(kline(1, exchange="sim-kraken", simulated=True))
        await bus.closed(kline(2, exchange="sim-binance", simulated=True))
        for client, minute in ((kraken, 1), (binance, 2)):
            event = await client.receive()
            assert event["k"]["t"] == START + minute * MINUTE
            assert event["simulated"]


async def test_a_change_of_mode_ends_sockets_whose_exchange_means_another(
    nats_server: NatsHandle,
) -> None:
    is_test = False
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, is_test_mode=lambda: is_test) as push,
        streams(push.port, "/ws/btcusdt@kline_1m") as live,
        streams(push.port, "/binance/sim-binance/ws/btcusdt@kline_1m") as simulated,
    ):
        await bus.closed(kline(0))
        assert (await live.receive())["k"]["t"] == START
        is_test = True
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            await live.receive()
        assert live.connection.close_code == SERVICE_RESTART
        async with streams(push.port, "/ws/btcusdt@kline_1m") as again:
            await bus.closed(kline(1), kline(1, exchange="sim-binance", simulated=True))
            for client in (again, simulated):
                assert (await client.receive())["simulated"]


async def test_trades_and_tickers(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        streams(
            push.port, "/stream?streams=btcusdt@trade/btcusdt@aggTrade/btcusdt@ticker"
        ) as client,
        streams(push.port, "/ws/btcusdt@miniTicker") as mini,
    ):
        for _ in range(20):  # the reader of trades starts when they are wanted
            await bus.trades(batch(7))
            await asyncio.sleep(0.02)
        base = {"E": START, "s": "BTCUSDT", "p": "1.5", "q": "2", "T": START, "m": False, "M": True}
        assert await client.receive() == {
            "stream": "btcusdt@trade",
            "data": base | {"e": "trade", "t": 7},
        }
        assert await client.receive() == {
            "stream": "btcusdt@aggTrade",
            "data": base | {"e": "aggTrade", "a": 7, "f": 7, "l": 7},
        }
        await statistics(bus)
        ticker = (await client.receive())["data"]
        assert ticker["e"] == "24hrTicker"
        assert (ticker["c"], ticker["w"], ticker["n"]) == ("7", "6.5", 9)
        assert (ticker["p"], ticker["P"], ticker["b"]) == ("2", "40.000", None)
        assert (ticker["O"], ticker["C"]) == (START - 24 * 60 * MINUTE, START)
        assert not {"error", "status"} & set(ticker)
        assert await mini.receive() == {
            "e": "24hrMiniTicker",
            "E": START,
            "s": "BTCUSDT",
            "c": "7",
            "o": "5",
            "h": "8",
            "l": "4",
            "v": "2",
            "q": "13",
        }


async def test_calls_are_answered_with_their_id(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url),
        gateway(nats_server.url) as push,
        streams(push.port, "/binance/binance/stream") as client,
    ):
        names = ["btcusdt@kline_1m", "ethusdt@trade"]
        for call_id in (1, 1_763_676_000_123, "a-string", None):
            answer = await client.call(method="SUBSCRIBE", params=names, id=call_id)
            assert answer == {"result": None, "id": call_id}
        assert await client.call(method="LIST_SUBSCRIPTIONS", id=3) == {"result": names, "id": 3}
        answer = await client.call(method="UNSUBSCRIBE", params=names[:1], id=4)
        assert answer == {"result": None, "id": 4}
        assert await client.call(method="LIST_SUBSCRIPTIONS", id=5) == {
            "result": names[1:],
            "id": 5,
        }
        get = {"method": "GET_PROPERTY", "params": ["combined"], "id": 6}
        assert await client.call(**get) == {"result": True, "id": 6}
        answer = await client.call(method="SET_PROPERTY", params=["combined", False], id=7)
        assert answer == {"result": None, "id": 7}
        assert await client.call(**get) == {"result": False, "id": 6}


@pytest.mark.parametrize(
    ("text", "code", "call_id"),
    [
        ("no json", 3, None),
        (b"\xff\xfe", 3, None),
        ('{"method":"SUBSCRIBE","params":["btcusdt@depth"],"id":5}', 2, 5),
        ('{"method":"SUBSCRIBE","params":["btcusdt"],"id":"x"}', 2, "x"),
        ('{"method":"SUBSCRIBE","params":[7],"id":5}', 2, 5),
        ('{"method":"FLY","id":5}', 2, 5),
        ('{"params":[],"id":5}', 2, 5),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":[1]}', 2, None),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":5}', 1, 5),
        ('{"method":"SET_PROPERTY","params":["speed",true],"id":5}', 0, 5),
        ('{"action":"subscribe","topics":["stats.*.*"],"id":5}', 2, 5),
    ],
)
async def test_bad_call_is_answered_with_an_error(
    nats_server: NatsHandle, text: str | bytes, code: int, call_id: int | str | None
) -> None:
    async with gateway_of(nats_server) as port, streams(port, "/ws/0") as client:
        await client.connection.send(text)
        answer = await client.receive()
        assert answer["error"]["code"] == code
        assert answer["error"]["msg"]
        assert answer["id"] == call_id
        assert (await client.call(method="LIST_SUBSCRIPTIONS", id=1))["result"] == []


@asynccontextmanager
async def gateway_of(nats_server: NatsHandle) -> AsyncIterator[int]:
    async with market(nats_server.url), gateway(nats_server.url) as push:
        yield push.port


async def test_address_without_such_a_stream_is_refused(nats_server: NatsHandle) -> None:
    async with gateway_of(nats_server) as port:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            async with streams(port, "/ws/btcusdt@depth5"):
                pass
        response = refused.value.response
        assert response.status_code == 400
        assert response.headers["Content-Type"] == "application/json"
        assert json.loads(response.body)["code"] == 2


async def test_bare_path_speaks_natively_and_prefixed_one_does_not(
    nats_server: NatsHandle,
) -> None:
    async with gateway_of(nats_server) as port:
        async with streams(port, "/ws") as native:
            assert (await native.call(action="ping", id=1)) == {"type": "pong", "id": 1}
        async with streams(port, "/binance/kraken/ws") as binance:
            answer = await binance.call(method="LIST_SUBSCRIPTIONS", id=1)
            assert answer == {"result": [], "id": 1}


async def test_open_candles_come_at_most_once_a_second(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        streams(push.port, "/ws/btcusdt@kline_1m") as client,
    ):
        loop = asyncio.get_running_loop()
        times, end_at = [], loop.time() + 2.5
        number = 0
        pending = asyncio.create_task(client.receive())
        while loop.time() < end_at:
            number += 1
            await bus.open(kline(0, closed=False, trade_count=number))
            done, _ = await asyncio.wait([pending], timeout=0.05)
            if done:
                times.append(loop.time())
                pending = asyncio.create_task(client.receive())
        pending.cancel()
        assert 2 <= len(times) <= 3
        assert all(after - before > 0.9 for before, after in itertools.pairwise(times))


async def test_token_opens_in_header_and_in_the_first_message(nats_server: NatsHandle) -> None:
    access = AccessPolicy(tokens=("secret",))
    target = "/ws/btcusdt@kline_1m"
    async with market(nats_server.url) as bus, gateway(nats_server.url, access=access) as push:
        async with (
            streams(push.port, target, additional_headers={"X-MBX-APIKEY": "secret"}) as keyed,
            streams(push.port, target) as asked,
        ):
            assert await asked.call(token="secret") == {"result": None, "id": None}
            await bus.closed(kline(0))
            assert (await keyed.receive())["k"]["x"]
            assert (await asked.receive())["k"]["x"]
        async with streams(push.port, target) as stranger:
            answer = await stranger.call(method="LIST_SUBSCRIPTIONS", id=2)
            assert answer["error"]["code"] == 2
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await stranger.receive()
