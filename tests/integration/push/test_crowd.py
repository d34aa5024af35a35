"""Ten thousand clients on one gateway process, a tenth of which read slowly."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from tests.integration.push.harness import Market, kline, market
from tests.support.crowd import CrowdHandle, crowd, raise_file_limit
from tests.support.ports import free_ports
from tests.support.processes import Command, command
from tests.support.servers import NatsHandle

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(240)]

CLIENTS = int(os.environ.get("CROWD_CLIENTS", "10000"))
SLOW = CLIENTS // 10
OVERTAKEN = SLOW // 10  # of the slow ones: they read again only after the ring went on without them
ROUNDS = 2  # a phase: what fills a socket
SYMBOLS = [f"C{n:03}USDT" for n in range(50)]
FILLER = "9" * 750  # makes a candle two kilobytes, so that few of them fill a socket
RING_BYTES = 900_000  # some 190 such candles, not quite four rounds of them
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CLIENT_BYTES_MAX = 25 * 1024


class Process(NamedTuple):
    """A gateway as a process of its own."""

    command: Command
    port: int
    health_port: int

    @property
    def memory(self) -> int:
        """Return the bytes of memory it occupies."""
        text = Path(f"/proc/{self.command.process.pid}/statm").read_text(encoding="ascii")
        return int(text.split()[1]) * PAGE_BYTES

    @property
    def seconds(self) -> float:
        """Return the processor time it has taken so far."""
        text = Path(f"/proc/{self.command.process.pid}/stat").read_text(encoding="ascii")
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    async def is_ready(self) -> bool:
        async with httpx2.AsyncClient() as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.health_port}/health/ready")
            except httpx2.HTTPError:
                return False
            return answer.status_code == 200


@asynccontextmanager
async def gateway_process(url: str, tmp_path: Path, **options: Any) -> AsyncIterator[Process]:
    raise_file_limit()
    port, tcp_port, health_port = free_ports(3)
    lines = [
        f'[nats]\nservers = ["{url}"]',
        '[database]\ndsn = "postgresql://nobody@127.0.0.1:1/none"',
        f"[metrics]\nport = {health_port}",
        f"[gateway]\nport = {port}\ntcp_port = {tcp_port}",
        *(f"{name} = {json.dumps(value)}" for name, value in options.items()),
    ]
    config = tmp_path / "config.toml"
    config.write_text("\n".join(lines))
    log = tmp_path / "gateway.log"
    async with command("run", "gateway", "--config", str(config), log=log) as running:
        process = Process(running, port, health_port)
        await running.until(process.is_ready, 30)
        yield process


class Rounds:
    """Publishes a candle of every symbol, minute after minute."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._minute = 0
        self.sequences: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}

    async def publish(self, count: int = 1) -> None:
        for _ in range(count):
            for symbol in SYMBOLS:
                each = kline(self._minute, symbol=symbol, volume=FILLER, quote_volume=FILLER)
                payload = codec.encode(each)[:-1] + b',"sent":%f}' % time.monotonic()
                subject = subjects.kline(each.exchange, symbol, "1m")
                await self._bus.client.publish(subject, payload)
            await self._bus.client.flush()
            self._minute += 1
        last = self.last
        async with asyncio.timeout(30):
            while True:
                state = await self._bus.stream_state(subjects.KLINE_STREAM)
                if state.last_sequence >= last:
                    break
                await asyncio.sleep(0.01)
        for index, symbol in enumerate(SYMBOLS):
            self.sequences[symbol] = list(range(index + 1, last + 1, len(SYMBOLS)))

    @property
    def last(self) -> int:
        """Return the sequence of the newest candle, 0 before the first."""
        return len(SYMBOLS) * self._minute

    def of(self, symbols: Iterable[str], after: int) -> list[int]:
        """Return the sequences of the candles of symbols behind ``after``."""
        return sorted(n for symbol in symbols for n in self.sequences[symbol] if n > after)


