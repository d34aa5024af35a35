"""What venues list, in the table of instruments."""

import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.listings import ListingWriter
from market_ingestor.storage import saver as saver_module
from market_ingestor.storage.duties import Duty
from market_ingestor.storage.listings import ListingTable
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.read_store import DatabaseReadStore
from market_ingestor.storage.saver import sum_symbols
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import Feed, rows, saving, trade, until
from tests.unit.model.test_listing import listing

pytestmark = pytest.mark.anyio

DELTA = """
INSERT INTO market_symbol_deltas VALUES
    ('kraken', 'BTCUSD', 5, '2025-01-01 00:00+00', '2025-01-02 00:00+00')
"""
CHANGED_AT = "SELECT symbol, updated_at FROM market_symbols ORDER BY symbol"


async def test_a_listing_leaves_the_counts_and_an_equal_one_leaves_the_row(
    database: Database,
) -> None:
    table = ListingTable()
    await table.save(database)  # nothing to do
    table.put(listing())
    table.put(listing(exchange="exchange1", symbol="BTCUSDT", base=None, quote=None,
                      price_step=None, amount_step=None, volume_kind="updates"))  # fmt: skip
    await table.save(database)
    await database.fetch(DELTA)
    await sum_symbols(database)
    before = await rows(database, CHANGED_AT)
    table.put(listing(price_step="0.10"))  # the same number
    table.put(listing(symbol="ETHUSD", state="inactive"))
    await table.save(database)
    assert [each for each in await rows(database, CHANGED_AT) if each[0] != "ETHUSD"] == before
    line, bitcoin, ether = await DatabaseReadStore(database).symbols()
    assert (bitcoin.trade_count, bitcoin.venue_symbol, bitcoin.base) == (5, "BTC/USD", "BTC")
    assert (bitcoin.price_step, bitcoin.amount_step, bitcoin.state) == (
        "0.1", "0.00000001", "active",
    )  # fmt: skip
    assert (line.base, line.price_step, line.volume_kind) == (None, None, "updates")
    assert (ether.trade_count, ether.last_trade_at, ether.state) == (0, None, "inactive")


async def test_a_listing_waits_while_another_saver_is_at_it(database: Database) -> None:
    table = ListingTable()
    table.put(listing())
    async with database.transaction() as session:
        assert await session.value(QUERIES["try_duty"], Duty.WRITE_LISTINGS)
        await table.save(database)
        assert await rows(database, CHANGED_AT) == []
    await table.save(database)
    assert len(await rows(database, CHANGED_AT)) == 1


async def test_a_saver_brings_listings_from_the_bus_into_the_table(
    bus: Bus, feed: Feed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver_module, "DUTY_INTERVAL_S", 0.05)
    await feed.send(trade(1))
    bucket = await bus.bucket(subjects.INSTRUMENTS_BUCKET)
    writer = ListingWriter(bus)
    writer.put(listing(exchange="binance", symbol="BTCUSDT"))
    await writer._write(bucket)  # noqa: SLF001 - one round of what `run` does for ever

    async def is_there() -> bool:
        found = await DatabaseReadStore(database).symbols()
        return [(each.trade_count, each.base) for each in found] == [(1, "BTC")]

    async with saving(bus, database):
        await until(is_there)
