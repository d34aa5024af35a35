"""Faults of nats-server and PostgreSQL, and the end of everything at once."""

import asyncio

from market_ingestor.bus import subjects
from market_ingestor.embedded.server import EmbeddedServer
from tests.faults.kinds.fault import EVERYTHING, Fault
from tests.faults.world import ROLES, World
from tests.support.servers import spoil_durable


class ServerKilled(Fault, frozen=True, kw_only=True):
    """SIGKILL of a server with all its processes; it is away for a while."""

    server: str

    @property
    def kind(self) -> str:
        return f"kill {self.server}"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({self.server})

    def of(self, world: World) -> EmbeddedServer:
        return world.servers.nats if self.server == "nats" else world.servers.postgres

    async def begin(self, world: World) -> None:
        await self.of(world).kill()

    async def end(self, world: World) -> None:
        await self.of(world).start()


class DurablesForgotten(ServerKilled, frozen=True, kw_only=True):
    """SIGKILL of nats-server as it writes down how far the savers are: it forgets that."""

    server: str = "nats"

    @property
    def kind(self) -> str:
        return "forget durables"

    async def begin(self, world: World) -> None:
        await super().begin(world)
        for stream in (subjects.RAW_STREAM, subjects.KLINE_STREAM, subjects.EVENT_STREAM):
            spoil_durable(world.servers.nats, stream)


class ServerEnded(ServerKilled, frozen=True, kw_only=True):
    """An orderly restart of a server."""

    @property
    def kind(self) -> str:
        return f"end {self.server}"

    async def begin(self, world: World) -> None:
        await self.of(world).stop()


class ServerPaused(ServerKilled, frozen=True, kw_only=True):
    """SIGSTOP of a server: connections stay and nothing is answered."""

    @property
    def kind(self) -> str:
        return f"pause {self.server}"

    async def begin(self, world: World) -> None:
        await self.of(world).pause()

    async def end(self, world: World) -> None:
        await self.of(world).resume()


class AllKilled(Fault, frozen=True, kw_only=True):
    """SIGKILL of every role and both servers, and the start of all of them at once."""

    @property
    def kind(self) -> str:
        return "kill everything"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({EVERYTHING})

    async def begin(self, world: World) -> None:
        roles = [world.services[role].kill() for role in ROLES]
        await asyncio.gather(world.servers.nats.kill(), world.servers.postgres.kill(), *roles)

    async def end(self, world: World) -> None:
        roles = [world.services[role].start() for role in ROLES]
        await asyncio.gather(world.servers.nats.start(), world.servers.postgres.start(), *roles)
