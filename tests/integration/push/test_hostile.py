"""Clients that mean no good, and what everybody else notices of them: nothing.

A witness reads one topic all the while; each attack ends with how long its candles took.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets.exceptions
from websockets.asyncio.client import connect

from market_ingestor.access import AccessPolicy
from market_ingestor.push import gateway as gateway_module
from market_ingestor.push import websocket
from market_ingestor.push.gateway import Gateway
from tests.integration.push.harness import (
    Market,
    PushClient,
    client,
    gateway,
    kline,
    market,
    minutes,
)
from tests.support.crowd import HANDSHAKE, masked, raise_file_limit
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

TOPIC = "closed.binance.BTCUSDT.1m"
DELAY_MAX_S = 4.0  # of a candle, on a machine that may be slow and busy; cut-offs take longer


class Witness:
    """A client like any other, and the candles it waits for."""

    def __init__(self, bus: Market, reader: PushClient) -> None:
        self.bus = bus
        self.reader = reader
        self._minute = 0

    async def delay(self, candles: int = 5) -> float:
        """Return the longest time one of a few candles took from the bus to this client."""
        loop = asyncio.get_running_loop()
        longest = 0.0
        for _ in range(candles):
            before = loop.time()
            await self.bus.closed(kline(self._minute))
            assert minutes([await self.reader.receive(20)]) == [(self._minute, 1)]
            longest = max(longest, loop.time() - before)
            self._minute += 1
        return longest

    async def sees_nothing_of(self, attack: Awaitable[Any]) -> Any:
        """Run an attack; candles go on in time while it lasts and after it."""
        task = asyncio.ensure_future(attack)
        while not task.done():
            assert await self.delay() < DELAY_MAX_S
            await asyncio.sleep(0.02)
        assert await self.delay() < DELAY_MAX_S
        return task.result()


@asynccontextmanager
async def attacked(
    nats_server: NatsHandle, **options: Any
) -> AsyncIterator[tuple[Gateway, Witness]]:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, **options) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=[TOPIC])
        yield push, Witness(bus, reader)


_held: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_what_is_held() -> Iterator[None]:
    yield
    while _held:
        _held.pop().close()


async def raw_socket(
    port: int, first: bytes = HANDSHAKE, receive_buffer: int = 4_096
) -> socket.socket:
    """Return a connected socket that has sent ``first``; it does not block."""
    raw = socket.socket()
    _held.append(raw)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", port))
    await loop.sock_sendall(raw, first)
    return raw


async def until_cut(raw: socket.socket, send: Callable[[], bytes] | None = None) -> bytes:
    """Send and read until the connection is gone; returns the last bytes read.

    One in two thousand random beginnings is that of a message in parts: nothing shows before
    the first ping that something is wrong.
    """
    loop = asyncio.get_running_loop()
    last = b""
    async with asyncio.timeout(websocket.PING_INTERVAL_S + 10):
        while True:
            try:
                if send is not None:
                    await loop.sock_sendall(raw, send())
                    await asyncio.sleep(0)
                else:
                    data = await loop.sock_recv(raw, 65_536)
                    if not data:
                        return last
                    last = data
            except OSError:
                return last


async def details(push: Gateway, name: str, value: int, wait_s: float = 10) -> None:
    """Return when a detail of the gateway's health has a value."""
    async with asyncio.timeout(wait_s):
        while True:
            if push.health().details[name] == value:
                return
            await asyncio.sleep(0.02)


async def test_flood_of_pings_ends_that_client(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, witness):
        raw = await raw_socket(push.port)
        pings = masked(b"x" * 100, 0x89) * 500
        await witness.sees_nothing_of(until_cut(raw, lambda: pings))
        await details(push, "clients", 1)


async def test_pings_now_and_then_are_answered(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, _), client(push.port) as reader:
        for _ in range(50):
            await (await reader.connection.ping())
        assert (await reader.ask(action="ping"))["type"] == "pong"


