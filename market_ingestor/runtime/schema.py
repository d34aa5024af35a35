"""Applies the schema while a process starts, without making it wait for the database. SHELL."""

import asyncio
from types import TracebackType
from typing import Final, Self

import structlog

from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.migrate import migrate

_log = structlog.get_logger(__name__)

FIRST_WAIT_S: Final = 0.5  # for a database that may be away; whoever starts waits for it
DATABASE_WAIT_S: Final = 5.0  # after that


class Schema:
    """Brings the database to the schema, as soon as it answers, however long that takes.

    Trades and candles must not wait for the database: while it is away, or busy with a long
    migration, roles start beside this, and savers hold what they have as for any other trouble.
    Where it is there the schema comes first, so that nobody asks for tables that are not.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.create_task(self._apply(), name="schema")
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._task is not None  # noqa: S101 - made when entered
        self._task.cancel()

    async def tried(self, wait_s: float) -> None:
        """Return when the schema is applied or the database does not answer, at the latest then."""
        tried = asyncio.create_task(self._tried.wait())
        await asyncio.wait({tried}, timeout=wait_s)
        tried.cancel()

    async def applied(self) -> None:
        """Return when the schema is applied.

        Raises:
            StorageError: A migration failed, or an applied file was changed.
        """
        assert self._task is not None  # noqa: S101 - made when entered
        await self._task

    async def _apply(self) -> None:
        try:
            await migrate(self._dsn, connect_wait_s=FIRST_WAIT_S)
        except StoreUnavailableError as problem:
            _log.warning("database_awaited", error=str(problem))
        else:
            return
        finally:
            self._tried.set()
        while True:
            try:
                await migrate(self._dsn, connect_wait_s=DATABASE_WAIT_S)
            except StoreUnavailableError:
                continue
            else:
                return
