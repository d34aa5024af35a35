"""A gateway that stops closes every client, and waits for none."""

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest
import websockets.exceptions
from websockets.asyncio.client import connect

from tests.integration.push.harness import TOPIC, PushClient, client, gateway, market
from tests.support.crowd import HANDSHAKE
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_stop_closes_clients_with_going_away(nats_server: NatsHandle) -> None:
    async with market(nats_server.url):
        async with gateway(nats_server.url) as push:
            reader = PushClient(await connect(f"ws://127.0.0.1:{push.port}/ws", proxy=None))
            await reader.ask(action="subscribe", topics=[TOPIC])
            lines, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
        with pytest.raises(websockets.exceptions.ConnectionClosedOK) as closed:
            await reader.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        async with asyncio.timeout(5):
            assert await lines.read() == b""
        writer.close()
        await reader.connection.wait_closed()


async def test_stop_tells_a_crowd_and_waits_for_no_handshake(nats_server: NatsHandle) -> None:
    async with AsyncExitStack() as stack, market(nats_server.url):
        async with gateway(nats_server.url, stop_timeout_s=5) as push:
            _, half_open = await asyncio.open_connection("127.0.0.1", push.port)
            half_open.write(b"GET /ws HTTP/1.1\r\n")
            crowd = [await stack.enter_async_context(client(push.port)) for _ in range(300)]
            before = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - before < 4
        for each in crowd:
            await each.connection.wait_closed()
            assert each.connection.close_code == 1001
        half_open.close()


async def test_stop_meets_clients_whose_nonsense_came_with_their_handshake(
    nats_server: NatsHandle,
) -> None:
    """The library ends what it writes before it says that the handshake is done."""
    nonsense = HANDSHAKE + b"\xff" * 64
    async with market(nats_server.url):
        for _ in range(5):
            async with gateway(nats_server.url, max_clients_per_address=10_000) as push:
                address = ("127.0.0.1", push.port)
                sockets = [socket.create_connection(address) for _ in range(100)]
                for each in sockets:
                    each.sendall(nonsense)
                    await asyncio.sleep(0)
            for each in sockets:
                each.close()
