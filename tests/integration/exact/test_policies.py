"""Columnstore and retention: TimescaleDB's own jobs where its licence has them, ours everywhere.

No job is waited for: what a policy would do is done by running it by hand.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from market_ingestor.bus import codec
from market_ingestor.bus.jetstream import Bus
from market_ingestor.embedded import DataFolder, EmbeddedPostgres
from market_ingestor.model.trade import TextTrade, Trade
from market_ingestor.storage.batch import Batch
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.rows import trade_rows
from market_ingestor.storage.saver import CONNECTIONS, BatchSaver
from market_ingestor.storage.timescale import Database
from market_ingestor.storage.writers import Locks, TradeWriter
from tests.integration.storage.harness import batch, prepared, rows, until
from tests.support.servers import (
    FAST_SETTINGS,
    DatabaseMaker,
    NatsHandle,
    PostgresHandle,
    short_folder,
)

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
JOBS = """
SELECT hypertable_name, coalesce(config ->> 'drop_after', config ->> 'compress_after')
FROM timescaledb_information.jobs WHERE hypertable_name LIKE 'market%' ORDER BY 1, 2
"""
CHUNKS = """
SELECT count(*) FILTER (WHERE is_compressed), count(*)
FROM timescaledb_information.chunks WHERE hypertable_name = 'market_trades'
"""


@asynccontextmanager
async def running_saver(
    nats: NatsHandle, dsn: str, *, trades_s: float = 0, klines_s: float = 0, columns_s: float = 0
) -> AsyncIterator[tuple[BatchSaver, Database]]:
    """Give a saver that is not run, with these times in its settings."""
    bus = await Bus.connect([nats.url], name="test")
    try:
        await prepared(bus)
        async with Database(dsn, stages=True, connections_max=CONNECTIONS) as database:
            saver = BatchSaver(
                bus,
                database,
                trade_retention_s=trades_s,
                kline_retention_s=klines_s,
                columnstore_after_s=columns_s,
            )
            yield saver, database
    finally:
        await bus.close()


@pytest.fixture
async def timescale_dsn(make_database: DatabaseMaker, postgres_server: PostgresHandle) -> str:
    """Give a database with hypertables."""
    if not postgres_server.has_timescaledb:
        pytest.skip("TimescaleDB is not installed in this PostgreSQL")
    made = make_database()
    await migrate(made)
    return made


@pytest.fixture
def apache_dsn(server_portal: BlockingPortal, postgres_server: PostgresHandle) -> Iterator[str]:
    """Give a database of a server with the Apache licence of TimescaleDB."""
    if not postgres_server.has_timescaledb:
        pytest.skip("TimescaleDB is not installed in this PostgreSQL")
    with short_folder() as path, server_portal.wrap_async_context_manager(apache(path)) as server:
        yield server.dsn


@asynccontextmanager
async def apache(path: Path) -> AsyncIterator[EmbeddedPostgres]:
    folder = DataFolder(path)
    await folder.open()
    settings = {**FAST_SETTINGS, "timescaledb.license": "apache"}
    server = EmbeddedPostgres(folder, settings=settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        await folder.close()


def days_ago(days: int, number: int) -> TextTrade:
    """Return a trade of that day, in the middle of it."""
    midnight = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    time_us = int((midnight - timedelta(days=days)).timestamp()) * 1_000_000 + number
    return Trade(id=str(number), price="1.5", amount="2", side="buy", time_us=time_us)


async def write(database: Database, *trades: TextTrade) -> int:
    """Write trades as a refill does; return how many were new."""
    message = batch(*trades, source="rest")
    payload = codec.encode(message)
    found = trade_rows(f"market.raw.{message.exchange}.{message.symbol}", payload, 1)
    held: Batch[int] = Batch()
    held.add(1, found.rows, now=0.0, alone=True)
    ordered = held.sorted_rows()
    keys, alone = held.slots(ordered)
    written = await TradeWriter(database).write(ordered, Locks(keys=keys, alone=alone))
    return written.inserted["market_trades"]


async def test_policies_follow_the_settings(nats_server: NatsHandle, timescale_dsn: str) -> None:
    settings = {"trades_s": 90 * DAY_S, "klines_s": 0, "columns_s": 7 * DAY_S}
    async with running_saver(nats_server, timescale_dsn, **settings) as (saver, database):
        for _ in range(2):  # what is there already stays as it is
            await saver.keep_policies()
            assert await rows(database, JOBS) == [
                ("market_kline_revisions", "7 days"),
                ("market_trades", "7 days"),
                ("market_trades", "90 days"),
            ]
        assert await write(database, days_ago(20, 1)) == 1
        await run_jobs(database)
        assert await rows(database, CHUNKS) == [(1, 1)]
    settings = {"trades_s": 30 * DAY_S, "klines_s": 400 * DAY_S, "columns_s": 14 * DAY_S}
    async with running_saver(nats_server, timescale_dsn, **settings) as (saver, database):
        await saver.keep_policies()
        assert await rows(database, JOBS) == [
            ("market_kline_revisions", "14 days"),
            ("market_kline_revisions", "400 days"),
            ("market_klines", "400 days"),
            ("market_trades", "14 days"),
            ("market_trades", "30 days"),
        ]
    async with running_saver(nats_server, timescale_dsn) as (saver, database):
        await saver.keep_policies()
        assert await rows(database, JOBS) == []
        assert await database.value("SELECT count(*) FROM market_trades") == 1


async def run_jobs(database: Database) -> None:
    """Do what every policy would do."""
    jobs = await rows(
        database,
        "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name LIKE 'market%'",
    )
    for (job,) in jobs:
        await database.value(f"CALL run_job({int(job)})")


async def test_a_retention_policy_drops_what_is_wholly_older(
    nats_server: NatsHandle, timescale_dsn: str
) -> None:
    async with running_saver(nats_server, timescale_dsn, trades_s=30 * DAY_S) as (saver, database):
        await write(database, days_ago(40, 1), days_ago(20, 2))
        await saver.keep_policies()
        await run_jobs(database)
        assert await rows(database, "SELECT trade_id FROM market_trades") == [("2",)]


async def test_late_trades_go_among_columns_once_however_many_are_unpacked(
    nats_server: NatsHandle, timescale_dsn: str
) -> None:
    settings = {"columns_s": 7 * DAY_S}
    async with running_saver(nats_server, timescale_dsn, **settings) as (saver, database):
        first, second = days_ago(20, 1), days_ago(20, 2)
        assert await write(database, first) == 1
        await database.fetch(
            "INSERT INTO market_trades SELECT exchange, symbol, (1000 + each)::text,"
            " time + each * interval '1 ms', price, amount, side, received_at"
            " FROM market_trades, generate_series(1, 120000) AS each"
        )
        await saver.keep_policies()
        await run_jobs(database)
        assert await rows(database, CHUNKS) == [(1, 1)]
        assert await write(database, first, second) == 1
        assert await write(database, second) == 0
        assert await database.value("SELECT count(*) FROM market_trades") == 120_002
        # More than the extension would unpack in one transaction if it were left to its limit.
        await database.fetch("UPDATE market_trades SET side = 'sell' WHERE trade_id <> '2'")


async def test_without_the_licence_nothing_is_asked_and_our_own_job_drops(
    nats_server: NatsHandle, apache_dsn: str
) -> None:
    await migrate(apache_dsn)
    await _drops_by_itself(nats_server, apache_dsn)


async def test_without_the_extension_our_own_job_drops(
    nats_server: NatsHandle, postgres_dsn: str
) -> None:
    await migrate(postgres_dsn, use_timescale=False)
    await _drops_by_itself(nats_server, postgres_dsn)


async def _drops_by_itself(nats: NatsHandle, dsn: str) -> None:
    settings = {"trades_s": 30 * DAY_S, "columns_s": 7 * DAY_S}
    async with running_saver(nats, dsn, **settings) as (saver, database):
        await saver.keep_policies()
        for number, days in ((1, 40), (2, 20)):
            times = [datetime.now(UTC) - timedelta(days=days)]
            await database.value(QUERIES["ensure_partitions"], "market_trades", times)
            assert await write(database, days_ago(days, number)) == 1
        running = asyncio.create_task(saver.run())

        async def is_dropped() -> bool:
            return await rows(database, "SELECT trade_id FROM market_trades") == [("2",)]

        try:
            await until(is_dropped)
        finally:
            saver.stop()
            await asyncio.wait([running], timeout=15)
        assert running.exception() is None
