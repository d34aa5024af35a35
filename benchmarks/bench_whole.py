"""Whole: from a simulated venue to rows and candles committed and pushed, all roles as processes.

Binance's protocol, 100 symbols at random, one trade a frame from a cheap load (`load`); 100 push
clients with ten candles each. Ours is the processor time per trade of the service, NATS and
PostgreSQL, without load and clients; idle is what all of these leave of the cores. Sustained means
that klines and save are not behind at the end, that as many rows are stored as trades were sent,
and, from two minutes on, that no process's memory grows. Where a goal's rate is not sustained,
lower ones are tried. At the end the candles of some symbols are compared
with the fold of the rows, and pushed candles with those stored.

``BENCH_WHOLE_SECONDS=300,60 ./cmd/bench benchmarks/bench_whole.py`` runs the goals' full time; by
default the two rates run for 30 and 20 seconds. The floor is the sum of the stages' floors
(`floors`); the peer is the service without batching by time (``linger_ms_max = 0``).
"""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.floors import floors_us
from benchmarks.flow import Flow, FlowRun, audience
from benchmarks.programs import Load
from benchmarks.race import noted
from benchmarks.stage import OnSystem
from benchmarks.system import ROWS, System
from benchmarks.usage import CORES
from market_ingestor.bus import subjects
from market_ingestor.storage.timescale import Database
from market_ingestor.storage.verify import SETTLE_S, verify
from tests.support.crowd import CrowdHandle

LOAD: Final = Load(venues=("binance",), symbols=100, prebuilt=True)
SECONDS: Final = [float(s) for s in os.environ.get("BENCH_WHOLE_SECONDS", "30,20").split(",")]
GOALS: Final = {50_000: 0.25, 80_000: 0.0}  # trades/s: share of the cores that is left idle
STEP: Final = 0.9  # from a rate that is not sustained, or what the cores allow, to the next
TRY_S: Final = 20.0
WARM_UP: Final = 5  # of the lowest goal's rate
PEER: Final = "linger_ms_max = 0"
VERIFIED: Final = ("L000USDT", "L006USDT", "L012USDT", "L018USDT")
STORED_S: Final = 30.0
POLL_S: Final = 0.1
CLOSED_S: Final = 5.0  # behind the end of a minute its candles are stored
NEWEST: Final = "SELECT count(*) FROM market_kline_revisions WHERE period = '1m'"


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        flows: Of each goal's rate, or the highest below it that was sustained.
        peer: Without batching.
        floors: Microseconds per trade, by stage.
        compared: Candles that equal the fold of their rows.
    """

    flows: dict[int, Flow]
    peer: Flow
    floors: dict[str, float]
    compared: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done.

    Attributes:
        seconds: Of each goal's rate.
        peer_s: Of the peer, at the lowest of them.
        floor_trades: For the floors of folding and storing.
        read_s: For that of receiving.
        warm_up_s: Before the first of them, at a fraction of its rate.
        slower: All rates are divided by it.
        tries_max: Rates tried for a goal.
    """

    seconds: dict[int, float]
    peer_s: float = 10.0
    floor_trades: int = 100_000
    read_s: float = 4.0
    warm_up_s: float = 5.0
    slower: int = 1
    tries_max: int = 6


async def measure(system: System, plan: Plan) -> Whole:
    """Run every rate, the peer and the floors."""
    async with AsyncExitStack() as stack:
        clients = await audience(system, stack)
        before = await _stored_candles(system)
        run = FlowRun(system, clients)
        flows: dict[int, Flow] = {}
        # Partitions, instruments and statistics begin with the first trades.
        tried = [await run.at(min(plan.seconds) / plan.slower / WARM_UP, plan.warm_up_s)]
        for goal in sorted(plan.seconds):
            if all(flow.asked * plan.slower == met for met, flow in flows.items()):
                tried += await _tries(run, plan, goal)
            flows[goal] = tried[-1]  # more than what was not sustained is not tried
        await system.restart_ingest(PEER)
        lowest = min(plan.seconds)
        peer = await run.at(lowest / plan.slower, plan.peer_s)
        lost = sum(flow.lost for flow in [*tried, peer])
        assert await system.number(ROWS) == await system.venues.trades_sent() - lost
        compared = await _proved(system, clients, before)
        floors = await floors_us(
            system,
            rate=lowest / plan.slower,
            seconds=plan.read_s,
            trades=plan.floor_trades,
            per_message=max(round(flows[lowest].per_message), 1),
        )
    return Whole(flows=flows, peer=peer, floors=floors, compared=compared)


