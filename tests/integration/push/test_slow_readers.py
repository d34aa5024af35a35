"""Who reads slowly delays nobody, and is told what it missed."""

import asyncio
import socket
from typing import Any

import pytest

from market_ingestor.model.kline import Kline
from market_ingestor.push.positions import parse
from tests.integration.push.harness import TOPIC, client, gateway, kline, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_stopped_reader_delays_nobody_and_can_resume(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, ring_bytes=200_000, send_buffer_bytes=20_000) as push,
        client(push.port) as good,
    ):
        stopped = await _client_that_does_not_read(push.port, b'["closed.*.*.1m"]')
        await good.ask(action="subscribe", topics=[TOPIC, "closed.*.*.1m"])
        count = 6_000
        filler = "9" * 60
        await bus.many_closed(
            kline(n, symbol="ETHUSDT", volume=filler, quote_volume=filler) for n in range(count)
        )
        await bus.closed(kline(0))
        while (await good.receive())["topic"] != TOPIC:
            pass  # it gets everything while the other has read nothing

        got, missed = await asyncio.to_thread(_read_until, stopped, kline(0))
        assert missed, "the ring must have overtaken it"
        assert sum(each["count"] for each in missed) + len(got) == count + 1
        async with client(push.port) as again:
            await again.ask(
                action="subscribe", topics=["closed.*.*.1m"], since=missed[0]["position"]
            )
            rest = await again.closed(count + 1 - got_before(got, missed[0]))
            every = got[: got_before(got, missed[0])] + rest
            assert len({each["position"] for each in every}) == count + 1


def got_before(got: list[dict[str, Any]], notice: dict[str, Any]) -> int:
    """Return how many candles came up to the position that a notice names."""
    last = parse(notice["position"])
    assert last is not None
    sequences = [parse(each["position"]) for each in got]
    return sum(1 for each in sequences if each is not None and each.sequence <= last.sequence)


async def _client_that_does_not_read(port: int, topics: bytes) -> socket.socket:
    """Return a subscribed WebSocket whose receive buffer is small and never read."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", port))
    await loop.sock_sendall(
        raw,
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await loop.sock_recv(raw, 1)
    body = b'{"action":"subscribe","topics":' + topics + b"}"
    await loop.sock_sendall(raw, bytes((0x81, 0x80 | len(body))) + bytes(4) + body)
    return raw


def _read_until(
    raw: socket.socket, last: Kline
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read frames until the candle ``last``; returns candles and notices of losses."""
    import json  # noqa: PLC0415 - only this thread's work needs it

    raw.settimeout(10)
    stream = raw.makefile("rb")
    got: list[dict[str, Any]] = []
    missed: list[dict[str, Any]] = []
    while not got or got[-1]["data"]["symbol"] != last.symbol:
        head = stream.read(2)
        size = head[1]
        if size == 126:
            size = int.from_bytes(stream.read(2), "big")
        elif size == 127:
            size = int.from_bytes(stream.read(8), "big")
        body = stream.read(size)
        if head[0] != 0x81:
            continue  # a ping
        message = json.loads(body)
        if message["type"] == "kline":
            got.append(message)
        elif message["type"] == "missed":
            missed.append(message)
    stream.close()
    raw.close()
    return got, missed


async def test_boundary_larger_than_the_buffer_misses_nothing(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, send_buffer=16) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=["closed.*.*.1m"])
        await bus.many_closed(kline(0, symbol=f"S{n}") for n in range(1_500))
        got = await reader.closed(1_500)  # fails on a notice of losses
        assert {each["data"]["symbol"] for each in got} == {f"S{n}" for n in range(1_500)}
