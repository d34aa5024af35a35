"""What roles are made of: settings, connections, health. SHELL."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import Settings
from market_ingestor.runtime.bus_setup import connect_patiently
from market_ingestor.runtime.health import HealthReport
from market_ingestor.runtime.shard import Shard
from market_ingestor.storage.timescale import Database

PORTS: Final = {"ingest": 9701, "klines": 9702, "save": 9703, "gateway": 9704, "api": 9705}
SHARED_PORT: Final = 9700


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of NATS: for setting streams up, and for each role under its own user."""

    setup: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]]

    @classmethod
    def same(cls, servers: Sequence[str]) -> "Links":
        """Return links by which every role uses the same addresses."""
        return cls(setup=tuple(servers), roles=dict.fromkeys(PORTS, tuple(servers)))


class Parts:
    """Ready dependencies for the roles of a process, closed with ``stack``.

    Attributes:
        buses: The connections opened so far.
    """

    def __init__(
        self,
        settings: Settings,
        links: Links,
        shard: Shard,
        stack: AsyncExitStack,
        report: HealthReport,
    ) -> None:
        self.settings = settings
        self.shard = shard
        self.stack = stack
        self.report = report
        self.buses: list[Bus] = []
        self._links = links

    async def bus(self, name: str) -> Bus:
        """Return a connection of the role ``name``'s own, once it is there."""
        bus = await connect_patiently(self._links.roles[name], name, self.settings.nats)
        self.stack.push_async_callback(bus.close)
        self.report.leans_on("nats", lambda: bus.is_up)
        self.buses.append(bus)
        return bus

    def board(self, bus: Bus) -> ControlBoard:
        """Return the operator's document as this role may see and make it."""
        nats = self.settings.nats
        return ControlBoard(bus, replicas=nats.replicas, may_create=nats.manage_streams != "never")

    async def database(
        self,
        name: str,
        *,
        connections: int | None = None,
        stages: bool = False,
        statement_timeout_s: float | None = None,
    ) -> Database:
        """Return a pool of the role ``name``'s own; it need not answer yet."""
        settings = self.settings.database
        database = Database(
            settings.dsn.get_secret_value(),
            name=f"market-ingestor {name}",
            connections_max=settings.connections if connections is None else connections,
            stages=stages,
            statement_timeout_s=statement_timeout_s or settings.statement_timeout_s,
        )
        await self.stack.enter_async_context(database)
        if not stages:  # the saver watches its own
            watching = asyncio.create_task(database.watch(), name=f"database of {name}")
            self.stack.callback(watching.cancel)
        self.report.leans_on("database", lambda: database.is_up)
        return database
