"""Connections to PostgreSQL, with or without TimescaleDB. SHELL; the only user of asyncpg.

Owns the pool, the session settings and the sorting of errors: what leaves this module is a result,
`RowRefusedError` or `StoreUnavailableError`. Knows nothing of trades or candles.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, Self, TypeAlias

import asyncpg
import msgspec
import structlog

from market_ingestor.errors import StoreUnavailableError, excerpt
from market_ingestor.storage.faults import RowRefusedError, is_row_fault
from market_ingestor.storage.queries import QUERIES

_log = structlog.get_logger(__name__)

Record: TypeAlias = asyncpg.Record

CONNECT_TIMEOUT_S: Final = 5.0  # a server on the same network accepts within milliseconds
STATEMENT_TIMEOUT_S: Final = 20.0  # the slowest batch takes one; beyond it something is stuck
CLIENT_GRACE_S: Final = 2.0  # beyond it a server that does not answer at all is given up
ACQUIRE_TIMEOUT_S: Final = 5.0  # waiting longer for a connection means that all are stuck
PING_TIMEOUT_S: Final = 2.0
CANCEL_TIMEOUT_S: Final = 1.0  # a server that is alive ends a statement within milliseconds
PING_INTERVAL_S: Final = 2.0  # how soon a silent death of the server shows in health
RETRY_S: Final = 0.25  # between attempts of `Database.connect`

_STAGING: Final = ("stage_trades", "stage_klines", "stage_gaps")


class Copy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Rows in COPY's text format for one table."""

    table: str
    columns: tuple[str, ...]
    data: bytes


