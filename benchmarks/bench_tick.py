"""Tick to client: from a venue's sending of a trade to its arrival at a WebSocket push client.

10,000 trades/s over five venues with 20 symbols each, all roles as processes. The venues are the
simulator's own servers with a load of stamped trades (`load`): their tapes would do as well at
this rate, but a tape's trade does not say when its frame was written. Latencies are the 99th
percentile: of trades; of closed 1m candles, from the moment at which they could be closed
(`arrivals.Arrivals.closed`); of open candles, from the sending of each trade to the first candle
that holds it, which includes the throttle of 100 ms.

The floor is the same hops with nothing done in between (`hops`), at the same rate from one Binance
socket with 100 symbols: for trades socket, stream, socket; for candles a second stream more.
"""

import asyncio
import contextlib
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import hops
from benchmarks.arrivals import Arrivals, percentile, stamped_frames
from benchmarks.programs import Load, all_trades, loaded_venues, own_program
from benchmarks.race import noted
from benchmarks.stage import OnSystem
from benchmarks.system import System
from tests.support.processes import Command
from tests.support.servers import NatsHandle

RATE: Final = 10_000
MINUTES: Final = int(os.environ.get("BENCH_TICK_MINUTES", "1"))  # whose ends are measured
BEFORE_S: Final = 20.0  # of trading until the first of these ends
BEHIND_S: Final = 5.0  # ... and behind the last: lateness, and whatever is slow
LATE_S: Final = 60.0
POLL_S: Final = 0.5
FLOOR_S: Final = 10.0
SMOKE_RATE: Final = 500
SMOKE_S: Final = 1.0
WARM_UP_S: Final = 2.0
WAIT_S: Final = 30.0
THROTTLE_S: Final = 0.1
OPEN_MAX_S: Final = THROTTLE_S + 0.05
GOALS: Final = {"floor": 1 / 3}  # the 99th percentile is at most three times the floor's


class Ages(NamedTuple):
    """Microseconds from sending to arrival."""

    trades: list[int]
    closed: list[int]
    opened: list[int]
    missed: int = 0


async def floor_ages(url: str, folder: Path, *, rate: float, seconds: float) -> Ages:
    """Measure the hops alone."""
    await hops.make_streams(url)
    load = Load(venues=("binance",), symbols=100)
    async with AsyncExitStack() as stack:
        venues = await stack.enter_async_context(loaded_venues(folder, load))
        venue = all_trades(venues.ports["binance"], load)

        async def hop(name: str, *arguments: str) -> Command:
            log = folder / f"{name}.log"
            running_hop = own_program(log, "hops", name, url, *arguments)
            process = await stack.enter_async_context(running_hop)
            await process.until(lambda: process.output.endswith("\n"), WAIT_S)
            return process

        port = int((await hop("push")).output)
        await hop("republish")
        ages = Ages([], [], [])
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        reading = [
            tasks.create_task(stamped_frames(port, "/trades", ages.trades)),
            tasks.create_task(stamped_frames(port, "/candles", ages.closed)),
        ]
        await hop("publish", venue)
        await venues.set_rate(rate)
        await asyncio.sleep(WARM_UP_S)
        del ages.trades[:], ages.closed[:]
        await asyncio.sleep(seconds)
        for task in reading:
            task.cancel()
        return ages


async def our_ages(system: System, *, rate: float, seconds: float | None) -> Ages:
    """Measure the service.

    Args:
        seconds: How long; None for as long as it takes until some minutes have ended.
    """
    arrivals = Arrivals()
    instruments = len(system.load.venues) * system.load.symbols
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(arrivals.run(system.push_port))
        await arrivals.subscribed()
        await system.set_rate(rate)
        await asyncio.sleep(WARM_UP_S)
        arrivals.forget()
        waits_for_closed = seconds is None
        if seconds is None:
            end = (time.time() + BEFORE_S) // 60 * 60 + 60 * MINUTES
            seconds = end + BEHIND_S - time.time()
        await asyncio.sleep(seconds)
        if waits_for_closed:  # who is behind is waited for: late is an answer, too
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LATE_S):
                    while len(arrivals.closed()) < instruments:  # noqa: ASYNC110 - of a socket
                        await asyncio.sleep(POLL_S)
        await system.set_rate(0)
        listening.cancel()
    return Ages(arrivals.trades, arrivals.closed(), arrivals.opened, arrivals.missed)


@pytest.fixture(scope="module")
def figures() -> dict[str, Ages]:
    """Keep what one measurement found for all rows."""
    return {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["trades", "closed", "opened"])
def test_tick(
    benchmark: BenchmarkFixture,
    nats_server: NatsHandle,
    tmp_path: Path,
    on_system: OnSystem[Ages],
    figures: dict[str, Ages],
    what: str,
    is_smoke: bool,
) -> None:
    if is_smoke and what != "trades":
        pytest.skip(
            "measured with the first row; a minute's end is more than a smoke run waits for"
        )
    if not figures:
        rate = SMOKE_RATE if is_smoke else RATE
        seconds = SMOKE_S if is_smoke else FLOOR_S
        figures["floor"] = uvloop.run(
            floor_ages(nats_server.url, tmp_path, rate=rate, seconds=seconds)
        )
        figures["ours"] = on_system(
            Load(),
            lambda system: our_ages(system, rate=rate, seconds=SMOKE_S if is_smoke else None),
        )
    ours, floor = figures["ours"], figures["floor"]
    ages: list[int] = getattr(ours, what)
    p99 = percentile(ages, 99)
    medians = {"ours": p99}
    if what != "opened":
        medians["floor"] = percentile(getattr(floor, what), 99)
    noted(
        benchmark,
        stage=f"tick to client, {what}, 99 %",
        unit="trade" if what == "trades" else "candle",
        work=1,
        medians=medians,
        goals=GOALS,
        limit_us=OPEN_MAX_S * 1e6 if what == "opened" else None,
        is_missed=ours.missed > 0,
        details=[
            f"{len(ages)} of them, median {percentile(ages, 50) * 1e3:.1f} ms",
            f"{ours.missed} messages not delivered",
        ],
    )
