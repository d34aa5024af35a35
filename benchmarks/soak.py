"""A soak: ``./cmd/bench soak --minutes N``. Status 1 when memory, queues or latency grow.

All roles as processes, five simulated venues with 20 symbols each, a client that listens to every
trade and open candle. Every few seconds one JSON line: what each process holds in memory, what
klines and save have before them, how long trades and candles took. What counts as growth, and why,
is in `trend`.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
import uvloop

from benchmarks.arrivals import Arrivals, percentile
from benchmarks.system import Load, System, running
from benchmarks.trend import LATENCY_S, MEMORY, MIB, QUEUE_S, Growth, growth
from market_ingestor.runtime.bar import Step, progress_bar

SAMPLES: Final = 120  # of a run
EVERY_MIN_S: Final = 2.0
EVERY_MAX_S: Final = 10.0
MINUTE_S: Final = 60
DRAIN_S: Final = 60.0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    Attributes:
        at_s: Since the load began.
        trades: Sent until now.
        memory: Bytes, by process.
        queue_s: What a role has before it, in seconds of messages at the present pace.
        latency_s: 99th percentile since the last line, of trades and of open candles.
    """

    at_s: float
    trades: int
    memory: dict[str, int]
    queue_s: dict[str, float]
    latency_s: dict[str, float]


def judged(samples: Sequence[Sample]) -> list[Growth]:
    """Return everything that grew."""
    found = []
    for name in samples[0].memory:
        if name != "load":
            values = [float(each.memory[name]) for each in samples]
            found.append(growth(f"memory of {name}", values, MEMORY))
    for name in samples[0].queue_s:
        values = [each.queue_s[name] for each in samples]
        found.append(growth(f"what {name} has before it, s,", values, QUEUE_S))
    for name in samples[0].latency_s:
        values = [each.latency_s[name] for each in samples]
        found.append(growth(f"99 % latency of {name}, s,", values, LATENCY_S))
    return [each for each in found if each is not None]


def summary(samples: Sequence[Sample], sent: int, stored: int) -> str:
    """Return what a run came to."""
    last = samples[-1]
    most = {name: max(each.memory[name] for each in samples) // MIB for name in last.memory}
    slow = {
        name: sorted(each.latency_s[name] for each in samples)[len(samples) // 2] * 1e3
        for name in last.latency_s
    }
    return "\n".join(
        [
            f"{sent} trades in {last.at_s:.0f} s, {stored} rows",
            "most memory, MiB: " + ", ".join(f"{name} {mib}" for name, mib in most.items()),
            "99 % latency, median of all samples, ms: "
            + ", ".join(f"{name} {ms:.1f}" for name, ms in slow.items()),
        ]
    )


class _Soak:
    def __init__(self, system: System, arrivals: Arrivals) -> None:
        self._system = system
        self._arrivals = arrivals
        self._began = time.monotonic()
        self._stored = 0
        self._looked_at = self._began

    async def sample(self) -> Sample:
        now = time.monotonic()
        state = await self._system.bus.stream_state("MARKET_RAW")
        pace = max(state.last_sequence - self._stored, 1) / max(now - self._looked_at, 1e-3)
        self._stored, self._looked_at = state.last_sequence, now
        lag = await self._system.lag()
        ages = {"trades": self._arrivals.trades, "open candles": self._arrivals.opened}
        latency_s = {name: percentile(each, 99) for name, each in ages.items()}
        self._arrivals.forget()
        return Sample(
            at_s=round(now - self._began, 1),
            trades=await self._system.venues.trades_sent(),
            memory={name: used.memory for name, used in self._system.usage().items()},
            queue_s={"klines": lag.klines / pace, "save": lag.save / pace},
            latency_s=latency_s,
        )


async def soak(
    minutes: float, rate: float, file: Path, step: Step
) -> tuple[list[Sample], int, int]:
    """Run, write a line per sample; return them, the trades sent and the rows stored."""
    seconds = minutes * MINUTE_S
    every_s = min(max(seconds / SAMPLES, EVERY_MIN_S), EVERY_MAX_S)
    arrivals = Arrivals()
    samples: list[Sample] = []
    async with running(Load()) as system, asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(arrivals.run(system.push_port))
        await arrivals.subscribed()
        await system.set_rate(rate)
        soaking = _Soak(system, arrivals)
        with file.open("wb") as lines:
            while not samples or samples[-1].at_s < seconds:
                await asyncio.sleep(every_s)
                samples.append(await soaking.sample())
                lines.write(msgspec.json.encode(samples[-1]) + b"\n")
                lines.flush()
                step(min(int(samples[-1].at_s), int(seconds)), int(seconds))
        sent, stored = await system.drained(DRAIN_S)
        listening.cancel()
    return samples, sent, stored


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.3), default=30.0, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=10),
    default=5_000.0,
    show_default=True,
    help="Trades a second, all venues together.",
)
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False),
    default=Path(".benchmarks/soak.jsonl"), show_default=True, help="One JSON line per sample.",
)  # fmt: skip
def main(*, minutes: float, rate: float, file: Path) -> None:
    """Run everything for MINUTES and fail when memory, queues or latency grow."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("seconds of soak") as step:
        samples, sent, stored = uvloop.run(soak(minutes, rate, file, step))
    problems = [str(each) for each in judged(samples)]
    if stored != sent:
        problems.append(f"{sent} trades were sent, {stored} are stored")
    click.echo(summary(samples, sent, stored))
    for each in problems:
        click.echo(f"PROBLEM {each}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