class Statement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One statement of a transaction and its arguments."""

    sql: str
    args: tuple[Any, ...] = ()


class Session:
    """One transaction on one connection; errors are sorted by the `Database` that gave it."""

    def __init__(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[Record]",
        timeout_s: float | None,
    ) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def script(self, sql: str) -> None:
        """Run several statements that take no arguments."""
        await self._connection.execute(sql)

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """Run one statement and return its rows."""
        return await self._connection.fetch(sql, *args)

    async def value(self, sql: str, *args: Any) -> Any:
        """Run one statement and return the first column of its first row, None without rows."""
        return await self._connection.fetchval(sql, *args)

    async def copy(self, copy: Copy) -> None:
        """Send rows to a table."""
        # A view, because bytes would be taken for the path of a file; stubs know readers only.
        await self._connection.copy_to_table(
            copy.table,
            source=memoryview(copy.data),  # type: ignore[arg-type]
            columns=list(copy.columns),
            format="text",
            timeout=self._timeout_s,
        )


class Database:
    """A pool of connections to one database.

    Use as an asynchronous context manager, or call `open` and `close`. Opening does not connect:
    a role must start, and say that it is not ready, while the database is away.

    Args:
        dsn: ``postgresql://user:password@host:port/name``; needs sessions of its own (no
            transaction pooler between).
        name: Shown in the server's ``pg_stat_activity``.
        connections_max: Most connections at a time.
        stages: Give every connection the temporary tables that batches are copied to.
        statement_timeout_s: Longest a statement may run, None for any time.
        settings: More settings of every session.

    Attributes:
        is_up: Whether the newest statement or ping was answered in time.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str = "market-ingestor",
        connections_max: int = 4,
        stages: bool = False,
        statement_timeout_s: float | None = STATEMENT_TIMEOUT_S,
        settings: dict[str, str] | None = None,
    ) -> None:
        timeout_ms = str(int((statement_timeout_s or 0) * 1000))
        self._client_timeout_s = statement_timeout_s and statement_timeout_s + CLIENT_GRACE_S
        self._dsn = dsn
        self._connections_max = connections_max
        self._stages = stages
        self._settings = {
            "application_name": name,
            "TimeZone": "UTC",
            "statement_timeout": timeout_ms,
            # A frozen process must not hold locks that others wait for.
            "idle_in_transaction_session_timeout": timeout_ms,
            # Plans for the values at hand open only the partitions those values need.
            "plan_cache_mode": "force_custom_plan",
            # Compiling takes longer than any statement here runs.
            "jit": "off",
            # A batch of old trades may touch many rows that are columns by now. The limit would
            # refuse that batch for ever; without the extension the setting means nothing.
            "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
        } | (settings or {})
        self._pool: asyncpg.Pool[Record] | None = None
        self.is_up = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def stages(self) -> bool:
        """Return whether batches can be written here."""
        return self._stages

    async def open(self) -> None:
        """Make the pool; connections are made when they are needed."""
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._connections_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=self._client_timeout_s,
            server_settings=self._settings,
            init=self._stage if self._stages else None,
            # Nothing here leaves session state behind, so the default reset would be a round
            # trip per batch for nothing.
            reset=_keep_session,
        )

    @staticmethod
    async def _stage(connection: "asyncpg.Connection[Record]") -> None:
        for name in _STAGING:
            await connection.execute(QUERIES[name])

    async def connect(self, timeout_s: float) -> None:
        """Wait until the database answers.

        Raises:
            StoreUnavailableError: It did not within ``timeout_s`` seconds.
        """
        problem = "no answer"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        await self.value("SELECT 1")
                    except StoreUnavailableError as error:
                        problem = str(error)
                        await asyncio.sleep(RETRY_S)
                    else:
                        return
        except TimeoutError:
            raise StoreUnavailableError(problem) from None

    async def close(self) -> None:
        """End all connections; what still runs is cut off after a moment."""
        pool, self._pool = self._pool, None
        self.is_up = False
        if pool is None:
            return
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    async def ping(self) -> bool:
        """Return whether the database answers now."""
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self.value("SELECT 1")
                return True
        self.is_up = False
        return False

    async def watch(self) -> None:
        """Keep `is_up` true to life until cancelled, also while nothing else asks."""
        while True:
            await self.ping()
            await asyncio.sleep(PING_INTERVAL_S)

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """Run one statement and return its rows; errors as `transaction`."""
        with self._sorted_errors():
            async with self._acquire() as connection:
                return await connection.fetch(sql, *args)

    async def value(self, sql: str, *args: Any) -> Any:
        """Run one statement and return its first value, None without rows."""
        with self._sorted_errors():
            async with self._acquire() as connection:
                return await connection.fetchval(sql, *args)

    async def write(self, copy: Copy, statements: Sequence[Statement]) -> list[Record]:
        """Copy rows and run statements in one transaction; return each statement's first row.

        Committed when this returns. When it raises, it is as if nothing had happened; after a
        broken connection it may have been committed all the same, so writes must be repeatable.

        Raises:
            RowRefusedError: A row is at fault.
            StoreUnavailableError: The database cannot take anything now.
        """
        firsts: list[Record] = []
        async with self.transaction() as session:
            await session.copy(copy)
            for statement in statements:
                rows = await session.fetch(statement.sql, *statement.args)
                firsts.append(rows[0])
        return firsts

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Give a transaction that commits at the end of the block, or undoes it on an error.

        Raises:
            RowRefusedError: A row is at fault.
            StoreUnavailableError: The database cannot do this now.
        """
        with self._sorted_errors():
            async with self._acquire() as connection, connection.transaction():
                yield Session(connection, self._client_timeout_s)

    @contextlib.asynccontextmanager
    async def _acquire(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[Record]"]:
        if self._pool is None:
            raise StoreUnavailableError("closed")
        connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        try:
            yield connection
        finally:
            # A statement that was given up is cancelled first, which a server that hangs never
            # answers: waiting as long as for a connection would keep its death from `is_up`.
            await self._pool.release(connection, timeout=CANCEL_TIMEOUT_S)

    @contextlib.contextmanager
    def _sorted_errors(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as problem:
            reason = excerpt(str(problem.args[0]) if problem.args else repr(problem))
            if is_row_fault(problem.sqlstate):
                self.is_up = True
                raise RowRefusedError(problem.sqlstate or "", reason) from problem
            self.is_up = False
            raise StoreUnavailableError(f"{reason} ({problem.sqlstate})") from problem
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as lost:
            # A refused certificate is a ValueError too, and may be cured by a new one.
            if isinstance(lost, ValueError) and not isinstance(lost, ssl.SSLError):
                raise  # an argument or address that cannot be encoded: the caller's mistake
            self.is_up = False
            raise StoreUnavailableError(excerpt(str(lost) or type(lost).__name__)) from lost
        else:
            self.is_up = True


async def _keep_session(_: "asyncpg.Connection[Record]") -> None:
    """Reset nothing."""
