"""How each kind of row gets into its tables, a batch in one transaction. SHELL.

Owns which statements a batch consists of and which partitions it needs. Knows nothing of messages,
retries or dead letters.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec

from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.rows import GAP_COLUMNS, KLINE_COLUMNS, TRADE_COLUMNS, Row
from market_ingestor.storage.spans import Spans, spans_of
from market_ingestor.storage.times import at, probe_bounds
from market_ingestor.storage.timescale import Copy, Database, Session, Statement

DAY_US: Final = 86_400_000_000
UNIQUE_VIOLATION: Final = "23505"
DAYS_KNOWN_MAX: Final = 10_000  # 27 years of days; then they are simply looked up again


class Locks(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Advisory locks of a batch: ascending keys, and whether each is taken alone."""

    keys: list[int]
    alone: list[bool]


class Written(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a committed batch did.

    Attributes:
        inserted: Rows that are new or replaced an older version, by table.
        conflicting: Rows left out because their id is stored with other facts.
        duplicate: Rows left out because they are stored already.
    """

    inserted: dict[str, int]
    conflicting: int = 0
    duplicate: int = 0


class Writer(Protocol):
    """Writes sorted rows of one kind."""

    table: str

    async def write(
        self, rows: Sequence[Row], locks: Locks, also: Sequence[Statement] = ()
    ) -> Written:
        """Commit ``rows``, sorted by key and at least one; writing them again changes nothing.

        Args:
            also: Statements of the same transaction.

        Raises:
            RowRefusedError: One of them is at fault; nothing was written.
            StoreUnavailableError: The database cannot take them now.
        """


class Partitions:
    """Makes sure that the partitions of the days in a batch exist, asking once per day."""

    def __init__(self, database: Database, *tables: str) -> None:
        self._database = database
        self._tables = tables
        self._known: set[int] = set()

    async def ensure(self, times_us: Sequence[int]) -> None:
        """Make what is missing for these times."""
        days = {each // DAY_US for each in times_us} - self._known
        if not days:
            return
        times = [at(each * DAY_US) for each in sorted(days)]
        for table in self._tables:
            await self._database.value(QUERIES["ensure_partitions"], table, times)
        if len(self._known) > DAYS_KNOWN_MAX:
            self._known.clear()
        self._known |= days

    def forget(self) -> None:
        """Ask again: a partition may have been dropped since."""
        self._known.clear()


class TradeWriter:
    """Writes trades to ``market_trades``, one row per id.

    Rows none of whose ids is stored, nearly always, are copied right into the table. Where one
    may be stored, the batch is staged and each row looked up.
    """

    table = "market_trades"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._partitions = Partitions(database, self.table)

    async def write(
        self, rows: Sequence[Row], locks: Locks, also: Sequence[Statement] = ()
    ) -> Written:
        """Commit trades; see `Writer`."""
        try:
            await self._partitions.ensure([row.time_us for row in rows])
            try:
                return await self._write(rows, locks, also, may_append=True)
            except RowRefusedError as problem:
                if problem.sqlstate != UNIQUE_VIOLATION:
                    raise
            # Another saver has just committed one of them: a message came to both.
            return await self._write(rows, locks, also, may_append=False)
        except StoreUnavailableError:
            self._partitions.forget()
            raise

    async def _write(
        self, rows: Sequence[Row], locks: Locks, also: Sequence[Statement], *, may_append: bool
    ) -> Written:
        spans = spans_of(rows)
        bounds = probe_bounds(
            [each for span in spans.values() for each in (span.first_us, span.last_us)]
        )
        async with self._database.transaction() as session:
            await session.fetch(QUERIES["lock_slots"], locks.keys, locks.alone)
            for each in also:
                await session.fetch(each.sql, *each.args)
            if may_append and not await self._any_stored(session, spans, bounds):
                await self._append(session, rows, spans)
                return Written(inserted={self.table: len(rows)})
            await session.copy(_copy("staging_trades", rows))
            (counts,) = await session.fetch(QUERIES["insert_trades"], *bounds)
        inserted, conflicting = counts["inserted"], counts["conflicting"]
        return Written(
            inserted={self.table: inserted},
            conflicting=conflicting,
            duplicate=len(rows) - inserted - conflicting,
        )

    @staticmethod
    async def _any_stored(
        session: Session,
        spans: Spans,
        bounds: tuple[datetime, datetime],
    ) -> bool:
        found: bool = await session.value(
            QUERIES["any_stored"],
            *bounds,
            [exchange for exchange, _, _ in spans],
            [symbol for _, symbol, _ in spans],
            [span.first_id for span in spans.values()],
            [span.last_id for span in spans.values()],
        )
        return found

    async def _append(
        self,
        session: Session,
        rows: Sequence[Row],
        spans: Spans,
    ) -> None:
        await session.copy(_copy(self.table, rows))
        await session.fetch(
            QUERIES["note_trades"],
            [exchange for exchange, _, _ in spans],
            [symbol for _, symbol, _ in spans],
            [span.count for span in spans.values()],
            [at(span.first_us) for span in spans.values()],
            [at(span.last_us) for span in spans.values()],
        )


def _copy(table: str, rows: Sequence[Row]) -> Copy:
    return Copy(table=table, columns=TRADE_COLUMNS, data=_lines(rows))


class KlineWriter:
    """Writes versions of candles to ``market_klines`` and ``market_kline_revisions``."""

    table = "market_klines"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._partitions = Partitions(database, self.table, "market_kline_revisions")

    async def write(
        self, rows: Sequence[Row], locks: Locks, also: Sequence[Statement] = ()
    ) -> Written:
        """Commit versions; see `Writer`."""
        del locks  # versions of one key never disagree: the stream gave each its number
        copy = Copy(table="staging_klines", columns=KLINE_COLUMNS, data=_lines(rows))
        statements = (
            Statement(sql=QUERIES["insert_kline_revisions"]),
            Statement(sql=QUERIES["upsert_klines"]),
        )
        try:
            await self._partitions.ensure([row.time_us for row in rows])
            versions, newest, *_ = await self._database.write(copy, (*statements, *also))
        except StoreUnavailableError:
            self._partitions.forget()
            raise
        return Written(
            inserted={
                self.table: newest["inserted"],
                "market_kline_revisions": versions["inserted"],
            },
            duplicate=len(rows) - versions["inserted"],
        )


class GapWriter:
    """Writes changes of gaps to ``market_gaps``."""

    table = "market_gaps"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(
        self, rows: Sequence[Row], locks: Locks, also: Sequence[Statement] = ()
    ) -> Written:
        """Commit changes; see `Writer`."""
        del locks  # states only ever advance, whoever comes first
        copy = Copy(table="staging_gaps", columns=GAP_COLUMNS, data=_lines(rows))
        statement = Statement(sql=QUERIES["upsert_gaps"])
        counts, *_ = await self._database.write(copy, (statement, *also))
        return Written(inserted={self.table: counts["inserted"]})


def _lines(rows: Sequence[Row]) -> bytes:
    return "".join([row.line for row in rows]).encode()
