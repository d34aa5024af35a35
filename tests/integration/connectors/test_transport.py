"""What a connection hands out: every frame, whole and in order, and no more than fits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.utils import accept_key

from market_ingestor.connectors.transport import (
    FRAMES_QUEUED_MAX,
    Transport,
    is_too_big,
    open_transport,
)
from tests.integration.connectors.harness import WAIT_S, until

pytestmark = pytest.mark.anyio

READ_BYTES_MAX = 1 << 20  # that an event loop takes from a socket at once


@contextlib.asynccontextmanager
async def opened(
    talk: Callable[[ServerConnection], Awaitable[None]], frame_bytes_max: int = 1_000
) -> AsyncIterator[Transport]:
    """Give a connection to a server that talks and then closes it."""
    async with serve(talk, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        socket = await open_transport(f"ws://127.0.0.1:{port}", frame_bytes_max=frame_bytes_max)
        try:
            yield socket
        finally:
            await socket.close()


async def all_frames(socket: Transport) -> list[bytes]:
    """Return every frame until the other side has closed in order."""
    got: list[bytes] = []
    with contextlib.suppress(ConnectionClosedOK):
        while True:
            async with asyncio.timeout(WAIT_S):
                frames = await socket.frames()
            assert frames
            got += frames
    return got


async def test_frames_come_in_order_however_they_are_cut() -> None:
    async def talk(connection: ServerConnection) -> None:
        for number in range(3):
            await connection.send(f"{number}")
        await connection.send(["frag", "men", "ted"])
        await connection.send(b"whole")
        await connection.send(["a", "gain"])
        await connection.send("last")

    async with opened(talk) as socket:
        got = await all_frames(socket)
    assert got == [b"0", b"1", b"2", b"fragmented", b"whole", b"again", b"last"]


@pytest.mark.parametrize("offset", [-10, -3, -2, -1, 0, 1, 7])
async def test_what_comes_with_the_handshake_is_not_lost(offset: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in request.splitlines() if line.startswith("Sec-WebSocket-Key"))
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key.split()[1])}\r\n\r\n"
        ).encode()
        frames = b"\x81\x03one" + b"\x89\x01?" + b"\x82\x03two"
        cut = len(head) + offset
        writer.write((head + frames)[:cut])
        await asyncio.sleep(0.05)  # or both parts would come at once
        writer.write((head + frames)[cut:])
        assert await reader.readexactly(7 + 8)  # a pong and a close, masked
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        socket = await open_transport(f"ws://127.0.0.1:{port}", frame_bytes_max=1_000)
        got: list[bytes] = []
        async with asyncio.timeout(WAIT_S):
            while len(got) < 2:
                got += await socket.frames()
        assert got == [b"one", b"two"]
        await socket.close()


async def test_a_reader_that_waits_gets_what_comes_in_fragments() -> None:
    asked = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        await connection.send("first")
        await asked.wait()
        await connection.send(["frag", "mented"])
        await connection.wait_closed()

    async with opened(talk) as socket:
        assert await socket.frames() == [b"first"]
        waiting = asyncio.create_task(socket.frames())
        await asyncio.sleep(0)
        asked.set()
        async with asyncio.timeout(5):
            assert await waiting == [b"fragmented"]


async def test_what_came_before_the_end_is_handed_out_first() -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send("all right")
        await connection.send("x" * 2_000)
        await connection.wait_closed()

    async with opened(talk) as socket:
        await until(socket.transport.is_closing)
        assert await socket.frames() == [b"all right"]
        with pytest.raises(ConnectionClosedError) as ended:
            await socket.frames()
        assert is_too_big(ended.value)


async def test_a_cancelled_reader_loses_nothing() -> None:
    asked = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        await asked.wait()
        await connection.send("one")

    async with opened(talk) as socket:
        waiting = asyncio.create_task(socket.frames())
        await asyncio.sleep(0)
        waiting.cancel()
        asked.set()
        assert await all_frames(socket) == [b"one"]


async def test_frames_that_nobody_takes_stop_the_reading() -> None:
    sent, size = 60_000, 100  # more than sockets and queue hold together

    async def talk(connection: ServerConnection) -> None:
        for number in range(sent):
            await connection.send(f"{number:0{size}}")

    async with opened(talk) as socket:
        assert isinstance(socket.transport, asyncio.Transport)
        reading = socket.transport.is_reading
        await until(lambda: not reading())
        frames = list(await socket.frames())
        assert FRAMES_QUEUED_MAX < len(frames) < FRAMES_QUEUED_MAX + READ_BYTES_MAX / size
        assert reading()
        frames += await all_frames(socket)
    assert [int(each) for each in frames] == list(range(sent))