def two_symbols(number: int) -> tuple[str, str]:
    count = len(SYMBOLS)
    return SYMBOLS[number % count], SYMBOLS[(number + 1 + number // count % (count - 1)) % count]


def topics(*symbols: str) -> list[str]:
    return [f"closed.binance.{symbol}.1m" for symbol in symbols]


class Group(NamedTuple):
    """Clients that subscribed the same way at the same time."""

    name: str
    size: int
    topics_each: int
    after: int  # the newest candle before they came

    async def join(
        self, clients: CrowdHandle, topic_lists: list[list[str]], **options: Any
    ) -> None:
        """Connect and subscribe."""
        order = {"group": self.name, "topics": topic_lists, "timeout_s": 120, **options}
        assert await clients.do("join", **order), self.name

    async def has_all(self, clients: CrowdHandle, rounds: Rounds) -> None:
        """Return when each client has as many candles as there were."""
        count = (rounds.last - self.after) // len(SYMBOLS) * self.topics_each
        assert await clients.do("wait", group=self.name, count=count, timeout_s=60), self.name

    async def check(self, clients: CrowdHandle, rounds: Rounds) -> int:
        """Compare what each client got with what there was; returns how many were overtaken."""
        report = await clients.do("report", group=self.name)
        assert report["failures"] == {}
        assert sum(each["clients"] for each in report["got"]) == self.size
        for each in report["got"]:
            symbols = [topic.split(".")[2] for topic in each["topics"]]
            wanted = SYMBOLS if symbols == ["*"] else symbols
            assert each["sequences"] == rounds.of(wanted, self.after)
        overtaken = report["missed"]
        assert isinstance(overtaken, int)
        return overtaken


async def test_ten_thousand_clients_get_every_candle(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway_process(nats_server.url, tmp_path, ring_bytes=RING_BYTES) as push,
        crowd(push.port) as clients,
    ):
        figures = await _fast_and_slow(bus, push, clients)
        print(json.dumps(figures))  # noqa: T201 - the figures of the benchmarks' README
        assert figures["bytes_per_client"] <= CLIENT_BYTES_MAX
        assert figures["bytes_per_client_stopped"] <= CLIENT_BYTES_MAX
        # Processor time, because delays on busy cores tell of everything else that runs there.
        assert figures["beside"]["seconds"] < 1.5 * figures["alone"]["seconds"] + 0.5


async def _fast_and_slow(bus: Market, push: Process, clients: CrowdHandle) -> dict[str, Any]:
    rounds, before, began = Rounds(bus.bus), push.memory, time.monotonic()
    fast = Group("fast", CLIENTS - SLOW, 2, 0)
    await fast.join(clients, [topics(*two_symbols(n)) for n in range(fast.size)])
    figures: dict[str, Any] = {"clients": CLIENTS, "join_s": time.monotonic() - began}
    figures["alone"] = await _delays(push, rounds, clients, fast)

    slow = Group("slow", SLOW - OVERTAKEN, len(SYMBOLS), rounds.last)
    late = Group("overtaken", OVERTAKEN, len(SYMBOLS), rounds.last)
    for group in (slow, late):
        await group.join(clients, [topics("*")] * group.size, receive_buffer=4_096)
        await clients.do("stop", group=group.name)
    figures["bytes_per_client"] = (push.memory - before) // CLIENTS
    await _delays(push, rounds, clients, fast)  # what fits into the sockets of those that stopped
    figures["beside"] = await _delays(push, rounds, clients, fast)
    figures["bytes_per_client_stopped"] = (push.memory - before) // CLIENTS

    await clients.do("read", group=slow.name)
    await slow.has_all(clients, rounds)
    await _delays(push, rounds, clients, fast)
    await clients.do("read", group=late.name)
    for group in (slow, late):
        await group.has_all(clients, rounds)
    figures["whole_s"] = time.monotonic() - began

    assert await fast.check(clients, rounds) == 0
    assert await slow.check(clients, rounds) == 0
    figures["overtaken"] = await late.check(clients, rounds)
    assert figures["overtaken"] > 0
    return figures


async def _delays(
    push: Process, rounds: Rounds, clients: CrowdHandle, fast: Group
) -> dict[str, Any]:
    """Have rounds, and return how long their candles took to those that read at once.

    ``seconds`` is what the gateway worked for it.
    """
    before = push.seconds
    for _ in range(ROUNDS):
        await rounds.publish()
        await fast.has_all(clients, rounds)
    delays: dict[str, Any] = await clients.do("delays", group=fast.name)
    return delays | {"seconds": push.seconds - before}
