"""Whether everything works again, and how long that took since the last fault ended."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx2

from tests.faults.collector import Collector
from tests.faults.kinds.processes import feeds_up
from tests.faults.venues import SYMBOLS
from tests.faults.world import BACKOFF_MAX_S, ROLES, World
from tests.support.http import local_client
from tests.support.patience import held_up_s
from tests.support.services import Service

POLL_S: Final = 0.2
ROLE_MAX_S: Final = 10.0  # after its dependencies are back
FEEDS_MAX_S: Final = BACKOFF_MAX_S + 10.0
GIVE_UP_S: Final = 60.0  # of a part that does not recover at all

# By its own count a role has done its work: it is higher than when the fault ended.
WORK: Final = {
    "klines": "trade_process_total",
    "save": "market_ingestor_trades_stored_total",
}

Probe = Callable[[], Awaitable[bool]]


async def recover(world: World, collector: Collector) -> None:
    """Wait until every part works; note how long it took, and whom it took too long."""
    clocks = {role: Clock(world.services[role]) for role in ROLES}
    probes = await _probes(world, collector)
    waits = [_wait(world, part, probe, clocks[_role(part)]) for part, probe in probes.items()]
    await asyncio.gather(*waits)


class Clock:
    """Measures how long a process takes; what it waited for a core is another one's time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._life = service.starts
        self._held_up_s = held_up_s(service.pid)
        self._began = time.monotonic()

    @property
    def whole_s(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._began

    @property
    def held_up_s(self) -> float:
        """Seconds thereof that the process was ready and had no core."""
        before = self._held_up_s if self._service.starts == self._life else 0
        return held_up_s(self._service.pid) - before


async def _wait(world: World, part: str, probe: Probe, clock: Clock) -> None:
    limit_s = (FEEDS_MAX_S if part == "feeds" else ROLE_MAX_S) * world.size.patience
    while not await probe():
        if clock.whole_s > GIVE_UP_S * world.size.patience:
            world.journal.problem(f"{part} does not recover")
            return
        await asyncio.sleep(POLL_S)
    took_s, held_up = clock.whole_s, clock.held_up_s
    world.journal.recovered(part, took_s)
    if took_s - held_up > limit_s:
        world.journal.problem(
            f"{part} took {took_s:.1f} s to recover, {limit_s:g} are allowed"
            f" ({held_up:.1f} s of them without a core)"
        )


def _role(part: str) -> str:
    """Return whose process a part waits for."""
    return {"feeds": "ingest", "push": "gateway", "prices": "api"}.get(
        part, part.split(maxsplit=1)[0]
    )


async def _probes(world: World, collector: Collector) -> dict[str, Probe]:
    services = world.services
    probes: dict[str, Probe] = {role: services[role].is_ready for role in ROLES}
    for role, name in WORK.items():
        probes[f"{role} at work"] = await _growing(services[role], name)
    probes["feeds"] = await _feeds(services["ingest"], world)
    probes["push"] = _is_true(collector)
    probes["prices"] = _prices(world)
    return probes


async def _growing(service: Service, name: str) -> Probe:
    """Return whether a process has counted more than now, or than nothing if it is a new one."""
    before = sum((await service.metrics()).get(name, {}).values())
    life = service.starts

    async def grown() -> bool:
        now = sum((await service.metrics()).get(name, {}).values())
        return now > (before if service.starts == life else 0)

    return grown


async def _feeds(ingest: Service, world: World) -> Probe:
    """Return whether every feed is up and has brought trades that are on the bus."""
    name = "market_ingestor_trades_published_total"
    before = (await ingest.metrics()).get(name, {})

    async def flowing() -> bool:
        now = (await ingest.metrics()).get(name, {})
        is_flowing = len(now) == len(world.venues.ports) and all(
            count > before.get(exchange, 0) for exchange, count in now.items()
        )
        return is_flowing and await feeds_up(ingest, world)

    return flowing


def _is_true(collector: Collector) -> Probe:
    async def subscribed() -> bool:
        return collector.is_subscribed

    return subscribed


def _prices(world: World) -> Probe:
    address = f"http://127.0.0.1:{world.ports['rest']}/prices/latest/{SYMBOLS[0]}"

    async def answered() -> bool:
        try:
            async with local_client(timeout_s=2) as client:
                return (await client.get(address)).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    return answered
