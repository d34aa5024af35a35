"""The README's example is run as it stands there, but for the port."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.integration.push.harness import MINUTE, START, gateway, kline, market
from tests.support.ports import free_ports
from tests.support.processes import PROJECT
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_example_follows_candles_across_a_restart(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## Subscribe\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    (port,) = free_ports(1)
    assert "127.0.0.1:8081" in found[1]
    script = tmp_path / "example.py"
    script.write_text(found[1].replace("127.0.0.1:8081", f"127.0.0.1:{port}"))

    async def line() -> str:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            return (await process.stdout.readline()).decode().strip()

    def printed(minute: int, close: str) -> str:
        return f"binance BTCUSDT {START + minute * MINUTE} {close}"

    async with market(nats_server.url) as bus:
        await bus.closed(kline(0, close="1"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with gateway(nats_server.url, port=port):
                assert await line() == printed(0, "1")
                await bus.closed(kline(1, close="2"))
                assert await line() == printed(1, "2")
            await bus.closed(kline(2, close="3"), kline(0, close="4", revision=2))
            async with gateway(nats_server.url, port=port):
                assert [await line(), await line()] == [printed(2, "3"), printed(0, "4")]
        finally:
            process.kill()
            await process.wait()