async def test_flood_of_fragments_ends_that_client(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, witness):
        raw = await raw_socket(push.port)
        await asyncio.get_running_loop().sock_sendall(raw, masked(b"{", 0x01))
        fragments = masked(b"", 0x00) * 2_000
        await witness.sees_nothing_of(until_cut(raw, lambda: fragments))


async def test_flood_of_large_subscriptions_ends_that_client(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, witness):
        for minute in range(2):  # so that there is something to compare patterns with
            await witness.bus.open(
                *(kline(minute, symbol=f"S{n}", closed=False) for n in range(2_000))
            )

        async def flood() -> None:
            number = 0
            async with client(push.port) as bad:
                while True:
                    number += 1
                    topics = [f"kline.*.S{number}X{n}.*" for n in range(128)]
                    await bad.send(action="subscribe", topics=topics)
                    await bad.send(action="unsubscribe", topics=topics)
                    if number % 10 == 0:
                        await bad.receive()

        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            await witness.sees_nothing_of(flood())


@pytest.mark.parametrize(
    ("topics", "text"),
    [
        ([f"closed.binance.S{n}.1m" for n in range(1_025)], "1024"),
        ([f"closed.binance.S{n}.*" for n in range(129)], "wildcards"),
    ],
)
async def test_topics_of_a_client_are_limited(
    nats_server: NatsHandle, topics: list[str], text: str
) -> None:
    async with attacked(nats_server) as (push, _), client(push.port) as greedy:
        half = len(topics) // 2
        await greedy.ask(action="subscribe", topics=topics[:half])
        answer = await greedy.ask(action="subscribe", topics=topics[half:], id=7)
        assert (answer["code"], answer["id"]) == ("too_many_topics", 7)
        assert text in answer["message"]
        assert len((await greedy.ask(action="list"))["topics"]) == half


async def test_reader_of_a_byte_a_second_costs_nobody_anything(nats_server: NatsHandle) -> None:
    everything = [f"{kind}.*.*" for kind in ("stats", "trade", "event")]
    everything += ["kline.*.*.*", "closed.*.*.*"]
    body = json.dumps({"action": "subscribe", "topics": everything}).encode()
    async with attacked(nats_server) as (push, witness):
        raw = await raw_socket(push.port)
        loop = asyncio.get_running_loop()
        await loop.sock_recv(raw, 1)
        await loop.sock_sendall(raw, masked(body))

        async def read_slowly() -> None:
            for round_number in range(3):
                await loop.sock_recv(raw, 1)
                await witness.bus.many_closed(
                    kline(n, symbol="ETHUSDT", revision=round_number + 1) for n in range(400)
                )
                await witness.bus.open(
                    *(kline(n, symbol="ETHUSDT", closed=False) for n in range(1_000, 1_300))
                )
                await witness.bus.stats()
                await asyncio.sleep(0.3)

        await witness.sees_nothing_of(read_slowly())
        assert push.health().details["clients"] == 2, "slow is not forbidden"


async def test_socket_that_takes_nothing_is_given_up(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "STUCK_S", 0.5)
    async with attacked(nats_server) as (push, witness):
        raw = await raw_socket(push.port)
        loop = asyncio.get_running_loop()
        await loop.sock_recv(raw, 1)
        await loop.sock_sendall(raw, masked(b'{"action":"subscribe","topics":["closed.*.*.*"]}'))
        await details(push, "clients", 2)
        await witness.bus.many_closed(kline(n, symbol="ETHUSDT") for n in range(1_000))
        await witness.sees_nothing_of(details(push, "clients", 1))


async def test_garbage_behind_the_handshake_ends_that_client(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, witness):

        async def garbage() -> None:
            for _ in range(20):
                raw = await raw_socket(push.port)
                await until_cut(raw, lambda: os.urandom(5_000))

        await witness.sees_nothing_of(garbage())
        await details(push, "clients", 1)


async def test_half_open_handshakes_are_cut_and_take_nobodys_place(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "OPEN_TIMEOUT_S", 1.0)
    raise_file_limit()
    async with attacked(nats_server) as (push, witness):

        async def half_open() -> list[socket.socket]:
            return [await raw_socket(push.port, HANDSHAKE[: number % 60]) for number in range(500)]

        await witness.sees_nothing_of(half_open())
        async with client(push.port) as another:
            assert (await another.ask(action="ping"))["type"] == "pong"
        await witness.sees_nothing_of(details(push, "connections", 1))


