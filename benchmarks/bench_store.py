"""Store: trade batches of MARKET_RAW to committed rows without duplicates, 1 and 2 connections.

The floor is a bare COPY of the same rows, made into text beforehand, into the same table with as
many connections: no stream, no decoding, no look for what is stored. The peer inserts them with
``executemany`` and ON CONFLICT, also without a stream. All leave the same rows, which is compared.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.batches import Message, batches
from benchmarks.bus import loop_thread, market_bus, on_loop, publish, timed_on
from benchmarks.race import race
from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.model.trade import TextTrade, TradeBatch
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.dead import DeadLetters
from market_ingestor.storage.lane import Lane
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.saved import SavedRecord
from market_ingestor.storage.saver import sort_raw
from market_ingestor.storage.timescale import Database
from market_ingestor.storage.writers import GapWriter, TradeWriter
from tests.support.servers import NatsHandle, PostgresHandle

PER_MESSAGE: Final = 85
TRADES: Final = 40_800
BATCH_ROWS: Final = 5_000  # what the saver writes at a time while more waits
ROUNDS: Final = 5
GOALS: Final = {"floor": 0.6, "executemany": 2.0}
COLUMNS: Final = (
    "exchange", "symbol", "trade_id", "time", "price", "amount", "side", "received_at",
)  # fmt: skip
INSERT: Final = (
    f"INSERT INTO market_trades ({', '.join(COLUMNS)})"  # noqa: S608 - our own names
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
)
CONTENT: Final = "SELECT count(*), sum(price * amount), sum(trade_id::numeric) FROM market_trades"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Row = tuple[str, str, str, datetime, Decimal, Decimal, str | None, datetime]


def rows_of(messages: Sequence[Message]) -> list[Row]:
    """Return the rows that ``messages`` amount to."""
    rows: list[Row] = []
    for message in messages:
        batch = msgspec.json.decode(message.payload, type=TradeBatch[str])
        rows += [_row(batch, trade) for trade in batch.trades]
    return rows


def _row(batch: TradeBatch[str], trade: TextTrade) -> Row:
    return (
        batch.exchange, batch.symbol, trade.id, _at(trade.time_us), Decimal(trade.price),
        Decimal(trade.amount), trade.side, _at(batch.received_us),
    )  # fmt: skip


def _at(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)


class Stores(NamedTuple):
    """The contenders; each fills the empty table and compares what is in it then.

    Attributes:
        pool: As many plain connections as the saver has for trades.
        texts: The rows as COPY's text, a batch each.
    """

    bus: Bus
    database: Database
    pool: "asyncpg.Pool[asyncpg.Record]"
    writers: int
    rows: Sequence[Row]
    texts: Sequence[bytes]

    async def empty(self) -> None:
        """Take the rows away, and what the saver has acknowledged."""
        await self.pool.execute("TRUNCATE market_trades")
        stream = self.bus.client.jetstream()
        for each in await stream.consumers_info(subjects.RAW_STREAM):
            await stream.delete_consumer(subjects.RAW_STREAM, each.name)

    async def ours(self) -> None:
        publisher, limits = Publisher(self.bus), SaveLimits(batch_size_max=BATCH_ROWS)
        lane = Lane(
            self.bus,
            subjects.RAW_STREAM,
            sort=sort_raw,
            writer=TradeWriter(self.database),
            gaps=GapWriter(self.database),
            dead_letters=DeadLetters(publisher),
            record=SavedRecord(self.bus, self.database),
            limits=limits,
            writers_max=self.writers,
        )
        saving = asyncio.create_task(lane.run())
        while lane.committed < len(self.rows):
            ended, _ = await asyncio.wait({saving}, timeout=0.001)
            if ended:
                raise RuntimeError("the lane ended early") from saving.exception()
        lane.stop(5.0)
        await saving

    async def floor(self) -> None:
        await self._write_all(self.texts, self._copy)

    async def executemany(self) -> None:
        batches_ = [self.rows[at : at + BATCH_ROWS] for at in range(0, len(self.rows), BATCH_ROWS)]
        await self._write_all(batches_, self._insert)

    async def content(self) -> tuple[Any, ...]:
        """Return what tells whether two contenders left the same rows."""
        row = await self.pool.fetchrow(CONTENT)
        assert row is not None  # an aggregate always has one
        return tuple(row)

    async def _write_all(self, parts: Sequence[Any], write: Callable[..., Awaitable[None]]) -> None:
        left = iter(parts)

        async def writer() -> None:
            async with self.pool.acquire() as connection:
                for part in left:
                    await write(connection, part)

        async with asyncio.TaskGroup() as writers:
            for _ in range(self.writers):
                writers.create_task(writer())

    @staticmethod
    async def _copy(connection: Any, text: bytes) -> None:
        await connection.copy_to_table("market_trades", source=io.BytesIO(text), columns=COLUMNS)

    @staticmethod
    async def _insert(connection: Any, rows: Sequence[Row]) -> None:
        await connection.executemany(INSERT, rows)


@asynccontextmanager
async def storing(
    url: str, dsn: str, messages: Sequence[Message], writers: int
) -> AsyncIterator[Stores]:
    """Give the contenders over a stream that holds ``messages`` and a table without rows."""
    rows = rows_of(messages)
    lines = ["\t".join(map(str, row)) + "\n" for row in rows]
    texts = [
        "".join(lines[at : at + BATCH_ROWS]).encode() for at in range(0, len(lines), BATCH_ROWS)
    ]
    await migrate(dsn)
    async with (
        market_bus(url) as bus,
        Database(dsn, stages=True, connections_max=writers + 1) as database,
        asyncpg.create_pool(dsn, min_size=writers, max_size=writers + 1) as pool,
    ):
        await publish(bus, messages)
        yield Stores(bus, database, pool, writers, rows, texts)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("writers", [1, 2])
def test_store(
    benchmark: BenchmarkFixture, nats_server: NatsHandle, own_postgres: PostgresHandle, writers: int
) -> None:
    messages = batches(TRADES, PER_MESSAGE, symbol_count=100, span_s=40)
    dsn = own_postgres.create_database(f"store_{writers}")
    with (
        loop_thread() as portal,
        portal.wrap_async_context_manager(
            storing(nats_server.url, dsn, messages, writers)
        ) as stores,
    ):
        contents = []
        for contender in (stores.ours, stores.floor, stores.executemany):
            portal.call(stores.empty)
            portal.call(contender)
            contents.append(portal.call(stores.content))
        assert contents[0][0] == TRADES
        assert contents[1:] == contents[:1] * 2

        def empty() -> None:
            portal.call(stores.empty)

        race(
            benchmark,
            stage=f"store, {writers} connection{'s' * (writers > 1)}",
            work=TRADES,
            ours=on_loop(portal, stores.ours),
            floor=timed_on(portal, stores.floor),
            peers={"executemany": timed_on(portal, stores.executemany)},
            before=empty,
            goals=GOALS,
            rounds=ROUNDS,
        )
