"""Fixtures that give a test its own nats-server and its own database, both real.

The servers belong to an event loop in a thread of their own, which lives for the whole run: so they
serve sync tests and async ones on any loop, and no test's end can take them along.
``MARKET_INGESTOR_NATS_SERVER`` and ``MARKET_INGESTOR_POSTGRES_BIN`` choose other programs.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from market_ingestor.bus import subjects
from market_ingestor.embedded import DataFolder, EmbeddedNats, EmbeddedPostgres, NatsUser
from market_ingestor.embedded.server import EmbeddedServer

# What a killed process wrote is safe without fsync; only a crash of the machine could lose it.
FAST_SETTINGS = {"fsync": "off", "max_connections": "200"}

ServerT = TypeVar("ServerT", bound=EmbeddedServer)
DatabaseMaker = Callable[..., str]


class ServerHandle(Generic[ServerT]):
    """A running server that a test may end and start again, from any event loop.

    Attributes:
        server: The server itself, for what needs no waiting (``port``, ``pid``, ``log_path``).
    """

    def __init__(self, portal: BlockingPortal, server: ServerT) -> None:
        self.server = server
        self._portal = portal

    async def start(self) -> None:
        """Start it again, on the same port; return when it answers."""
        await self._call(self.server.start)

    async def stop(self) -> None:
        """End it in order."""
        await self._call(self.server.stop)

    async def kill(self) -> None:
        """End it and all its processes with SIGKILL; return when they are gone."""
        await self._call(self.server.kill)

    async def restart(self) -> None:
        """End it in order and start it on the same port."""
        await self._call(self.server.restart)

    async def pause(self) -> None:
        """Freeze its main process (SIGSTOP)."""
        await self._call(self.server.pause)

    async def resume(self) -> None:
        """Let it run on."""
        await self._call(self.server.resume)

    async def _call(self, action: Callable[[], Any]) -> None:
        await asyncio.to_thread(self._portal.call, action)


class NatsHandle(ServerHandle[EmbeddedNats]):
    """A nats-server of a test's own."""

    @property
    def url(self) -> str:
        """Where it is, with the first user's name and password if it has users."""
        return self.server.url

    def url_for(self, user: str) -> str:
        """Return where it is, with the name and password of ``user``."""
        return self.server.url_for(user)


class PostgresHandle(ServerHandle[EmbeddedPostgres]):
    """A PostgreSQL, shared by a run or of a test's own."""

    @property
    def dsn(self) -> str:
        """Where its own database is."""
        return self.server.dsn

    @property
    def has_timescaledb(self) -> bool:
        """Whether a database here can have TimescaleDB."""
        return self.server.has_timescaledb

    def create_database(self, name: str) -> str:
        """Make an empty database and return its DSN; blocks."""
        return self._portal.call(self.server.create_database, name)

    def drop_database(self, name: str) -> None:
        """Remove a database, ending every session on it; blocks."""
        self._portal.call(self.server.drop_database, name)


def spoil_durable(server: EmbeddedNats, stream: str) -> None:
    """Leave what a server leaves that is killed between emptying the savers' file and filling it.

    It is down, and will give the whole stream out again.
    """
    place = f"{stream}/obs/{subjects.SAVE_DURABLE}/o.dat"
    for state in server.log_path.parent.parent.rglob(place):
        state.write_bytes(b"")


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give an empty folder with a short path, removed at the end, whoever owns what is in it."""
    path = Path(tempfile.mkdtemp(prefix="mi-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def running_nats(path: Path, users: Sequence[NatsUser] = ()) -> AsyncIterator[EmbeddedNats]:
    """Run a nats-server over ``path``."""
    async with AsyncExitStack() as stack:
        folder = DataFolder(path)
        await folder.open()
        stack.push_async_callback(folder.close)
        server = EmbeddedNats(folder, users=users)
        await server.start()
        stack.push_async_callback(server.stop)
        yield server


@asynccontextmanager
async def running_postgres(path: Path, *, fast: bool) -> AsyncIterator[EmbeddedPostgres]:
    """Run a PostgreSQL over ``path``; ``fast``: without fsync."""
    async with AsyncExitStack() as stack:
        folder = DataFolder(path)
        await folder.open()
        stack.push_async_callback(folder.close)
        server = EmbeddedPostgres(folder, settings=FAST_SETTINGS if fast else None)
        await server.start()
        stack.push_async_callback(server.stop)
        yield server


@pytest.fixture(scope="session")
def server_portal() -> Iterator[BlockingPortal]:
    """Give the event loop, in a thread of its own, that every server of the run belongs to."""
    with start_blocking_portal("asyncio") as portal:
        yield portal


@pytest.fixture
def make_nats_server(
    server_portal: BlockingPortal,
) -> Iterator[Callable[..., NatsHandle]]:
    """Give a function that starts another nats-server of the test's own, with ``users`` or none."""
    with ExitStack() as stack:

        def make(users: Sequence[NatsUser] = ()) -> NatsHandle:
            path = stack.enter_context(short_folder())
            running = server_portal.wrap_async_context_manager(running_nats(path, users))
            return NatsHandle(server_portal, stack.enter_context(running))

        yield make


@pytest.fixture
def nats_server(make_nats_server: Callable[..., NatsHandle]) -> NatsHandle:
    """Give a nats-server of the test's own, with an empty store and no passwords."""
    return make_nats_server()


@pytest.fixture(scope="session")
def postgres_server(server_portal: BlockingPortal) -> Iterator[PostgresHandle]:
    """Give the PostgreSQL that all tests share; a test that ends it takes ``own_postgres``."""
    with short_folder() as path:
        running = server_portal.wrap_async_context_manager(running_postgres(path, fast=True))
        with running as server:
            yield PostgresHandle(server_portal, server)


@pytest.fixture
def own_postgres(server_portal: BlockingPortal) -> Iterator[PostgresHandle]:
    """Give a PostgreSQL of the test's own, durable, to be killed and started again."""
    with short_folder() as path:
        running = server_portal.wrap_async_context_manager(running_postgres(path, fast=False))
        with running as server:
            yield PostgresHandle(server_portal, server)


@pytest.fixture(scope="session")
def database_numbers() -> Iterator[int]:
    """Give numbers that no database of this run has yet."""
    return itertools.count(1)


@pytest.fixture
def make_database(
    postgres_server: PostgresHandle, database_numbers: Iterator[int]
) -> Iterator[DatabaseMaker]:
    """Give a function that makes an empty database of the test's own and returns its DSN."""
    names: list[str] = []

    def make() -> str:
        name = f"test_{next(database_numbers)}"
        dsn = postgres_server.create_database(name)
        names.append(name)
        return dsn

    yield make
    for name in names:
        postgres_server.drop_database(name)


@pytest.fixture
def postgres_dsn(make_database: DatabaseMaker) -> str:
    """Give the DSN of an empty database of the test's own."""
    return make_database()
