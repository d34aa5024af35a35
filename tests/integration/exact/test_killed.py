"""kill -9 of the processor and the saver, fifty times a run: nothing missing, nothing doubled."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.integration.exact.services import rigged
from tests.integration.exact.tape import made, messages
from tests.support.servers import NatsHandle
from tests.support.services import Service

# Each step has a deadline of its own; this one is for a machine that cannot go on at all.
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 20251120
TRADES = 100_000
SPAN_US = 3 * 3_600_000_000
LATE = 0.003
KILLS = 50
DURING_START = 0.5  # share of kills that do not wait until the service is ready
LIFE_MAX_S = 0.6


async def killing(
    service: Service, rng: random.Random, kills: int, gate: asyncio.Semaphore
) -> None:
    """End a service so many times at moments of chance; each lets a part of the trades out."""
    for _ in range(kills):
        if rng.random() >= DURING_START:
            await service.ready()
        gate.release()
        await asyncio.sleep(rng.random() * LIFE_MAX_S)
        await service.kill()
        await service.start()
    await service.ready()


async def test_fifty_kills_at_random_moments_leave_the_exact_end(
    nats_server: NatsHandle, dsn: str, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    rows = made(SEED, TRADES, SPAN_US)
    tape = list(messages(rows, SEED, late=LATE))
    gate = asyncio.Semaphore(0)
    async with rigged(nats_server.url, dsn, tmp_path) as rig:
        services = await rig.start("klines", "save")
        async with asyncio.TaskGroup() as tasks:
            for service in services:
                own = random.Random(rng.random())
                tasks.create_task(killing(service, own, KILLS // 2, gate))
            for part in range(KILLS):
                await gate.acquire()
                chosen = slice(part * len(tape) // KILLS, (part + 1) * len(tape) // KILLS)
                await rig.publish(tape[chosen])
        assert [service.starts for service in services] == [KILLS // 2 + 1] * 2
        await rig.check(rows)
        await rig.check_complete(rows)
