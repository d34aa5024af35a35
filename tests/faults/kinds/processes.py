"""Faults of role processes: killed, ended, paused, doubled."""

import asyncio

from tests.faults.kinds.fault import EVERYTHING, Fault
from tests.faults.world import GRACE_S, World
from tests.support.services import START_WAIT_S, Service


class Killed(Fault, frozen=True, kw_only=True):
    """SIGKILL of a role, which is away for a while."""

    role: str

    @property
    def kind(self) -> str:
        return f"kill {self.role}"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({self.role})

    async def begin(self, world: World) -> None:
        await world.services[self.role].kill()

    async def end(self, world: World) -> None:
        await world.services[self.role].start()


class Ended(Killed, frozen=True, kw_only=True):
    """SIGTERM of a role, which must end in order and in time."""

    @property
    def kind(self) -> str:
        return f"end {self.role}"

    async def begin(self, world: World) -> None:
        limit_s = (GRACE_S + 1) * world.size.patience
        try:
            await world.services[self.role].terminate(limit_s)
        except AssertionError as problem:
            world.journal.problem(str(problem))
            await world.services[self.role].kill()


class Paused(Fault, frozen=True, kw_only=True):
    """SIGSTOP of a role."""

    role: str

    @property
    def kind(self) -> str:
        return f"pause {self.role}"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({self.role})

    async def begin(self, world: World) -> None:
        world.services[self.role].pause()

    async def end(self, world: World) -> None:
        world.services[self.role].resume()


class Doubled(Fault, frozen=True, kw_only=True):
    """A second process of a role beside the first, which is killed and comes back meanwhile."""

    role: str

    @property
    def kind(self) -> str:
        return f"two {self.role}"

    @property
    def touches(self) -> frozenset[str]:
        # Two of them excuse nothing, and a start waits for its servers: nothing else may hurt.
        return frozenset({EVERYTHING})

    async def begin(self, world: World) -> None:
        first, second = world.services[self.role], world.services[f"{self.role}-2"]
        await self._start(second, world)
        if self.role == "ingest":
            world.journal.spare()
        await asyncio.sleep(self.seconds / 2)
        await first.kill()
        await asyncio.sleep(self.seconds / 2)
        await self._start(first, world)

    async def end(self, world: World) -> None:
        world.journal.spare_no_more()
        await world.services[f"{self.role}-2"].kill()

    async def _start(self, service: Service, world: World) -> None:
        """Start a process and wait until it does its work; ingest has feeds to open."""
        await service.start()
        wait_s = START_WAIT_S * world.size.patience
        await service.ready(wait_s)
        if self.role == "ingest":
            await service.command.until(lambda: feeds_up(service, world), wait_s)


async def feeds_up(service: Service, world: World) -> bool:
    """Tell whether an ingest process has every feed, and has had trades of all of them."""
    found = (await service.metrics()).get("market_ingestor_feed_up", {})
    return len(found) == len(world.venues.ports) and all(found.values())
