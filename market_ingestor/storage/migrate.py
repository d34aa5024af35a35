"""Brings a database to the schema of ``sql/``: numbered files, forward only. SHELL.

Owns the order of the files and the record of what was applied. Files are found in the checkout or
in the installed package; an applied file never changes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from market_ingestor.errors import StorageError, StoreUnavailableError
from market_ingestor.storage.duties import Duty
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.timescale import Database, Session

_log = structlog.get_logger(__name__)

CONNECT_WAIT_S: Final = 30.0  # a server that is just starting may take this long

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS market_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market_migrations IS 'Files of the schema that were applied';
COMMENT ON COLUMN market_migrations.name IS 'File name; the number gives the order';
COMMENT ON COLUMN market_migrations.checksum IS 'SHA-256 of its text';
COMMENT ON COLUMN market_migrations.applied_at IS 'When';
"""
_NOTE: Final = "INSERT INTO market_migrations (name, checksum) VALUES ($1, $2)"


class Migration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One file of the schema."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Return what tells that the file changed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(folder: Traversable | None = None) -> list[Migration]:
    """Return the schema's files in order.

    Args:
        folder: Where they are; the installed package's or the checkout's by default.

    Raises:
        StorageError: There are none.
    """
    found = folder or _folder()
    migrations = [
        Migration(name=each.name, sql=each.read_text(encoding="utf-8"))
        for each in found.iterdir()
        if each.name.endswith(".sql")
    ]
    if not migrations:
        raise StorageError(f"no schema files in {found}")
    return sorted(migrations, key=lambda each: each.name)


def _folder() -> Traversable:
    installed = resources.files("market_ingestor").joinpath("_sql")
    if installed.is_dir():
        return installed
    checkout = Path(__file__).resolve().parents[2] / "sql"
    if not checkout.is_dir():
        raise StorageError("the schema files are missing from this installation")
    return checkout


def waiting(migrations: Iterable[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """Return what is still to be applied. Pure.

    Args:
        applied: Checksum by name of what was applied.

    Raises:
        StorageError: An applied file changed, or an unapplied one comes before an applied one.
    """
    todo: list[Migration] = []
    for each in migrations:
        checksum = applied.get(each.name)
        if checksum is None:
            todo.append(each)
        elif checksum != each.checksum:
            raise StorageError(f"{each.name} was applied and has changed since: add a new file")
        elif todo:
            raise StorageError(f"{todo[0].name} was not applied before {each.name}")
    return todo


async def migrate(
    dsn: str,
    *,
    migrations: Iterable[Migration] | None = None,
    use_timescale: bool = True,
    connect_wait_s: float = CONNECT_WAIT_S,
) -> list[str]:
    """Apply what was not applied yet and return the names of those files.

    May run any number of times and in several processes at once: one works, the others wait.
    Either everything is applied or nothing.

    Args:
        use_timescale: Use TimescaleDB where it can be had.
        connect_wait_s: How long to wait for the database to answer.

    Raises:
        StoreUnavailableError: The database cannot be reached.
        StorageError: A file failed, or an applied one changed.
    """
    files = list(migrations) if migrations is not None else load()
    settings = {
        "market_ingestor.timescale": "on" if use_timescale else "off",
        "client_min_messages": "warning",
    }
    current = ""
    async with Database(
        dsn,
        name="market-ingestor migrate",
        connections_max=1,
        # Waiting for another process that migrates, or for a large table, may take long.
        statement_timeout_s=None,
        settings=settings,
    ) as database:
        await database.connect(connect_wait_s)
        try:
            async with database.transaction() as session:
                todo = await _todo(session, files)
                for each in todo:
                    current = each.name
                    await session.script(each.sql)
                    await session.fetch(_NOTE, each.name, each.checksum)
        except (StoreUnavailableError, RowRefusedError) as problem:
            raise StorageError(f"{current or 'schema'}: {problem}") from problem
    for each in todo:
        _log.info("migration_applied", file=each.name)
    return [each.name for each in todo]


async def _todo(session: Session, files: Iterable[Migration]) -> list[Migration]:
    """Wait for whoever else migrates, then return what is left to do."""
    await session.fetch("SELECT pg_advisory_xact_lock($1)", Duty.MIGRATE)
    await session.script(_LEDGER)
    rows = await session.fetch("SELECT name, checksum FROM market_migrations")
    return waiting(files, {row["name"]: row["checksum"] for row in rows})
