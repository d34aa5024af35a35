"""Two of each, stopped processes, wrong clocks, a database away, late trades: the same end."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from market_ingestor.storage.migrate import migrate
from tests.integration.exact.services import Rig, rigged
from tests.integration.exact.tape import (
    DAY_US,
    MINUTES,
    START_US,
    Feed,
    Message,
    Row,
    made,
    messages,
    opening,
    refilled,
)
from tests.support.servers import NatsHandle, PostgresHandle
from tests.support.services import Service

# Each step has a deadline of its own; this one is for a machine that cannot go on at all.
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 20251121
STOPPED_S = 12.0  # longer than a processor would wait for a silent feed
FROZEN_S = 90.0
SAVER_FROZEN_S = 30.0  # longer than its messages wait before they go to another
AWAY_AFTER_S = 5.0
AWAY_S = 75.0
LATE_TRADES = 1_000
SIX_HOURS_US = 6 * 3_600_000_000


async def flow(rig: Rig, tape: Sequence[Message], duration_s: float) -> None:
    """Publish messages spread evenly over so many seconds."""
    began = time.monotonic()
    for number, message in enumerate(tape):
        await asyncio.sleep(began + duration_s * number / len(tape) - time.monotonic())
        await rig.publish([message])


async def stand_still(processors: Sequence[Service], saver: Service) -> None:
    """Freeze services for their times; a saver longer than its messages wait for it."""
    for each in (*processors, saver):
        each.pause()
    await asyncio.sleep(SAVER_FROZEN_S)
    saver.resume()
    await asyncio.sleep(FROZEN_S - SAVER_FROZEN_S)
    for each in processors:
        each.resume()


async def be_away(database: PostgresHandle) -> None:
    """Kill the database while everything else goes on, and start it again."""
    await asyncio.sleep(AWAY_AFTER_S)
    await database.kill()
    await asyncio.sleep(AWAY_S)
    await database.start()


async def test_ninety_seconds_without_processors_and_database_end_alike(
    make_nats_server: Callable[..., NatsHandle], own_postgres: PostgresHandle, tmp_path: Path
) -> None:
    """Two of each role on databases of both flavours, so that the time is spent once."""
    rows = made(SEED, 6_000, 2 * 3_600_000_000)
    wrong = 1_234
    rows[wrong] = rows[wrong]._replace(time_us=rows[wrong].time_us + SIX_HOURS_US)
    tape = list(messages(rows, SEED, late=0.01))
    first, last = len(tape) // 10, len(tape) * 9 // 10
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        rigs = [
            await stack.enter_async_context(rig)
            for rig in await on_both(make_nats_server, own_postgres, tmp_path)
        ]
        roles = ("klines", "klines", "save", "save")
        started = await asyncio.gather(*(rig.start(*roles) for rig in rigs))
        await asyncio.gather(*(rig.publish(tape[:first]) for rig in rigs))
        tasks.create_task(be_away(own_postgres))
        # Nobody takes the place of the first one's processors; of the others, one goes on.
        frozen = [services[: 2 - number] for number, services in enumerate(started)]
        await asyncio.gather(
            *(
                stand_still(processors, services[2])
                for processors, services in zip(frozen, started, strict=True)
            ),
            *(flow(rig, tape[first:last], FROZEN_S) for rig in rigs),
        )
        await asyncio.gather(*(rig.publish(tape[last:]) for rig in rigs))
        for rig in rigs:
            await rig.check(rows)
            await rig.check_complete(rows)


async def on_both(
    make_nats_server: Callable[..., NatsHandle], postgres: PostgresHandle, folder: Path
) -> Sequence[AbstractAsyncContextManager[Rig]]:
    """Return a rig with native partitions and, where it is installed, one with TimescaleDB."""
    rigs = []
    for name in ("plain", "timescale")[: 1 + postgres.has_timescaledb]:
        dsn = await asyncio.to_thread(postgres.create_database, name)
        await migrate(dsn, use_timescale=name == "timescale")
        (folder / name).mkdir()
        rigs.append(rigged(make_nats_server().url, dsn, folder / name))
    return rigs


async def test_a_stopped_processor_closes_nothing_by_its_own_clock(
    nats_server: NatsHandle, postgres_dsn: str, tmp_path: Path
) -> None:
    await migrate(postgres_dsn, use_timescale=False)
    rows = [
        Row("BTCUSDT", number, START_US + number * 5_000_000, "100", "1", "buy")
        for number in range(1, 40)  # one in five seconds, for three minutes
    ]
    feed = Feed("f")
    async with rigged(nats_server.url, postgres_dsn, tmp_path) as rig:
        klines, _ = await rig.start("klines", "save")
        await rig.publish(feed.batch([row], row.time_us) for row in rows[:15])
        klines.pause()
        await asyncio.sleep(STOPPED_S)  # with the second minute open, and nothing to be read
        klines.resume()
        await rig.publish(feed.batch([row], row.time_us) for row in rows[15:])
        await rig.publish([feed.mark(rows[-1].time_us + 8 * DAY_US)])
        newest = await rig.settled(rows)
        assert set(newest.values()) == {1}  # nothing was closed before its end was read


async def test_a_thousand_late_trades_correct_every_period_step_by_step(
    nats_server: NatsHandle, dsn: str, tmp_path: Path
) -> None:
    rows = made(SEED + 1, 20_000, 3 * 3_600_000_000)
    late = random.Random(SEED).sample(rows[100:-100], LATE_TRADES)
    punctual = sorted(set(rows) - set(late), key=lambda row: (row.time_us, row.id))
    async with rigged(nats_server.url, dsn, tmp_path) as rig:
        await rig.start("klines", "save")
        await rig.publish(messages(punctual, SEED))
        before = await rig.settled(punctual)
        last_us = rows[-1].time_us + 8 * DAY_US
        await rig.publish(refilled(Feed("refill", "rest"), late, last_us))
        await rig.check(rows)
        after = await rig.settled(rows)
        touched = {
            (row.symbol, period, opening(row.time_us // 1_000, minutes))
            for row in late
            for period, minutes in MINUTES.items()
        }
        assert {key[1] for key in touched} == set(MINUTES)
        assert all(after[key] > before.get(key, 0) for key in touched)
