"""The terminal view in a terminal, of a real gateway."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from market_ingestor.bus import codec, subjects
from tests.integration.push.harness import Market, event, gateway, kline, market
from tests.support.played import statistics
from tests.support.ports import free_ports
from tests.support.processes import command
from tests.support.servers import NatsHandle
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.anyio

DOUBTFUL = "\N{BOX DRAWINGS LIGHT DIAGONAL CROSS}"


async def price(bus: Market, text: str, symbol: str = "BTCUSDT") -> None:
    stats = statistics("binance", symbol, text, time_us=time.time_ns() // 1_000)
    await bus.bus.publish_core((subjects.stats("binance", symbol), codec.encode(stats)))
    await bus.bus.client.flush()


@asynccontextmanager
async def trading(nats_url: str) -> AsyncIterator[Market]:
    """Give a market with some history."""
    async with market(nats_url) as bus:
        for minute in range(8):
            await bus.closed(kline(minute, high=str(67_150 + 40 * minute), complete=minute != 3))
        yield bus


async def test_prices_candles_and_holes_at_eighty_by_twenty_four(nats_server: NatsHandle) -> None:
    (port,) = free_ports(1)
    async with (
        trading(nats_server.url) as bus,
        gateway(nats_server.url, port=port),
        in_terminal("watch", "--url", f"ws://127.0.0.1:{port}/ws") as terminal,
    ):
        await terminal.shows("LIVE")
        await price(bus, "67123.45")
        await price(bus, "3010.1", "ETHUSDT")
        await terminal.shows("binance BTCUSDT", "67123.45", "+1.25", "1.23K", "4.0", "up", "3010.1")
        await terminal.shows("candles of a minute, 1 incomplete, 0 revised", "67430", DOUBTFUL, "▁")
        await price(bus, "67999.99")
        await terminal.shows("67999.99")
        await bus.event(event())
        await terminal.shows("gaps seen 1 open")
        await bus.closed(kline(3, revision=2))
        await terminal.shows("0 incomplete, 1 revised")
        assert {"green", "red"} & terminal.colours
        terminal.type("\x1b[B")
        await terminal.shows("ETHUSDT: candles")
        terminal.type("s")
        await terminal.shows("sort: change")
        terminal.type("q")
        assert await terminal.process.wait() == 0


async def test_it_fills_a_terminal_that_is_resized(nats_server: NatsHandle) -> None:
    (port,) = free_ports(1)
    async with (
        trading(nats_server.url) as bus,
        gateway(nats_server.url, port=port),
        in_terminal(
            "watch", "--url", f"ws://127.0.0.1:{port}/ws", env={"NO_COLOR": "1"}
        ) as terminal,
    ):
        await price(bus, "1.5")
        await terminal.shows("LIVE", "binance BTCUSDT")
        terminal.resize(120, 12)
        await terminal.until(lambda: "LAST 47 MIN" in terminal.screen.display[1])
        assert "q quit" in terminal.screen.display[11]
        terminal.resize(60, 30)
        await terminal.until(lambda: "gaps" in terminal.screen.display[29])
        assert terminal.colours <= {"default"}


async def test_it_says_when_it_is_cut_off_and_comes_back(nats_server: NatsHandle) -> None:
    (port,) = free_ports(1)
    async with in_terminal("watch", "--url", f"ws://127.0.0.1:{port}/ws") as terminal:
        await terminal.shows("NO CONNECTION", "not connected")
        async with trading(nats_server.url) as bus:
            async with gateway(nats_server.url, port=port):
                await terminal.shows("LIVE")
                await price(bus, "3.5")
                await terminal.shows("3.5")
            await terminal.shows("NO CONNECTION", "3.5")
            await bus.closed(kline(9, complete=False))
            async with gateway(nats_server.url, port=port):
                await terminal.shows("LIVE", "2 incomplete")  # by its position, not by a new look


async def test_lines_over_tcp_on_a_terminal_without_other_characters(
    nats_server: NatsHandle,
) -> None:
    port, tcp_port = free_ports(2)
    env = {"TERM": "vt100", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0",
           "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}  # fmt: skip
    async with (
        trading(nats_server.url) as bus,
        gateway(nats_server.url, port=port, tcp_port=tcp_port),
        in_terminal("watch", "--tcp", f"127.0.0.1:{tcp_port}", env=env) as terminal,
    ):
        await bus.closed(kline(9))
        await terminal.until(lambda: "market-ingestor" in terminal.text)
        while "LIVE" not in terminal.text:
            await price(bus, "67123.45")
            await terminal.until(lambda: terminal.written > 0)
        await price(bus, "67124.45")
        await terminal.shows("67124.45", "tcp://127.0.0.1", "j/k choose")
        assert terminal.text.isascii()


async def test_without_a_terminal_it_prints_once(nats_server: NatsHandle, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"ws://127.0.0.1:{port}/ws"
    async with trading(nats_server.url) as bus, gateway(nats_server.url, port=port):
        await price(bus, "67123.45")
        async with command("watch", "--url", url, log=tmp_path / "table") as running:
            assert await running.ended(30) == 0, running.output
            assert "67123.45" in running.output
            assert "\x1b" not in running.output
        async with command("watch", "--url", url, "--json", log=tmp_path / "json") as running:
            assert await running.ended(30) == 0, running.output
            assert json.loads(running.output)["last_price"] == "67123.45"
    async with command("watch", "--url", url, log=tmp_path / "none") as running:
        assert await running.ended(30) == 1
        assert url in running.output
