"""One run of the fault suite: build the world, carry out the plan, let it settle, check."""

import asyncio
import contextlib
import itertools
import math
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.runtime.bar import Step
from tests.faults.checks import candles, truth
from tests.faults.collector import Collector
from tests.faults.journal import Journal, now_us
from tests.faults.plan import Episode, Planned, schedule
from tests.faults.recovery import recover
from tests.faults.watch import (
    LINES_AT_REST,
    LINES_PER_FAULT,
    MEMORY_MAX_BYTES,
    MIB,
    MemoryWatch,
    log_lines,
)
from tests.faults.world import Size, World, built

CLOSE_S: Final = 10.0  # after the end of a minute all comparisons include it
SETTLE_S: Final = 60.0  # after a long run one look takes as long: so many there are at least
LOOKS_MIN: Final = 5
POLL_S: Final = 1.0
MINUTE_S: Final = 60
NEW_MINUTE_S: Final = 2.0  # into a minute every instrument has traded in it
LISTED_MAX: Final = 20


class Report(msgspec.Struct):
    """What a run came to.

    Attributes:
        trades: In the record.
        candles: Recomputed and compared.
        versions: Of candles, compared with those pushed.
        excused: Trades that nobody could have had.
        memory: Most resident bytes, by role.
        lines: Of log, by process.
        survived: Faults by kind.
        recovery_s: Longest recovery, by part.
        problems: What must not be; a clean run has none.
    """

    seed: int
    minutes: float
    size: Size
    only: str = ""
    trades: int = 0
    candles: int = 0
    versions: int = 0
    excused: int = 0
    memory: dict[str, int] = {}
    lines: dict[str, int] = {}
    survived: dict[str, int] = {}
    recovery_s: dict[str, float] = {}
    problems: list[str] = []

    def __str__(self) -> str:
        kinds = [f"  {count:4} {kind}" for kind, count in sorted(self.survived.items())]
        slow = ", ".join(f"{part} {took:.1f}" for part, took in sorted(self.recovery_s.items()))
        memory = ", ".join(f"{role} {used // MIB}" for role, used in sorted(self.memory.items()))
        lines = ", ".join(f"{name} {count}" for name, count in sorted(self.lines.items()))
        head = [
            f"seed {self.seed}, {self.minutes:g} minutes: {sum(self.survived.values())} faults",
            f"{self.trades} trades ({self.excused} excused), {self.candles} candles recomputed",
            f"{self.versions} versions of candles pushed",
            f"longest recovery, s: {slow}",
            f"most memory, MiB: {memory}",
            f"log lines: {lines}",
            *kinds,
        ]
        wrong = [f"PROBLEM {each}" for each in self.problems[:LISTED_MAX]]
        if wrong:
            wrong.append(f"{len(self.problems)} problems; again with: {self.command}")
        return "\n".join(head + wrong)

    @property
    def command(self) -> str:
        """What repeats this run."""
        how = f"--rate {self.size.rate:g} --patience {self.size.patience:g}"
        if self.only:
            how += f" --only {shlex.quote(self.only)}"
        return f"./cmd/faults --minutes {self.minutes:g} --seed {self.seed} {how}"


async def run(
    folder: Path,
    *,
    seed: int,
    minutes: float,
    size: Size,
    only: str = "",
    step: Step | None = None,
) -> Report:
    """Carry out the plan of a seed and return what came of it.

    Args:
        folder: For logs, records and configurations; they stay.
        only: Faults whose kind has this text in it, all by default.
        step: Is told the seconds that passed, of how many; the journal is then printed as well.
    """
    report = Report(seed=seed, minutes=minutes, size=size, only=only)
    with contextlib.closing(Journal(folder / "journal.jsonl", tells=step is not None)) as journal:
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(built(folder, journal, seed=seed, size=size))
            collector = Collector(world.links["client>push"].port)
            memory = MemoryWatch(world)
            await stack.enter_async_context(_beside(collector, memory))
            await recover(world, collector)
            journal.note("started")
            whole_minute = math.ceil(time.time() / MINUTE_S) * MINUTE_S
            began = time.monotonic()
            for number, episode in enumerate(schedule(seed, minutes, only)):
                await _carry_out(world, collector, number, episode)
                passed = time.monotonic() - began
                if step is not None:
                    step(min(int(passed), int(minutes * MINUTE_S)), int(minutes * MINUTE_S))
                if passed > minutes * MINUTE_S:
                    break
            # The minute of the start is cut and proves little: a short run waits for the next.
            await asyncio.sleep(max(whole_minute + NEW_MINUTE_S - time.time(), 0))
            await _settle(world, stack, collector)
            await _check(world, stack, collector, report)
        report.memory = memory.most
        report.lines = {name: log_lines(each) for name, each in world.services.items()}
        report.survived, report.recovery_s = journal.survived, journal.recovery_s
        report.problems += journal.problems + _unbounded(world, report)
    return report


