"""Everything that runs in the fault suite, and the handles by which it is hurt.

Servers over one folder, simulated venues in a process of their own, every role in its own
process; between any two of them a link of `proxy`. A second process of a role has its own links.
"""

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.config import NatsSettings
from market_ingestor.embedded import Embedded, NatsRights
from market_ingestor.runtime.bus_setup import prepare_bus
from market_ingestor.storage.migrate import migrate
from tests.faults.journal import Journal
from tests.faults.proxy import Link
from tests.faults.venues import SYMBOLS, Venues, simulated
from tests.support.ports import free_ports
from tests.support.services import START_WAIT_S, Service

ROLES: Final = ("ingest", "klines", "save", "gateway", "api")
SECONDS: Final = ("ingest", "klines", "save")  # roles that may run twice side by side
GRACE_S: Final = 10.0
BACKOFF_MAX_S: Final = 5.0
READ_TIMEOUT_S: Final = 8.0
POSTGRES: Final = {"fsync": "off", "max_connections": "70"}  # only processes are killed


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much happens.

    Attributes:
        rate: Trades a second and venue, over ten symbols each.
        patience: Factor on every time limit, for machines that have other things to do.
    """

    rate: float
    patience: float = 1.0


class World:
    """The running system.

    Attributes:
        servers: nats-server and PostgreSQL.
        venues: The simulated venues.
        links: Between any two parts, by names as ``ingest>nats``.
        services: The processes, by role; second ones as ``ingest-2``.
        journal: What was done when.
    """

    def __init__(
        self, folder: Path, servers: Embedded, venues: Venues, journal: Journal, size: Size
    ) -> None:
        self.folder = folder
        self.servers = servers
        self.venues = venues
        self.journal = journal
        self.size = size
        self.links: dict[str, Link] = {}
        self.services: dict[str, Service] = {}
        names = ("push", "tcp", "rest", *ROLES, *(f"{role}-2" for role in SECONDS))
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def targets(self) -> dict[str, int]:
        """What roles talk to, and where it really is."""
        servers = {"nats": self.servers.nats.port, "postgres": self.servers.postgres.port}
        return servers | self.venues.ports

    @property
    def config(self) -> Path:
        """A configuration for commands, past all links."""
        return self.folder / "command.toml"

    async def open(self, stack: AsyncExitStack) -> None:
        """Prepare streams, tables, links and configurations; start nothing yet."""
        await prepare_bus([self.servers.nats_url], NatsSettings())
        await migrate(self.servers.dsn)
        for name in (*ROLES, *(f"{role}-2" for role in SECONDS)):
            role = name.split("-")[0]
            for target, port in self.targets.items():
                if target in {"nats", "postgres"} or role == "ingest":
                    link = await stack.enter_async_context(Link(f"{name}>{target}", port))
                    self.links[link.name] = link
            config = self.folder / f"{name}.toml"
            config.write_text(self._configuration(name, role))
            tag = name.removeprefix(role)
            self.services[name] = Service(role, config, self.ports[name], self.folder, tag)
        for listener in ("push", "rest"):
            link = await stack.enter_async_context(Link(f"client>{listener}", self.ports[listener]))
            self.links[link.name] = link
        self.config.write_text(
            f'[nats]\nservers = ["{self.servers.nats_url}"]\n'
            f'[database]\ndsn = "{self.servers.dsn}"\n'
        )
        for service in self.services.values():
            stack.push_async_callback(service.kill)

    async def start(self) -> None:
        """Start one process of each role and wait until all are ready."""
        for role in ROLES:
            await self.services[role].start()
        for role in ROLES:
            await self.services[role].ready(START_WAIT_S * self.size.patience)

    @property
    def running(self) -> list[Service]:
        """The processes that run now."""
        return [service for service in self.services.values() if service.is_running]

    def link(self, name: str) -> Link:
        """Return a link by its name."""
        return self.links[name]

    async def bus(self, stack: AsyncExitStack) -> Bus:
        """Return a connection that may do everything, past all links."""
        bus = await Bus.connect([self.servers.nats_url], name="suite")
        stack.push_async_callback(bus.close)
        return bus

    async def database(self, stack: AsyncExitStack) -> asyncpg.Connection:
        """Return a session on the database, past all links."""
        session = await asyncpg.connect(self.servers.dsn, timeout=10)
        stack.push_async_callback(session.close, timeout=5)
        return session

    def _configuration(self, name: str, role: str) -> str:
        nats = _through(self.servers.nats_url_for(role), self.links[f"{name}>nats"])
        dsn = _through(self.servers.dsn, self.links[f"{name}>postgres"])
        lines = [
            f'[nats]\nservers = ["{nats}"]\nmanage_streams = "never"',
            f'[database]\ndsn = "{dsn}"',
            f'[ingest]\nmode = "test"\nbackoff_max_s = {BACKOFF_MAX_S:g}',
            f"read_timeout_s = {READ_TIMEOUT_S:g}",
            f"[gateway]\nport = {self.ports['push']}\ntcp_port = {self.ports['tcp']}",
            f"[api]\nport = {self.ports['rest']}",
            f"[run]\nshutdown_grace_s = {GRACE_S:g}",
        ]
        if role == "ingest":
            for venue in self.venues.ports:
                place = f"127.0.0.1:{self.links[f'{name}>{venue}'].port}"
                lines.append(
                    f"[exchanges.sim-{venue}]\nsymbols = {json.dumps(SYMBOLS)}\n"
                    f'ws_url = "ws://{place}"\nrest_url = "http://{place}"'
                )
        return "\n".join(lines)


def _through(address: str, link: Link) -> str:
    """Return an address with the port of a link in it."""
    parts = urlsplit(address)
    place = f"{parts.netloc.rpartition(':')[0]}:{link.port}"
    return urlunsplit(parts._replace(netloc=place))


@contextlib.asynccontextmanager
async def built(folder: Path, journal: Journal, *, seed: int, size: Size) -> AsyncIterator[World]:
    """Run the whole system for the length of the block; everything it started ends with it."""
    rights = {
        name: NatsRights(publish=each.publish, subscribe=each.subscribe)
        for name, each in ROLE_RIGHTS.items()
    }
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mi-")))
        embedded = Embedded(data, nats_rights=rights, postgres_settings=POSTGRES)
        servers = await stack.enter_async_context(embedded)
        venues = await stack.enter_async_context(simulated(folder, seed=seed, rate=size.rate))
        world = World(folder, servers, venues, journal, size)
        await world.open(stack)
        await world.start()
        yield world
