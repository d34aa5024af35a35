"""The link through which everything in the fault suite talks: it must itself lose nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Link

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[Link]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        async with Link("test", server.sockets[0].getsockname()[1]) as link:
            yield link
    finally:
        server.close()


async def test_everything_comes_through_and_an_end_is_an_end() -> None:
    async with echoing() as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        sent = bytes(range(256)) * 4_000
        writer.write(sent)
        writer.write_eof()
        assert await reader.read(-1) == sent
        assert link.forwarded == 2 * len(sent)
        writer.close()


async def test_stalled_it_passes_nothing_and_then_all() -> None:
    async with echoing() as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        link.stall()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        link.restore()
        assert await reader.readexactly(3) == b"two"
        writer.close()


async def test_cut_connections_end_with_a_reset_and_refused_ones_never_begin() -> None:
    async with echoing() as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        link.refuse()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        again, again_writer = await asyncio.open_connection("127.0.0.1", link.port)
        with pytest.raises(ConnectionResetError):
            await again.readexactly(1)
        link.restore()
        third, third_writer = await asyncio.open_connection("127.0.0.1", link.port)
        third_writer.write(b"three")
        assert await third.readexactly(5) == b"three"
        for each in (writer, again_writer, third_writer):
            each.close()
