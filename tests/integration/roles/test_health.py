"""Health of each role while servers hang, are gone and come back."""

import asyncio
import time
from pathlib import Path

import pytest

from market_ingestor.simulator.faults import Fault
from tests.integration.roles.stack import ROLES, Stack, running
from tests.support.http import local_client
from tests.support.processes import frozen
from tests.support.servers import NatsHandle, PostgresHandle

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SEEN_S = 8.0  # two probes of two seconds, each up to two seconds late; and this machine's load
BACK_S = 30.0  # NATS connections are made anew


async def until_ready(stack: Stack, expected: set[str], wait_s: float) -> float:
    """Return after how many seconds exactly these roles were ready."""
    began = time.monotonic()
    ready: set[str] = set()
    while time.monotonic() - began < wait_s:
        answers = await asyncio.gather(*map(stack.ready, ROLES))
        ready = {role for role, answer in zip(ROLES, answers, strict=True) if answer}
        if ready == expected:
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise AssertionError(f"ready are {sorted(ready)}, not {sorted(expected)}")


async def until_health(stack: Stack, role: str, status: str, wait_s: float = SEEN_S) -> None:
    async with asyncio.timeout(wait_s):
        while (await stack.health(role))["status"] != status:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


async def until_feed(stack: Stack, role: str, status: str) -> None:
    async with asyncio.timeout(SEEN_S):
        while True:
            feed = (await stack.health(role))["feeds"].get("sim-okx")
            if feed is not None and feed["status"] == status:
                return
            await asyncio.sleep(0.1)


async def test_each_role_tells_what_it_can_do(
    nats_server: NatsHandle, own_postgres: PostgresHandle, tmp_path: Path
) -> None:
    everyone = set(ROLES)
    async with running(nats_server.url, own_postgres.dsn, tmp_path, venues=("okx",)) as stack:
        await until_ready(stack, everyone, 60)
        for role in ROLES:
            await until_health(stack, role, "ok", 30)
            health = await stack.health(role)
            assert set(health["dependencies"].values()) == {"up"}
            assert {"nats", "database"} <= set(health["dependencies"])
        for role in ("ingest", "api"):
            await until_feed(stack, role, "up")
        health = await stack.health("api")
        assert health["dependencies"]["cache"] == "up"
        async with local_client() as client:
            answer = await client.get(f"http://127.0.0.1:{stack.ports['api-port']}/health")
        assert answer.json()["dependencies"] == health["dependencies"]

        # The database hangs: only who must write is unready; the API answers from memory.
        with frozen(own_postgres.server.pid):
            await until_ready(stack, everyone - {"save"}, SEEN_S)
            await until_health(stack, "api", "degraded")
            assert (await stack.health("api"))["dependencies"] == {
                "nats": "up",
                "database": "down",
                "cache": "up",
            }
        await until_ready(stack, everyone, BACK_S)

        # NATS hangs: its connections stay, and all the same nobody but the API can work.
        await nats_server.pause()
        await until_ready(stack, {"api"}, SEEN_S)
        for role in ROLES:  # the API is ready all the while, and looks in its own time
            await until_health(stack, role, "degraded")
            assert (await stack.health(role))["dependencies"]["nats"] == "down"
        await nats_server.resume()
        await until_ready(stack, everyone, BACK_S)

        # NATS is gone and comes back.
        await nats_server.kill()
        await until_ready(stack, {"api"}, SEEN_S)
        await nats_server.start()
        await until_ready(stack, everyone, BACK_S)

        # The venue is gone: nobody is unready for it.
        (venue,) = stack.venues
        venue.inject(Fault(fault="refuse", status=503, duration_s=60))
        venue.inject(Fault(fault="abort"))
        for role in ("ingest", "api"):
            await until_feed(stack, role, "down")
            assert (await stack.health(role))["status"] == "degraded"
        await until_ready(stack, everyone, 0.5)
