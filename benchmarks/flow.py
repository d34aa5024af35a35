"""Runs the whole service at one rate and says what it cost and whether it kept up."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from benchmarks.load import load_symbols
from benchmarks.system import STORED, System
from benchmarks.trend import MEMORY, SAMPLES_MIN, growth
from benchmarks.usage import CORES, Usage, spent, usage
from tests.support.crowd import CrowdHandle, crowd

CLIENTS: Final = 100
TOPICS: Final = 10  # of each client: candles of one minute
SAMPLE_S: Final = 1.0
WARM_UP_S: Final = 2.0
BEHIND_MAX_S: Final = 2.0  # a saver takes up to a second of messages at a time
DRAIN_S: Final = 120.0
JUDGED_S: Final = 120.0  # a shorter run cannot tell growing memory from filling caches
OUTSIDE: Final = ("load", "clients")  # of the service


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one rate.

    Attributes:
        rate: Trades a second that were sent, asked for ``asked``.
        per_message: Trades in a message of MARKET_RAW.
        cost_us: Processor time per trade of each part, until all was stored.
        idle: Share of the cores that neither the service nor load and clients used meanwhile.
        behind_s: What klines and save had before them in the end, in seconds of messages.
        lost: Trades that were sent and are not stored.
        problems: Why the rate was not sustained.
    """

    asked: float
    rate: float
    per_message: float
    cost_us: dict[str, float]
    idle: float
    behind_s: dict[str, float]
    memory: dict[str, list[int]]
    lost: int
    problems: list[str]

    @property
    def capacity(self) -> float:
        """Trades a second at which the cores would have nothing left, load and clients included."""
        return CORES * 1e6 / sum(self.cost_us.values())

    @property
    def total_us(self) -> float:
        """Processor time per trade of the service itself."""
        return sum(us for name, us in self.cost_us.items() if name not in OUTSIDE)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {us:.2f}" for name, us in self.cost_us.items())
        mib = ", ".join(
            f"{name} {each[0] >> 20}-{each[-1] >> 20}" for name, each in self.memory.items()
        )
        behind = ", ".join(f"{name} {s:.2f}" for name, s in self.behind_s.items())
        return (
            f"{self.rate:,.0f} trades/s, {self.per_message:.1f} a message, {self.idle:.0%} of"
            f" {CORES} cores idle; us a trade: {parts}; behind, s: {behind}; MiB: {mib}"
            + "".join(f"; {problem}" for problem in self.problems)
        )


async def audience(system: System, stack: AsyncExitStack) -> CrowdHandle:
    """Let clients subscribe to candles, each to ten of the load's symbols."""
    names = [each.replace("-", "") for each in load_symbols(system.load.symbols)]
    exchange = f"sim-{system.load.venues[0]}"
    topics = [
        [
            f"kline.{exchange}.{names[(client * TOPICS + each) % len(names)]}.1m"
            for each in range(TOPICS)
        ]
        for client in range(CLIENTS)
    ]
    clients = await stack.enter_async_context(crowd(system.push_port))
    assert await clients.do("join", group="all", topics=topics)
    return clients


class FlowRun:
    """Measures flows, one after the other, through one system."""

    def __init__(self, system: System, clients: CrowdHandle) -> None:
        self._system = system
        self._clients = clients

    async def at(self, rate: float, seconds: float) -> Flow:
        """Trade at a rate, and wait until all is stored."""
        system = self._system
        stored = await system.counted("save", STORED)
        sent_before = await system.venues.trades_sent()
        began, first = time.monotonic(), self._usage()
        state = await system.bus.stream_state("MARKET_RAW")
        await system.set_rate(rate)
        await asyncio.sleep(min(WARM_UP_S, seconds))
        steady, looked = time.monotonic(), self._usage()
        steady_sent = await system.venues.trades_sent()
        memory: dict[str, list[int]] = {name: [used.memory] for name, used in looked.items()}
        while time.monotonic() - steady < seconds:
            await asyncio.sleep(min(SAMPLE_S, seconds))
            for name, used in self._usage().items():
                memory[name].append(used.memory)
        steady_s, used_s = time.monotonic() - steady, spent(looked, self._usage())
        sent = await system.venues.trades_sent()
        lag = await system.lag()
        ended = await system.bus.stream_state("MARKET_RAW")
        pace = (ended.last_sequence - state.last_sequence) / (time.monotonic() - began)
        behind_s = {"klines": lag.klines / pace, "save": lag.save / pace}
        trades = await system.settled(DRAIN_S) - sent_before
        total = spent(first, self._usage())
        state_after = await system.bus.stream_state("MARKET_RAW")
        problems = [
            f"{name} fell {s:.1f} s behind" for name, s in behind_s.items() if s > BEHIND_MAX_S
        ]
        actual = (sent - steady_sent) / steady_s
        if actual < 0.98 * rate:
            problems.append(f"only {actual:,.0f} trades/s were taken")
        lost = trades - (await system.counted("save", STORED) - stored)
        if lost:
            problems.append(f"{lost} trades are not stored")
        if seconds >= JUDGED_S:
            problems += _grown(memory)
        messages = state_after.last_sequence - state.last_sequence
        return Flow(
            asked=rate,
            rate=actual,
            per_message=trades / messages,
            cost_us={name: s / trades * 1e6 for name, s in total.items()},
            idle=1 - sum(used_s.values()) / steady_s / CORES,
            behind_s=behind_s,
            lost=lost,
            memory=memory,
            problems=problems,
        )

    def _usage(self) -> dict[str, Usage]:
        return self._system.usage() | usage({"clients": self._clients.pid})


def _grown(memory: dict[str, list[int]]) -> Sequence[str]:
    found = [
        growth(f"memory of {name}", each, MEMORY)
        for name, each in memory.items()
        if name not in OUTSIDE and len(each) >= SAMPLES_MIN
    ]
    return [str(each) for each in found if each is not None]
