"""An embedded PostgreSQL, with TimescaleDB where that is installed.

Owns the cluster: making it, its settings, its readiness and its databases. It must never know a
table.
"""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import asyncpg

from market_ingestor.embedded.binaries import PostgresPrograms, find_postgres
from market_ingestor.embedded.child import Command, run_tool
from market_ingestor.embedded.errors import EmbeddedError, started
from market_ingestor.embedded.folder import DataFolder, write_private
from market_ingestor.embedded.identity import Home, choose_home, find_base
from market_ingestor.embedded.passwords import password_for
from market_ingestor.embedded.ports import LOOPBACK
from market_ingestor.embedded.server import START_TIMEOUT_S, EmbeddedServer

USER = "market_ingestor"  # the cluster's superuser: extensions need one
DATABASE = "market_ingestor"  # the database that the DSN names
INITDB_TIMEOUT_S = 120.0  # two seconds on a fast disk; some ten times that on a slow one
CONNECT_TIMEOUT_S = 5.0  # to a server on this machine that runs already

SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    # No socket file: its path may have 107 bytes (103 on macOS), and a folder's can be longer.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",  # PostgreSQL's own default, small enough for any machine
    "max_wal_size": "1GB",
    "max_locks_per_transaction": "256",  # a query may touch many partitions, each takes a lock
    "max_worker_processes": "16",  # TimescaleDB takes one for each database and some for itself
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # costs more than it gains for queries of some milliseconds
    "logging_collector": "off",  # everything goes to the log file we gave it
}
TIMESCALEDB_SETTINGS: Mapping[str, str] = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "8",  # of the worker processes above
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL cluster that survives stops and kills, in ``postgres/`` of its folder."""

    name = "postgres"
    stop_deadline_s = 30.0  # a fast shutdown ends every session and writes all dirty pages
    bind_refused = "Address already in use"

    def __init__(
        self,
        folder: DataFolder,
        *,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Describe the server; nothing runs before :meth:`start`.

        Args:
            folder: An open data folder.
            settings: Settings of ``postgresql.conf`` that differ from ours.
            start_timeout_s: How long a start may take, seconds.
        """
        super().__init__(folder, start_timeout_s=start_timeout_s)
        self._settings = dict(settings or {})
        self._password = ""
        self._programs: PostgresPrograms | None = None
        self._home: Home | None = None

    @property
    def dsn(self) -> str:
        """Where its database is, password included."""
        return self.dsn_for(DATABASE)

    def dsn_for(self, database: str) -> str:
        """Return where ``database`` of this cluster is, password included."""
        address = f"{LOOPBACK}:{self.port}"
        return f"postgresql://{USER}:{self._password}@{address}/{quote(database, safe='')}"

    @property
    def has_timescaledb(self) -> bool:
        """Whether databases here can have TimescaleDB; known from the first start on."""
        return started(self._programs, self.name).has_timescaledb

    @property
    def version(self) -> int:
        """The major version that runs; known from the first start on."""
        return started(self._programs, self.name).version

    async def start(self) -> None:
        """Start it, making the cluster and its database at the first start.

        Raises:
            BinaryMissingError: It is not installed.
            EmbeddedError: There is no user it can run as, or its data is of another version.
            ServerStartError: It ended, or did not answer in time; the text has its last words.
        """
        await super().start()
        if not await self._has_database(DATABASE):
            await self.create_database(DATABASE)

    async def create_database(self, name: str) -> str:
        """Make an empty database and return its DSN."""
        connection = await self._connect()
        try:
            await connection.execute(f"CREATE DATABASE {_identifier(name)}")
        finally:
            await connection.close()
        return self.dsn_for(name)

    async def drop_database(self, name: str) -> None:
        """Remove a database if it is there, ending every session on it."""
        connection = await self._connect()
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")
        finally:
            await connection.close()

    async def _has_database(self, name: str) -> bool:
        connection = await self._connect()
        try:
            row = await connection.fetchrow("SELECT 1 FROM pg_database WHERE datname = $1", name)
        finally:
            await connection.close()
        return row is not None

    async def _connect(self, port: int | None = None) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=LOOPBACK,
            port=self.port if port is None else port,
            user=USER,
            password=self._password,
            database="postgres",
            ssl=False,
            timeout=CONNECT_TIMEOUT_S,
        )

    async def _prepare(self) -> None:
        self._password = password_for(self._folder.path, "postgres")
        base = find_base(self._folder.path / "postgres")
        if self._programs is None:
            self._programs = await find_postgres(data_version=_data_version(base / "data"))
        if self._home is None:
            self._home = await choose_home(base, self._programs.folder / "postgres")
        if not self._home.data.exists():
            await self._make_cluster(self._programs, self._home)
        _forget_dead_postmaster(self._home.data)

    async def _make_cluster(self, programs: PostgresPrograms, home: Home) -> None:
        """Run initdb beside the final place and move the result there once it is complete."""
        draft = home.base / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password_file = home.base / "password"
        write_private(password_file, f"{self._password}\n".encode())
        os.chown(password_file, home.identity.uid, home.identity.gid)
        durable = self._settings.get("fsync", "on") != "off"
        argv = home.identity.wrap(
            [
                str(programs.folder / "initdb"),
                *("--pgdata", str(draft), "--username", USER, "--pwfile", str(password_file)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8"),
                # The same on every system, the fastest to sort, and asked for where it matters.
                *("--locale", "C"),
                *(() if durable else ("--no-sync",)),
            ],
            signal.SIGKILL,
        )
        try:
            user = home.identity.user
            said = await run_tool(argv, user=user, timeout_s=INITDB_TIMEOUT_S)
        finally:
            password_file.unlink()
        if said is None:
            raise EmbeddedError(f"{argv[0]}: no database cluster could be made in {home.base}")
        draft.replace(home.data)

    def _command(self, port: int) -> Command:
        programs = started(self._programs, self.name)
        home = started(self._home, self.name)
        settings = {**SETTINGS, "port": str(port)}
        if programs.has_timescaledb:
            settings |= TIMESCALEDB_SETTINGS
        settings |= self._settings
        argv = [str(programs.folder / "postgres"), "-D", str(home.data)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        identity = home.identity
        return Command(
            name=self.name,
            argv=identity.wrap(argv, signal.SIGINT),
            stop_signal=signal.SIGINT,  # "fast"; SIGTERM would wait for every client to go
            user=identity.user,
            # macOS refuses to start without a locale, and its messages are read above.
            environ={"LC_ALL": "C", "TZ": "UTC"},
        )

    async def _answers(self, port: int) -> bool:
        try:
            connection = await self._connect(port)
        except asyncpg.InvalidPasswordError as error:
            raise EmbeddedError(f"the data in {self._folder.path} has another password") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # starting up, recovering, or not PostgreSQL at all
        await connection.close()
        return True


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _data_version(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def _forget_dead_postmaster(data: Path) -> None:
    """Remove the pid file of a server that cannot be running, as we hold the folder.

    PostgreSQL itself refuses to start while any process has the pid written there, and after a
    crash that number soon belongs to somebody else.
    """
    (data / "postmaster.pid").unlink(missing_ok=True)
