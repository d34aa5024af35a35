"""What a client should not have sent costs that client an error, or its connection."""

import asyncio

import pytest
import websockets.exceptions
from websockets.asyncio.client import connect

from tests.integration.push.harness import (
    TOPIC,
    PushClient,
    client,
    gateway,
    kline,
    market,
    minutes,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

BAD: list[tuple[bytes | str, str]] = [
    ("no json", "bad_message"),
    (b"\xff\xfe binary", "bad_message"),
    ("[" * 5_000, "bad_message"),
    ('{"action":"subscribe","topics":["kline.>"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["kline.binance.BTC USDT.1m"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["kline.binance.BTCUSDT.7m"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["depth.binance.BTCUSDT"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["closed.*.*.1m"],"snapshots":3,"id":5}', "bad_message"),
    ('{"action":"subscribe","topics":[],"id":5}', "bad_message"),
    ('{"action":"subscribe","topics":["stats.*.*"],"snapshot":1000000,"id":5}', "bad_message"),
    ('{"action":"fly","id":5}', "bad_message"),
]


@pytest.mark.parametrize(("text", "code"), BAD)
async def test_bad_message_is_answered_with_an_error(
    nats_server: NatsHandle, text: bytes | str, code: str
) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
        client(push.port) as other,
    ):
        await other.ask(action="subscribe", topics=[TOPIC])
        await reader.connection.send(text)
        answer = await reader.receive()
        assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["id"] == (5 if '"id":5' in str(text) else None)
        assert (await reader.ask(action="ping"))["type"] == "pong"
        await bus.closed(kline(0))
        assert minutes([await other.receive()]) == [(0, 1)]


async def test_message_of_ten_megabytes_ends_that_client_only(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as good,
    ):
        await good.ask(action="subscribe", topics=[TOPIC])
        bad = PushClient(await connect(f"ws://127.0.0.1:{push.port}/ws", proxy=None))
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            await bad.ask(action="x" * 10_000_000)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        await bad.connection.wait_closed()
        await bus.closed(kline(0))
        assert minutes([await good.receive()]) == [(0, 1)]


async def test_garbage_instead_of_a_handshake_harms_nobody(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as good,
    ):
        await good.ask(action="subscribe", topics=[TOPIC])
        for garbage in (b"\x00" * 1_000, b"GET / HTTP/1.1\r\n\r\n", b"GET /ws HTTP/9\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", push.port)
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
        await bus.closed(kline(0))
        assert minutes([await good.receive()]) == [(0, 1)]


async def flood(bad: PushClient) -> None:
    for _ in range(10_000):
        await bad.ask(action="ping")


async def test_flood_of_requests_ends_that_client(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url),
        gateway(nats_server.url) as push,
        client(push.port) as bad,
    ):
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
            await flood(bad)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
