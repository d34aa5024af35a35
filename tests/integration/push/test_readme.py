"""The README's example is run as it stands there, but for the port."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.push.harness import MINUTE, START, gateway, kline, market
from tests.support.ports import free_ports
from tests.support.processes import PROJECT
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


class Relay:
    """Stands between clients and a port, and can cut the connections as a crash would."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, back]
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        """End every connection without a word."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def relaying(port: int, target: int) -> AsyncIterator[Relay]:
    relay = Relay(target)
    server = await asyncio.start_server(relay.connect, "127.0.0.1", port)
    try:
        yield relay
    finally:
        server.close()
        relay.cut()


async def test_example_follows_candles_across_a_restart(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## Subscribe\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    port, own = free_ports(2)
    assert "127.0.0.1:8081" in found[1]
    script = tmp_path / "example.py"
    script.write_text(found[1].replace("127.0.0.1:8081", f"127.0.0.1:{port}"))

    async def line() -> str:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            return (await process.stdout.readline()).decode().strip()

    def printed(minute: int, close: str) -> str:
        return f"binance BTCUSDT {START + minute * MINUTE} {close}"

    async with market(nats_server.url) as bus, relaying(port, own) as relay:
        await bus.closed(kline(0, close="1"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with gateway(nats_server.url, port=own):
                assert await line() == printed(0, "1")
                await bus.closed(kline(1, close="2"))
                assert await line() == printed(1, "2")
            await bus.closed(kline(2, close="3"), kline(0, close="4", revision=2))
            async with gateway(nats_server.url, port=own):
                assert [await line(), await line()] == [printed(2, "3"), printed(0, "4")]
                relay.cut()
                await bus.closed(kline(3, close="5"))
                assert await line() == printed(3, "5")
        finally:
            process.kill()
            await process.wait()
