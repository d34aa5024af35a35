"""The loss account on real servers: balanced, and exact when a row is gone."""

import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.storage.account import account
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import (
    EXCHANGE,
    SYMBOL,
    Feed,
    acknowledged,
    mark,
    saving,
    trade,
)

pytestmark = pytest.mark.anyio


async def test_rows_and_dead_letters_balance_the_stream(
    bus: Bus, database: Database, feed: Feed
) -> None:
    empty = await account(bus, database)
    assert (empty.messages, empty.trades, empty.is_balanced) == (0, 0, True)
    async with saving(bus, database):
        for number in range(1, 101, 10):
            ids = [trade(number + each) for each in range(10)]
            await feed.send(*ids)
            await feed.send(*ids, source="rest")
        await feed.publish(subjects.mark(EXCHANGE), mark())
        await feed.send_raw(b"nothing we know")
        last = await feed.send(trade(500), trade(501, price="1.2.3"), trade(502, price="NaN"))
        await acknowledged(bus, subjects.RAW_STREAM, last)
    beyond = await feed.send(trade(600))  # nobody saves it: it is not in the account yet
    report = await account(bus, database)
    assert report.is_balanced
    assert (report.messages, report.trades, report.dead) == (21, 103, 2)
    assert (report.undecodable, report.last_sequence) == (1, beyond - 1)
    await database.value("DELETE FROM market_trades WHERE trade_id IN ('7', '8')")
    report = await account(bus, database)
    assert not report.is_balanced
    assert report.missing == 2
    assert sorted(report.examples) == [(EXCHANGE, SYMBOL, "7"), (EXCHANGE, SYMBOL, "8")]