@contextlib.asynccontextmanager
async def _beside(collector: Collector, memory: MemoryWatch) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(collector.run()), tasks.create_task(memory.run())]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()


async def _carry_out(world: World, collector: Collector, number: int, episode: Episode) -> None:
    """Let the faults of one episode happen, and wait until everything works again."""
    start_us = now_us()
    async with asyncio.TaskGroup() as tasks:
        for planned in episode:
            tasks.create_task(_happen(world, number, planned))
    world.journal.note("faults ended", episode=number)
    await recover(world, collector)
    kinds = frozenset(each.fault.kind for each in episode)
    world.journal.disturbed(start_us, kinds)
    world.journal.note("recovered", episode=number)


async def _happen(world: World, number: int, planned: Planned) -> None:
    fault, journal = planned.fault, world.journal
    await asyncio.sleep(planned.at_s)
    journal.note("fault begins", episode=number, kind=fault.kind, seconds=fault.seconds)
    async with asyncio.TaskGroup() as tasks:  # some begins last as long as the fault
        tasks.create_task(fault.begin(world))
        tasks.create_task(asyncio.sleep(fault.seconds))
    await fault.end(world)
    journal.counted(fault.kind)
    journal.note("fault ended", episode=number, kind=fault.kind)


async def _settle(world: World, stack: AsyncExitStack, collector: Collector) -> None:
    """Stop the venues, let the last minute close, and wait until all there is has been stored."""
    await world.venues.set_rate(0)
    world.journal.note("venues stopped")
    now = time.time()
    await asyncio.sleep(math.ceil(now / MINUTE_S) * MINUTE_S - now + CLOSE_S)
    session, bus = await world.database(stack), await world.bus(stack)
    await truth.load(session, world.venues.truth)
    give_up = time.monotonic() + SETTLE_S * world.size.patience
    for look in itertools.count(1):
        found = await truth.compare(session, world.journal.disturbances)
        _, different = await candles.differences(world)
        pushed = await candles.pushed(session, collector)
        unsettled = found.problems + different + pushed
        if not unsettled and await _is_saved(bus):
            break
        world.journal.note("settling", problems=len(unsettled), first=(unsettled or [""])[0][:200])
        if look >= LOOKS_MIN and time.monotonic() > give_up:
            break
        await asyncio.sleep(POLL_S)
    world.journal.note("settled")


async def _is_saved(bus: Bus) -> bool:
    for stream in (subjects.RAW_STREAM, subjects.KLINE_STREAM, subjects.EVENT_STREAM):
        state = await bus.consumer_state(stream, subjects.SAVE_DURABLE)
        if state is None or state.pending > 100 or state.unacknowledged > 100:  # marks go on
            return False
    return True


async def _check(world: World, stack: AsyncExitStack, collector: Collector, report: Report) -> None:
    session = await world.database(stack)
    found = await truth.compare(session, world.journal.disturbances)
    report.trades, report.excused = found.trades, found.excused
    report.candles, different = await candles.differences(world)
    report.versions = len(collector.versions)
    report.problems += found.problems + different
    report.problems += await candles.pushed(session, collector)
    report.problems += await candles.commands(world)
    if not report.candles:
        report.problems.append("no candle was compared")


def _unbounded(world: World, report: Report) -> list[str]:
    """Return what grew beyond its bound."""
    lines_max = LINES_AT_REST + LINES_PER_FAULT * len(world.journal.disturbances)
    problems = [
        f"{role} used {used // MIB} MiB"
        for role, used in report.memory.items()
        if used > MEMORY_MAX_BYTES
    ]
    return problems + [
        f"{name} wrote {lines} lines of log, more than {lines_max}"
        for name, lines in report.lines.items()
        if lines > lines_max
    ]
