"""The schema on real databases: applied once, by whoever comes first, never changed behind us."""

import asyncio

import pytest

from market_ingestor.errors import StorageError, StoreUnavailableError
from market_ingestor.runtime.schema import Schema
from market_ingestor.storage.migrate import Migration, load, migrate
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import rows

pytestmark = pytest.mark.anyio

COLUMNS = {
    "market_trades": "exchange symbol trade_id time price amount side received_at",
    "market_klines": "exchange symbol period open_time open high low close volume quote_volume "
    "buy_volume buy_quote_volume trade_count first_trade_id last_trade_id complete revision "
    "reason updated_at",
    "market_gaps": "exchange symbol detected_at after_id before_id from_time to_time missing "
    "state filled_at",
    "market_symbols": "exchange symbol venue_symbol base quote price_step amount_step "
    "volume_kind trade_count first_trade_at last_trade_at state updated_at",
    "aggregated_data": "pair_name exchange timestamp average_price min_price max_price",
}


async def test_applying_twice_and_at_once_applies_each_file_once(
    postgres_dsn: str, has_timescale: bool
) -> None:
    names = [each.name for each in load()]
    async with asyncio.TaskGroup() as tasks:
        racing = [
            tasks.create_task(migrate(postgres_dsn, use_timescale=has_timescale)) for _ in range(3)
        ]
    assert sorted(task.result() for task in racing) == [[], [], names]
    assert await migrate(postgres_dsn, use_timescale=has_timescale) == []


async def test_a_process_starts_behind_the_schema_unless_the_database_is_away(
    postgres_dsn: str,
) -> None:
    with Schema(postgres_dsn) as schema:
        await schema.tried(60)
        async with Database(postgres_dsn) as found:
            assert await found.value("SELECT count(*) FROM market_trades") == 0
        await schema.applied()
    with Schema("postgresql://127.0.0.1:1/none") as schema:
        async with asyncio.timeout(30):
            await schema.tried(60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await schema.applied()


async def test_the_tables_are_those_of_the_contract(database: Database) -> None:
    for table, columns in COLUMNS.items():
        found = await rows(
            database,
            "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0",
            table,
        )
        assert found == [(columns,)]
    revisions = COLUMNS["market_klines"]
    found = await rows(
        database,
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = 'market_kline_revisions'::regclass AND attnum > 0",
    )
    assert found == [(revisions,)]


async def test_every_column_is_described_and_every_id_sorts_by_bytes(database: Database) -> None:
    undescribed = await rows(
        database,
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relname LIKE ANY (ARRAY['market\\_%', 'aggregated_data'])"
        " AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
        " AND NOT c.relispartition"
        " AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL",
    )
    assert undescribed == []
    otherwise = await rows(
        database,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_name LIKE 'market\\_%' AND collation_name IS DISTINCT FROM 'C'"
        " AND column_name IN ('exchange', 'symbol', 'period', 'trade_id', 'first_trade_id',"
        " 'last_trade_id', 'after_id', 'before_id')",
    )
    assert otherwise == []


async def test_tables_that_grow_are_split_by_time(database: Database, has_timescale: bool) -> None:
    kinds = await rows(
        database,
        "SELECT DISTINCT relkind FROM pg_class WHERE oid IN ('market_trades'::regclass,"
        " 'market_klines'::regclass, 'market_kline_revisions'::regclass)",
    )
    assert kinds == [(b"r",)] if has_timescale else [(b"p",)]
    if has_timescale:
        assert await database.value("SELECT count(*) FROM timescaledb_information.hypertables") == 3


async def test_a_changed_file_is_refused(dsn: str) -> None:
    files = load()
    files[0] = Migration(name=files[0].name, sql=files[0].sql + "\n-- edited")
    with pytest.raises(StorageError, match="has changed since"):
        await migrate(dsn, migrations=files)


async def test_a_file_that_fails_leaves_nothing_behind(dsn: str) -> None:
    added = [
        Migration(name="0900_good.sql", sql="CREATE TABLE extra (a int)"),
        Migration(name="0901_bad.sql", sql="CREATE NONSENSE"),
    ]
    with pytest.raises(StorageError, match=r"0901_bad\.sql: syntax error"):
        await migrate(dsn, migrations=[*load(), *added])
    async with Database(dsn) as opened:
        assert await opened.value("SELECT to_regclass('extra')") is None


async def test_a_database_that_cannot_be_reached_is_said_so() -> None:
    with pytest.raises(StoreUnavailableError):
        await migrate("postgresql://nobody@127.0.0.1:1/none", connect_wait_s=0.5)