async def test_five_thousand_connections_leave_room_to_those_inside(
    nats_server: NatsHandle,
) -> None:
    raise_file_limit()
    async with attacked(nats_server, max_clients=100) as (push, witness):
        answers: dict[bytes, int] = {}

        async def knock() -> None:
            loop = asyncio.get_running_loop()
            raw = await raw_socket(push.port)
            try:
                answer = (await loop.sock_recv(raw, 512))[:12]
            except ConnectionResetError:
                answer = b""
            answers[answer] = answers.get(answer, 0) + 1

        async def storm() -> None:
            for _ in range(50):
                await asyncio.gather(*(knock() for _ in range(100)))

        await witness.sees_nothing_of(storm())
        assert answers.pop(b"HTTP/1.1 101") == 99
        refused, unheard = answers.pop(b"HTTP/1.1 503"), answers.pop(b"", 0)
        assert refused + unheard == 4_901
        assert not answers
        while _held:
            _held.pop().close()
        await details(push, "clients", 1)
        async with client(push.port) as again:
            assert (await again.ask(action="ping"))["type"] == "pong"


async def test_one_address_may_not_take_all_places(nats_server: NatsHandle) -> None:
    access = AccessPolicy(trusted_proxies=("127.0.0.1",))
    async with attacked(nats_server, access=access, max_clients_per_address=2) as (push, _):
        one = {"X-Forwarded-For": "10.0.0.1"}
        other = {"X-Forwarded-For": "10.0.0.1, 10.0.0.2"}
        async with (
            client(push.port, additional_headers=one),
            client(push.port, additional_headers=one),
        ):
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port, additional_headers=one):
                    pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"]
            async with client(push.port, additional_headers=other) as good:
                assert (await good.ask(action="ping"))["type"] == "pong"


async def test_forwarded_address_of_a_stranger_is_not_believed(nats_server: NatsHandle) -> None:
    options = {"max_clients_per_address": 2, "limit_loopback": True}
    async with (
        attacked(nats_server, **options) as (push, _),
        client(push.port, additional_headers={"X-Forwarded-For": "10.0.0.1"}),
    ):
        with pytest.raises(websockets.exceptions.InvalidStatus):
            async with client(push.port, additional_headers={"X-Forwarded-For": "10.0.0.2"}):
                pass


async def test_connections_of_one_address_are_cut_before_they_speak(
    nats_server: NatsHandle,
) -> None:
    options = {"max_clients_per_address": 3, "limit_loopback": True}
    async with attacked(nats_server, **options) as (push, witness):
        for _ in range(5):
            await raw_socket(push.port, b"")
        one_too_many = await raw_socket(push.port, b"")
        assert await until_cut(one_too_many) == b""
        assert await witness.delay() < DELAY_MAX_S


async def test_line_client_too_many_is_told(nats_server: NatsHandle) -> None:
    async with attacked(nats_server, max_clients=1) as (push, witness):
        reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
        async with asyncio.timeout(5):
            assert json.loads(await reader.readline())["code"] == "too_many_clients"
            assert await reader.read() == b""
        writer.close()
        assert await witness.delay() < DELAY_MAX_S


async def test_lines_without_end_are_cut(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, witness):
        reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
        writer.write(b"x" * 10_000_000)

        async def told() -> bytes:
            async with asyncio.timeout(10):
                return await reader.readline()

        assert json.loads(await witness.sees_nothing_of(told()))["code"] == "message_too_big"
        writer.transport.abort()


async def test_compression_is_not_agreed_to(nats_server: NatsHandle) -> None:
    async with attacked(nats_server) as (push, _):
        address = f"ws://127.0.0.1:{push.port}/ws"
        async with connect(address, compression="deflate", proxy=None) as asked:
            assert asked.response is not None
            assert "Sec-WebSocket-Extensions" not in asked.response.headers
