"""Restart: klines is killed at 10,000 trades/s, 50 s into a minute, and started again after 5 s.

What counts are the seconds from the start of its process until a push client has, of every
instrument, an open candle that holds a trade sent less than 0.3 s before: the throttle of 100 ms
and the hops take half of that when nothing is behind. The killed minute is read again from its
first trade on, so the backlog is near its worst. The floor reads the same messages of MARKET_RAW,
once nothing trades any more, from a bare ordered subscription that drops them: no process is
started, nothing decoded.
"""

import asyncio
import json
import time
from typing import Final, NamedTuple

import nats
import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.arrivals import Arrivals
from benchmarks.programs import Load
from benchmarks.race import noted
from benchmarks.stage import OnSystem
from benchmarks.system import FOLDED, ROWS, System
from market_ingestor.bus import subjects
from market_ingestor.simulator.hub import now_us

RATE: Final = 10_000
MINUTE_S: Final = 60
KILLED_AT_S: Final = 50  # of a minute
CURRENT_US: Final = 300_000
POLL_S: Final = 0.01
GIVE_UP_S: Final = 60.0
DRAIN_S: Final = 60.0
GOAL_S: Final = 5.0
PENDING_BYTES: Final = 1 << 30


class Restart(NamedTuple):
    """What one restart took.

    Attributes:
        ours_s: From the start of the process; beyond `GIVE_UP_S` it had not caught up by then.
        floor_s: Of reading what it read.
        messages: Read again, with ``trades`` in them.
    """

    ours_s: float
    floor_s: float
    messages: int
    trades: int


class Plan(NamedTuple):
    """How much happens; without ``before_s`` what is said above."""

    rate: float = RATE
    before_s: float | None = None
    away_s: float = 5.0


async def restarted(system: System, plan: Plan) -> Restart:
    """Kill klines under load and measure how it comes back."""
    arrivals, load = Arrivals(), system.load
    instruments = len(load.venues) * load.symbols
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(arrivals.run(system.push_port))
        await arrivals.subscribed()
        if plan.before_s is None:
            await asyncio.sleep(-time.time() % MINUTE_S)
        await system.set_rate(plan.rate)
        await asyncio.sleep(KILLED_AT_S if plan.before_s is None else plan.before_s)
        klines = system.services["klines"]
        await klines.kill()
        await asyncio.sleep(plan.away_s)
        began_us, began = now_us(), time.monotonic()
        await klines.start()

        def is_current() -> bool:
            recent = [age for age, at_us in arrivals.newest.values() if at_us > began_us]
            return len(recent) == instruments and max(recent) < CURRENT_US

        while not is_current() and time.monotonic() - began < GIVE_UP_S:  # noqa: ASYNC110 - by time, too
            await asyncio.sleep(POLL_S)
        ours_s = time.monotonic() - began
        assert klines.is_running, klines.command.output[-2_000:]
        last = (await system.bus.stream_state(subjects.RAW_STREAM)).last_sequence
        trades = await system.counted("klines", FOLDED)
        assert await system.settled(DRAIN_S) == await system.number(ROWS)
        listening.cancel()
        first = _position(klines.command.output)
        floor_s = await _read_bare(system, first, last)
    return Restart(ours_s, floor_s, last - first + 1, trades)


def _position(log: str) -> int:
    """Return where klines began to read, as it logged."""
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    positions = [each["position"] for each in events if each["event"] == "klines_started"]
    return int(positions[0])


async def _read_bare(system: System, first: int, last: int) -> float:
    done = asyncio.Event()

    async def take(message: Msg) -> None:
        if message.metadata.sequence.stream >= last:
            done.set()

    start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=first)
    async with await nats.connect(system.servers.nats_url) as client:
        began = time.monotonic()
        await client.jetstream().subscribe(
            subjects.RAW_ALL,
            cb=take,
            ordered_consumer=True,
            config=start,
            pending_bytes_limit=PENDING_BYTES,
            pending_msgs_limit=-1,
        )
        async with asyncio.timeout(GIVE_UP_S):
            await done.wait()
        return time.monotonic() - began


SMOKE: Final = Plan(rate=200, before_s=1.0, away_s=0.2)


@pytest.mark.timeout(600)
def test_restart(benchmark: BenchmarkFixture, on_system: OnSystem[Restart], is_smoke: bool) -> None:
    plan = SMOKE if is_smoke else Plan()
    found = on_system(Load(), lambda system: restarted(system, plan))
    noted(
        benchmark,
        stage="restart of klines at 10,000 trades/s",
        unit="restart",
        work=1,
        medians={"ours": found.ours_s, "floor": found.floor_s},
        limit_us=GOAL_S * 1e6,
        details=[
            f"{found.trades:,} trades in {found.messages:,} messages read until then",
            *(["it did not catch up"] if found.ours_s >= GIVE_UP_S else []),
        ],
    )
