"""Two of each, stopped processes, wrong clocks, a database away, late trades: the same end."""

import asyncio
import random
import signal
import time
from pathlib import Path

import pytest

from market_ingestor.storage.migrate import migrate
from tests.integration.exact.services import rigged
from tests.integration.exact.tape import (
    DAY_US,
    MINUTES,
    START_US,
    Feed,
    Row,
    made,
    messages,
    opening,
    refilled,
)
from tests.support.servers import NatsHandle, PostgresHandle

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(150)]

SEED = 20251121
STOPPED_S = 15.0  # longer than a processor would wait for a silent feed
LATE_TRADES = 1_000
MINUTE_US = 60_000_000
SIX_HOURS_US = 6 * 3_600_000_000


async def test_two_of_each_with_every_fault_at_once_end_alike(
    nats_server: NatsHandle, own_postgres: PostgresHandle, tmp_path: Path
) -> None:
    await migrate(own_postgres.dsn)
    rows = made(SEED, 30_000, 2 * 3_600_000_000)
    wrong = 12_345
    rows[wrong] = rows[wrong]._replace(time_us=rows[wrong].time_us + SIX_HOURS_US)
    tape = list(messages(rows, SEED, late=0.005))
    parts = [tape[at : at + len(tape) // 5 + 1] for at in range(0, len(tape), len(tape) // 5 + 1)]
    async with rigged(nats_server.url, own_postgres.dsn, tmp_path) as rig:
        klines, _, save, _ = await rig.start("klines", "klines", "save", "save")
        await rig.publish(parts[0])
        stopped_at = time.monotonic()
        klines.command.send(signal.SIGSTOP)
        save.command.send(signal.SIGSTOP)
        await rig.publish(parts[1])
        await own_postgres.kill()
        await rig.publish(parts[2])
        await asyncio.sleep(stopped_at + STOPPED_S - time.monotonic())
        klines.command.send(signal.SIGCONT)
        save.command.send(signal.SIGCONT)
        await rig.publish(parts[3])
        await own_postgres.start()
        await rig.publish(parts[4])
        await rig.check(rows)
        await rig.check_complete(rows)


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
        klines.command.send(signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)  # with the second minute open, and nothing to be read
        klines.command.send(signal.SIGCONT)
        await rig.publish(feed.batch([row], row.time_us) for row in rows[15:])
        await rig.publish([feed.mark(rows[-1].time_us + 8 * DAY_US)])
        newest = await rig.settled(rows)
        assert set(newest.values()) == {1}  # nothing was closed before its end was read


async def test_a_thousand_late_trades_correct_every_period_step_by_step(
    nats_server: NatsHandle, postgres_dsn: str, tmp_path: Path
) -> None:
    await migrate(postgres_dsn)
    rows = made(SEED + 1, 20_000, 3 * 3_600_000_000)
    late = random.Random(SEED).sample(rows[100:-100], LATE_TRADES)
    punctual = sorted(set(rows) - set(late), key=lambda row: (row.time_us, row.id))
    async with rigged(nats_server.url, postgres_dsn, tmp_path) as rig:
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