async def _tries(run: FlowRun, plan: Plan, goal: int) -> list[Flow]:
    """Run a rate, and lower ones until one is sustained; the last is."""
    rate, seconds = goal / plan.slower, plan.seconds[goal]
    tries = [await run.at(rate, seconds)]
    while tries[-1].problems and len(tries) < plan.tries_max:
        rate = STEP * min(rate, tries[-1].capacity)
        tries.append(await run.at(rate, min(seconds, TRY_S)))
    return tries


async def _proved(system: System, clients: CrowdHandle, before: int) -> int:
    """Compare candles with rows and pushed candles with stored ones.

    Returns:
        How many candles equal the fold of their rows.
    """
    compared = 0
    now = datetime.now(UTC) + timedelta(seconds=SETTLE_S - CLOSED_S)
    async with Database(system.servers.dsn, statement_timeout_s=None) as database:
        for symbol in VERIFIED:
            report = await verify(database, symbol=symbol, now=now)
            assert not report.differences, str(report.differences[0])
            compared += report.compared
    pushed: dict[str, Any] = await clients.do("report")
    assert pushed["missed"] == 0
    assert pushed["failures"] == {}
    sequences = {each for group in pushed["got"] for each in group["sequences"]}
    # Those stored beside the subscription may have been pushed, too, or not.
    assert len(sequences) >= await _stored_candles(system) - before
    return compared


async def _stored_candles(system: System) -> int:
    """Return the versions of 1m candles stored, once everything published until now is."""
    async with asyncio.timeout(STORED_S):
        state = await system.bus.consumer_state(subjects.KLINE_STREAM, subjects.SAVE_DURABLE)
        while state is None or state.pending or state.unacknowledged:
            await asyncio.sleep(POLL_S)
            state = await system.bus.consumer_state(subjects.KLINE_STREAM, subjects.SAVE_DURABLE)
    return await system.number(NEWEST)


SMOKE: Final = Plan(
    seconds={min(GOALS): 0.5},
    peer_s=0.5,
    floor_trades=2_000,
    read_s=0.2,
    warm_up_s=0.2,
    slower=50,
    tries_max=1,
)


@pytest.fixture(scope="module")
def figures() -> dict[str, Whole]:
    """Keep what one measurement found for all rows."""
    return {}


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("rate", GOALS)
def test_whole(
    benchmark: BenchmarkFixture,
    on_system: OnSystem[Whole],
    figures: dict[str, Whole],
    rate: int,
    is_smoke: bool,
) -> None:
    if is_smoke and rate != min(GOALS):
        pytest.skip("a smoke run measures nothing: one row runs all there is")
    if not figures:
        plan = SMOKE if is_smoke else Plan(seconds=dict(zip(GOALS, SECONDS, strict=True)))
        figures["whole"] = on_system(LOAD, lambda system: measure(system, plan))
    whole = figures["whole"]
    flow, peer, floors = whole.flows[rate], whole.peer, whole.floors
    medians = {"ours": flow.total_us / 1e6, "floor": sum(floors.values()) / 1e6}
    details = [str(flow)]
    if rate == min(GOALS):
        medians["one a message"] = peer.total_us / 1e6
        details.append(f"without batching: {peer}")
    details.append("floors, us: " + ", ".join(f"{name} {us:.2f}" for name, us in floors.items()))
    details.append(f"{whole.compared} candles equal the fold of their rows")
    is_met = flow.asked == rate and flow.idle >= GOALS[rate] and not flow.problems
    noted(
        benchmark,
        stage=f"whole, {flow.asked:,.0f} trades/s",
        unit="trade",
        work=1,
        medians=medians,
        is_missed=not is_met,
        details=[*details, f"goal: {rate:,} trades/s, {GOALS[rate]:.0%} of {CORES} cores idle"],
    )
