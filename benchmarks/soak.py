"""A soak: ``./cmd/bench soak --minutes N``. Status 1 when memory, queues or latency grow.

All roles as processes, five simulated venues with 20 symbols each, a client that listens to every
trade and open candle. Every few seconds one JSON line: what each process holds in memory, what
klines and save have before them, how long trades and candles took. What counts as growth, and why,
is in `trend`.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import click
import msgspec
import uvloop

from benchmarks.arrivals import Arrivals, percentile
from benchmarks.programs import Load
from benchmarks.system import ROWS, System, running
from benchmarks.trend import LATENCY_S, MEMORY, MIB, QUEUE_S, Tolerance, growth
from market_ingestor import logs
from market_ingestor.runtime.bar import Step, progress_bar

SAMPLES: Final = 120  # of a run
EVERY_MIN_S: Final = 2.0
EVERY_MAX_S: Final = 10.0
MINUTE_S: Final = 60
DRAIN_S: Final = 60.0


# What is sampled, and how much of it is no growth.
JUDGED: Final[Sequence[tuple[str, str, Tolerance]]] = (
    ("memory", "memory", MEMORY),
    ("backlog, s,", "queue_s", QUEUE_S),
    ("99 % latency, s,", "latency_s", LATENCY_S),
)


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


class Soaked(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to.

    Attributes:
        sent: Trades, as against rows ``stored``.
    """

    samples: list[Sample]
    sent: int
    stored: int

    def __str__(self) -> str:
        last = self.samples[-1]
        most = {
            name: max(each.memory[name] for each in self.samples) // MIB for name in last.memory
        }
        slow = {
            name: median(each.latency_s[name] for each in self.samples) * 1e3
            for name in last.latency_s
        }
        lines = [
            f"{self.sent} trades in {last.at_s:.0f} s, {self.stored} rows",
            "most memory, MiB: " + ", ".join(f"{name} {mib}" for name, mib in most.items()),
            "99 % latency, median of all samples, ms: "
            + ", ".join(f"{name} {ms:.1f}" for name, ms in slow.items()),
        ]
        return "\n".join(lines + [f"PROBLEM {each}" for each in self.problems])

    @property
    def problems(self) -> list[str]:
        """Everything that grew, and what is missing."""
        found = [
            growth(
                f"{what} of {name}", [getattr(each, field)[name] for each in self.samples], limit
            )
            for what, field, limit in JUDGED
            for name in getattr(self.samples[0], field)
        ]
        problems = [str(each) for each in found if each is not None]
        if self.sent != self.stored:
            problems.append(f"{self.sent} trades were sent, {self.stored} are stored")
        return problems


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
            memory={
                name: used.memory for name, used in self._system.usage().items() if name != "load"
            },
            queue_s={"klines": lag.klines / pace, "save": lag.save / pace},
            latency_s=latency_s,
        )


async def soak(
    system: System, *, seconds: float, rate: float, every_s: float, file: Path, step: Step
) -> Soaked:
    """Run at a rate, and write a line every few seconds."""
    arrivals = Arrivals()
    samples: list[Sample] = []
    async with asyncio.TaskGroup() as tasks:
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
        sent = await system.settled(DRAIN_S)
        listening.cancel()
    return Soaked(samples=samples, sent=sent, stored=await system.number(ROWS))


async def _soak_alone(minutes: float, rate: float, file: Path, step: Step) -> Soaked:
    seconds = minutes * MINUTE_S
    every_s = min(max(seconds / SAMPLES, EVERY_MIN_S), EVERY_MAX_S)
    async with running(Load()) as system:
        return await soak(system, seconds=seconds, rate=rate, every_s=every_s, file=file, step=step)


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
    logs.configure(level=logging.WARNING)
    file.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("seconds of soak") as step:
        soaked = uvloop.run(_soak_alone(minutes, rate, file, step))
    click.echo(str(soaked))
    sys.exit(1 if soaked.problems else 0)


if __name__ == "__main__":
    main()
