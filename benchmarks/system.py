"""The whole service for a benchmark: servers, venues under load, every role as a process.

Servers keep to their defaults: what is committed is on disk. No link stands between the parts.
"""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from benchmarks.load import load_symbols
from benchmarks.programs import Load, loaded_venues
from benchmarks.usage import Usage, usage
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.config import NatsSettings
from market_ingestor.embedded import Embedded, NatsRights
from market_ingestor.runtime.bus_setup import prepare_bus
from market_ingestor.storage.migrate import migrate
from tests.support.ports import free_ports
from tests.support.servers import short_folder
from tests.support.services import Service
from tests.support.simulators import Simulators

ROLES: Final = ("ingest", "klines", "save", "gateway", "api")
PENDING: Final = "market_ingestor_consumer_pending_messages"
ROWS: Final = "SELECT count(*) FROM market_trades"
FOLDED: Final = "trade_process_total"
STORED: Final = "market_ingestor_trades_stored_total"


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """What a role has not done yet: messages of MARKET_RAW not delivered to it, by role."""

    klines: int
    save: int


IDLE_S: Final = 5.0  # without a new row, while nobody has anything before him
NOTHING: Final = Lag(klines=0, save=0)


class System:
    """The running service.

    Attributes:
        venues: What trades.
        services: The processes, by role.
        bus: A connection that may do everything.
        push_port: Where the gateway listens.
    """

    def __init__(self, folder: Path, servers: Embedded, venues: Simulators, load: Load) -> None:
        self.folder = folder
        self.servers = servers
        self.venues = venues
        self.load = load
        self.bus: Bus
        names = ("push", "tcp", "rest", *ROLES)
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.push_port = self._ports["push"]
        self.services = {
            role: Service(role, folder / f"{role}.toml", self._ports[role], folder)
            for role in ROLES
        }

    async def open(self, stack: AsyncExitStack, *, ingest: str) -> None:
        """Prepare streams and tables and start all roles but ingest; then ingest."""
        await prepare_bus([self.servers.nats_url], NatsSettings())
        await migrate(self.servers.dsn)
        self.bus = await Bus.connect([self.servers.nats_url], name="bench")
        stack.push_async_callback(self.bus.close)
        for role, service in self.services.items():
            (self.folder / f"{role}.toml").write_text(self._configuration(role, ingest))
            stack.push_async_callback(service.kill)
            await service.start()
        for service in self.services.values():
            await service.ready()

    async def restart_ingest(self, settings: str) -> None:
        """Start ingest anew with other settings, lines of its section."""
        service = self.services["ingest"]
        await service.terminate(20)
        (self.folder / "ingest.toml").write_text(self._configuration("ingest", settings))
        await service.start()
        await service.ready()

    async def set_rate(self, trades_per_s: float) -> None:
        """Let so many trades happen a second, over all venues."""
        await self.venues.set_rate(trades_per_s / len(self.load.venues))

    async def lag(self) -> Lag:
        """Return what klines and save have still before them."""
        found = {}
        for role in ("klines", "save"):
            pending = (await self.services[role].metrics()).get(PENDING, {})
            found[role] = int(sum(n for name, n in pending.items() if "MARKET_RAW" in name))
        return Lag(klines=found["klines"], save=found["save"])

    async def counted(self, role: str, name: str) -> int:
        """Return a counter of a role, all labels together."""
        return int(sum((await self.services[role].metrics()).get(name, {}).values()))

    async def settled(self, wait_s: float) -> int:
        """Stop trading and wait until all there is has been stored and folded.

        What a socket lost is not: the caller compares.

        Returns:
            The trades sent so far.
        """
        await self.set_rate(0)
        sent, save = await self.venues.trades_sent(), self.services["save"].command

        stored = since = 0.0

        async def is_settled() -> bool:
            nonlocal stored, since
            before, stored = stored, await self.counted("save", STORED)
            if stored != before:
                since = time.monotonic()
            if await self.lag() != NOTHING:
                return False
            return stored >= sent or time.monotonic() - since > IDLE_S

        with contextlib.suppress(AssertionError):  # the caller sees what is missing
            await save.until(is_settled, wait_s)
        return sent

    async def number(self, query: str) -> int:
        """Return the number that a query finds."""
        session = await asyncpg.connect(self.servers.dsn)
        try:
            return int(await session.fetchval(query))
        finally:
            await session.close()

    def usage(self) -> dict[str, Usage]:
        """Return what each part uses; the load is its own."""
        pids = {name: service.pid for name, service in self.services.items() if service.is_running}
        pids |= {"nats": self.servers.nats.pid, "postgres": self.servers.postgres.pid}
        return usage(pids | {"load": self.venues.pid})

    def _configuration(self, role: str, ingest: str) -> str:
        lines = [
            f'[nats]\nservers = ["{self.servers.nats_url_for(role)}"]\nmanage_streams = "never"',
            f'[database]\ndsn = "{self.servers.dsn}"',
            f'[ingest]\nmode = "test"\n{ingest}',
            f"[gateway]\nport = {self._ports['push']}\ntcp_port = {self._ports['tcp']}",
            f"[api]\nport = {self._ports['rest']}",
        ]
        symbols = [each.replace("-", "") for each in load_symbols(self.load.symbols)]
        for venue, port in self.venues.ports.items():
            lines.append(
                f"[exchanges.sim-{venue}]\nsymbols = {json.dumps(symbols)}\n"
                f'ws_url = "ws://127.0.0.1:{port}"\nrest_url = "http://127.0.0.1:{port}"'
            )
        return "\n".join(lines)


@contextlib.asynccontextmanager
async def running(load: Load, *, ingest: Sequence[str] = ()) -> AsyncIterator[System]:
    """Run the whole service for the length of the block; everything it started ends with it.

    Args:
        ingest: Lines for ingest's section of the configuration.
    """
    rights = {
        name: NatsRights(publish=each.publish, subscribe=each.subscribe)
        for name, each in ROLE_RIGHTS.items()
    }
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        (folder / "data").mkdir()
        embedded = Embedded(folder / "data", nats_rights=rights)
        servers = await stack.enter_async_context(embedded)
        venues = await stack.enter_async_context(loaded_venues(folder, load))
        system = System(folder, servers, venues, load)
        await system.open(stack, ingest="\n".join(ingest))
        yield system
