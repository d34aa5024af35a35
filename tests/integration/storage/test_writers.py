"""Batches against the real database: what is stored, what is not, and what it costs."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import asyncpg
import msgspec
import pytest

from market_ingestor.bus import codec
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model.event import EventType, MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import Source, TextTrade
from market_ingestor.storage.batch import Batch
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.rows import Row, gap_row, kline_row, trade_rows
from market_ingestor.storage.saver import sum_symbols
from market_ingestor.storage.times import at
from market_ingestor.storage.timescale import Copy, Database, Statement
from market_ingestor.storage.writers import (
    GapWriter,
    KlineWriter,
    Locks,
    TradeWriter,
    Writer,
    Written,
)
from tests.integration.storage.harness import EXCHANGE, START_US, SYMBOL, batch, rows, trade

pytestmark = pytest.mark.anyio

HOUR_US = 3_600_000_000
OPENED = START_US // 1_000


async def write(writer: Writer, found: Sequence[Row], *, alone: bool = False) -> Written:
    """Write rows as a lane does."""
    held: Batch[str] = Batch()
    held.add("m", found, now=0.0, alone=alone)
    ordered = held.sorted_rows()
    keys, exclusive = held.slots(ordered)
    return await writer.write(ordered, Locks(keys=keys, alone=exclusive))


def trades_of(*trades: TextTrade, symbol: str = SYMBOL, source: Source = "ws") -> list[Row]:
    payload = codec.encode(batch(*trades, symbol=symbol, source=source))
    return trade_rows(f"market.raw.{EXCHANGE}.{symbol}", payload, 1).rows


def version(
    revision: int,
    *,
    close: str = "1.5",
    opened: int = OPENED,
    volume: str = "12.50",
    quote_volume: str = "0." + "1" * 150,
) -> Row:
    kline = Kline(
        v=1, exchange=EXCHANGE, symbol=SYMBOL, period="1m", open_time=opened,
        close_time=opened + 59_999, open="1", high="2", low="0.5", close=close,
        volume=volume, quote_volume=quote_volume, buy_volume="0", buy_quote_volume="0",
        trade_count=3, first_trade_id="9", last_trade_id="11", closed=True, complete=True,
        revision=revision, reason="close",
    )  # fmt: skip
    return kline_row(f"market.kline.{EXCHANGE}.{SYMBOL}.1m", codec.encode(kline), revision)


def gap(kind: EventType, *, time_us: int = START_US, missing: int | None = 2) -> Row:
    event = MarketEvent(
        v=1, exchange=EXCHANGE, symbol=SYMBOL, type=kind, time_us=time_us, after_id="10",
        before_id="13", missing=missing, from_time=OPENED, to_time=OPENED + 5, detail="",
    )  # fmt: skip
    row = gap_row(f"market.event.{EXCHANGE}.{SYMBOL}", codec.encode(event), 1)
    assert row is not None
    return row


# -- trades


async def test_what_is_written_again_changes_nothing(database: Database) -> None:
    writer = TradeWriter(database)
    found = trades_of(*(trade(number) for number in range(1, 101)))
    assert (await write(writer, found)).inserted == {"market_trades": 100}
    before = await rows(database, "SELECT * FROM market_trades ORDER BY trade_id")
    again = await write(writer, found)
    assert (again.inserted["market_trades"], again.duplicate, again.conflicting) == (0, 100, 0)
    assert await rows(database, "SELECT * FROM market_trades ORDER BY trade_id") == before


async def test_numbers_and_times_are_stored_exactly(database: Database) -> None:
    price = "123456789012345678901234567890.000000000000000000000000000001"
    when = START_US + 987_653
    await write(
        TradeWriter(database),
        trades_of(trade(1, price=price, amount="0.10", time_us=when, side=None)),
    )
    found = await database.fetch(
        "SELECT price, price::text AS text, amount::text, time, side, received_at"
        " FROM market_trades"
    )
    assert (found[0]["price"], found[0]["text"]) == (Decimal(price), price)
    assert tuple(found[0])[2:] == ("0.10", at(when), None, at(START_US))


@pytest.mark.parametrize("shift_us", [1, -1, 999, HOUR_US - 1, -HOUR_US + 1])
async def test_an_id_with_another_time_stays_one_row(database: Database, shift_us: int) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1)))
    moved = trade(1, time_us=START_US + 1_000 + shift_us)
    written = await write(writer, trades_of(moved, source="rest"), alone=True)
    assert (written.inserted["market_trades"], written.conflicting) == (0, 1)
    assert await rows(database, "SELECT time FROM market_trades") == [(at(START_US + 1_000),)]


@pytest.mark.parametrize("changes", [{"price": "100.6"}, {"amount": "3"}])
async def test_an_id_with_other_numbers_keeps_the_first(
    database: Database, changes: dict[str, str]
) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1)))
    written = await write(writer, trades_of(msgspec.structs.replace(trade(1), **changes)))
    assert (written.inserted["market_trades"], written.conflicting) == (0, 1)
    assert await rows(database, "SELECT price, amount FROM market_trades") == [
        (Decimal("100.5"), Decimal(2))
    ]


async def test_equal_numbers_written_otherwise_are_a_duplicate(database: Database) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1)))
    written = await write(writer, trades_of(trade(1, price="100.500", amount="2.0")))
    assert (written.conflicting, written.duplicate) == (0, 1)


async def test_an_id_used_again_much_later_is_another_trade(database: Database) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1)))
    later = trade(1, time_us=START_US + 26 * HOUR_US)
    assert (await write(writer, trades_of(later))).inserted == {"market_trades": 1}


async def test_days_nobody_expected_are_stored(database: Database) -> None:
    writer = TradeWriter(database)
    days = [1_680_652_800_000_000, 1_680_739_199_999_999, 1_680_739_200_000_000, 0]
    found = trades_of(*(trade(n, time_us=each) for n, each in enumerate(days, start=1)))
    assert (await write(writer, found)).inserted == {"market_trades": 4}
    assert (await write(writer, found)).duplicate == 4


async def test_a_dropped_partition_is_made_again(database: Database) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1)))
    dropped = await database.value(
        QUERIES["drop_before"], "market_trades", at(START_US + 48 * HOUR_US)
    )
    assert dropped == 1
    found = trades_of(trade(2))
    try:
        written = await write(writer, found)
    except StoreUnavailableError:  # native: no partition; the next attempt makes it
        written = await write(writer, found)
    assert written.inserted == {"market_trades": 1}


async def test_retention_keeps_what_is_not_wholly_older(database: Database) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1), trade(2, time_us=START_US + 24 * HOUR_US)))
    cutoff = at(START_US + 12 * HOUR_US)
    await database.value(QUERIES["drop_before"], "market_trades", cutoff)
    assert await rows(database, "SELECT trade_id FROM market_trades") == [("2",)]


async def test_two_writers_of_the_same_rows_do_not_deadlock(database: Database) -> None:
    found = [
        row
        for symbol in ("AUSDT", "BUSDT", "CUSDT")
        for row in trades_of(*(trade(number) for number in range(1, 501)), symbol=symbol)
    ]
    async with asyncio.TaskGroup() as tasks:
        writes = [
            tasks.create_task(write(TradeWriter(database), order, alone=is_alone))
            for order, is_alone in (
                (found, False), (found[::-1], False), (found, True), (found[::-1], True),
            )
        ]  # fmt: skip
    assert sum(task.result().inserted["market_trades"] for task in writes) == 1_500
    assert await database.value("SELECT count(*) FROM market_trades") == 1_500


@pytest.mark.parametrize("may_append", [True, False], ids=["copied", "staged"])
async def test_a_row_that_another_writer_is_about_to_commit_is_a_duplicate(
    database: Database, dsn: str, may_append: bool
) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(9)))  # its partition is there
    other = await asyncpg.connect(dsn)
    try:
        async with other.transaction():
            await other.execute(
                "INSERT INTO market_trades VALUES ($1, $2, '1', $3, 100.5, 2, 'buy', $3)",
                EXCHANGE,
                SYMBOL,
                at(START_US + 1_000),
            )
            found = trades_of(trade(1), trade(3))
            # Staged by itself: a refusal would only make the writer try that again.
            storing = (
                write(writer, found)
                if may_append
                else writer._write(found, Locks(keys=[], alone=[]), [], may_append=False)  # noqa: SLF001 - as said
            )
            writing = asyncio.create_task(storing)
            while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
                assert not writing.done()
    finally:
        await other.close()
    written = await writing
    assert (written.inserted["market_trades"], written.duplicate) == (1, 1)


async def test_ids_of_any_length_beside_those_stored_are_new(database: Database) -> None:
    """Text orders 5 behind 10 and 1000: looked for between 10 and 99, 1000 seems to be there."""
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(1_000), trade(100)))
    found = trades_of(*(trade(number) for number in (5, 10, 11, 101, 999, 1_001)))
    written = await write(writer, found)
    assert (written.inserted["market_trades"], written.duplicate) == (6, 0)
    await sum_symbols(database)
    assert await database.value("SELECT trade_count FROM market_symbols") == 8


async def test_two_writers_with_two_times_for_one_id_store_one(database: Database) -> None:
    for base in range(0, 600, 100):
        live = trades_of(*(trade(base + number) for number in range(100)))
        refill = trades_of(
            *(trade(base + n, time_us=START_US + (base + n) * 1_000 + 1) for n in range(100))
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write(TradeWriter(database), live))
            tasks.create_task(write(TradeWriter(database), refill, alone=True))
    assert await database.value("SELECT count(*) FROM market_trades") == 600


async def test_a_bad_row_is_told_from_a_bad_day(database: Database) -> None:
    writer = TradeWriter(database)
    found = trades_of(trade(1), trade(2, price="1.2.3"))
    with pytest.raises(RowRefusedError) as refused:
        await write(writer, found)
    assert refused.value.sqlstate == "22P02"
    assert database.is_up
    assert await database.value("SELECT count(*) FROM market_trades") == 0


async def test_a_missing_partition_is_not_the_rows_fault(
    database: Database, has_timescale: bool
) -> None:
    if has_timescale:
        pytest.skip("hypertables make their chunks themselves")
    found = trades_of(trade(1))
    copy = Copy(
        table="staging_trades",
        columns=("exchange", "symbol", "trade_id", "time", "price", "amount", "side",
                 "received_at"),
        data=found[0].line.encode(),
    )  # fmt: skip
    statement = Statement(
        sql=QUERIES["insert_trades"], args=(at(START_US - HOUR_US), at(START_US + HOUR_US))
    )
    with pytest.raises(StoreUnavailableError, match="23514"):
        await database.write(copy, [statement])


FILL = """
INSERT INTO market_trades (exchange, symbol, trade_id, time, price, amount, side, received_at)
SELECT $1, $2, ($3::bigint + n)::text, $4::timestamptz + n * interval '1 millisecond', 1, 1, 'buy',
    now()
FROM generate_series(1, $5::bigint) AS n
"""
STORED = "EXPLAIN " + QUERIES["stored_ids"]
SPANNED = "EXPLAIN " + QUERIES["any_stored"]
PROBED = "EXPLAIN " + QUERIES["insert_trades"]
SUMMED = "EXPLAIN " + QUERIES["range_trades"]
WALKED = "EXPLAIN " + QUERIES["first_missing"]


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_ids_are_looked_up_along_the_key_and_in_the_day_they_are_of(
    database: Database, is_analyzed: bool
) -> None:
    """By time it would read every trade of the symbol's hours for every row.

    The shallower index of time costs less in the planner's eyes once the one of ids has grown a
    level, which a busy symbol's does within its first minute of a day.
    """
    day_us = 24 * HOUR_US
    days = [at(START_US + number * day_us) for number in (-3, 3, 0)]
    await database.value(QUERIES["ensure_partitions"], "market_trades", days)
    for day in days[:2]:
        await database.value(FILL, EXCHANGE, SYMBOL, 10**7, day, 10)
    bounds = (at(START_US - HOUR_US), at(START_US + HOUR_US))
    summed: tuple[object, ...] = ([], [], at(0), at(0), ["1"], [START_US], ["1"], ["1"], *bounds)
    for count in range(0, 60_000, 5_000):
        await database.value(FILL, EXCHANGE, SYMBOL, count, days[2], 5_000)
        if is_analyzed and count == 0:
            await database.value("ANALYZE market_trades")
        for plan in (
            await rows(database, PROBED, *bounds),
            await rows(database, SPANNED, *bounds, [EXCHANGE], [SYMBOL], ["1"], ["2"]),
            await rows(database, STORED, [EXCHANGE], [SYMBOL], ["1"], [START_US], *bounds),
            await rows(database, SUMMED, EXCHANGE, SYMBOL, *summed),
            await rows(database, WALKED, EXCHANGE, SYMBOL, 1, 10_000, *bounds),
        ):
            scans = [line for (line,) in plan if "Scan using" in line]
            assert len(scans) == 1, (count, scans)
            assert "unique" in scans[0] or "trade_id_time" in scans[0], (count, scans)


async def test_counts_per_symbol_are_of_what_was_inserted(database: Database) -> None:
    writer = TradeWriter(database)
    await write(writer, trades_of(trade(5), trade(6)))
    await sum_symbols(database)
    await write(writer, trades_of(trade(6), trade(7), trade(4)))
    await write(writer, trades_of(trade(1), symbol="ETHUSDT"))
    async with asyncio.TaskGroup() as tasks:  # one of them does the work
        for _ in range(3):
            tasks.create_task(sum_symbols(database))
    assert await rows(
        database,
        "SELECT symbol, trade_count, first_trade_at, last_trade_at FROM market_symbols"
        " ORDER BY symbol",
    ) == [
        ("BTCUSDT", 4, at(START_US + 4_000), at(START_US + 7_000)),
        ("ETHUSDT", 1, at(START_US + 1_000), at(START_US + 1_000)),
    ]
    assert await database.value("SELECT count(*) FROM market_symbol_deltas") == 0


# -- candles


async def test_the_newest_revision_wins_in_whatever_order(database: Database) -> None:
    writer = KlineWriter(database)
    await write(writer, [version(2, close="1.2"), version(1, close="1.1")])
    await write(writer, [version(4, close="1.4")])
    written = await write(writer, [version(3, close="1.3")])
    assert written.inserted == {"market_klines": 0, "market_kline_revisions": 1}
    assert await rows(database, "SELECT revision, close::text FROM market_klines") == [(4, "1.4")]
    assert await rows(
        database, "SELECT revision, close::text FROM market_kline_revisions ORDER BY 1"
    ) == [(1, "1.1"), (2, "1.2"), (3, "1.3"), (4, "1.4")]


async def test_candles_written_again_change_nothing(database: Database) -> None:
    writer = KlineWriter(database)
    found = [version(1), version(2), version(1, opened=OPENED + 60_000)]
    await write(writer, found)
    before = await rows(database, "SELECT * FROM market_klines ORDER BY open_time")
    again = await write(writer, found)
    assert (set(again.inserted.values()), again.duplicate) == ({0}, 3)
    assert await rows(database, "SELECT * FROM market_klines ORDER BY open_time") == before


async def test_candles_of_any_year_are_stored_with_every_digit(database: Database) -> None:
    await write(KlineWriter(database), [version(1, opened=1_680_652_800_000)])
    assert await rows(database, "SELECT quote_volume::text, volume::text FROM market_klines") == [
        ("0." + "1" * 150, "12.50")
    ]


async def test_two_writers_of_the_same_candles_do_not_deadlock(database: Database) -> None:
    found = [
        version(revision, opened=OPENED + 60_000 * minute)
        for minute in range(200)
        for revision in (1, 2)
    ]
    async with asyncio.TaskGroup() as tasks:
        for order in (found, found[::-1], found[::2], found[1::2]):
            tasks.create_task(write(KlineWriter(database), order))
    assert await rows(
        database, "SELECT count(*), min(revision), max(revision) FROM market_klines"
    ) == [(200, 2, 2)]


async def test_the_view_weighs_by_volume(database: Database) -> None:
    await write(KlineWriter(database), [version(1)])
    ((pair, average),) = await rows(
        database, "SELECT pair_name, average_price FROM aggregated_data"
    )
    assert pair == SYMBOL
    assert average == pytest.approx(Decimal("0." + "1" * 15) / Decimal("12.5"))


async def test_the_view_shows_a_minute_without_volume_by_its_close(database: Database) -> None:
    await write(KlineWriter(database), [version(1, close="7.25", volume="0", quote_volume="0")])
    ((average,),) = await rows(database, "SELECT average_price FROM aggregated_data")
    assert average == Decimal("7.25")


# -- gaps


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        (["gap_found"], "open"),
        (["gap_found", "gap_filled"], "filled"),
        (["gap_filled", "gap_found"], "filled"),
        (["gap_found", "gap_unfillable"], "unfillable"),
        (["gap_unfillable", "gap_found"], "unfillable"),
        (["gap_filled", "gap_unfillable"], "filled"),
        (["gap_unfillable", "gap_filled"], "filled"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
async def test_a_gap_only_ever_advances(
    database: Database, kinds: list[EventType], state: str, together: bool
) -> None:
    writer = GapWriter(database)
    found = [gap(kind, time_us=START_US + index) for index, kind in enumerate(kinds)]
    for each in [found] if together else [[one] for one in found]:
        await write(writer, each)
    ((stored, filled_at),) = await rows(database, "SELECT state, filled_at FROM market_gaps")
    assert stored == state
    assert (filled_at is not None) == (state == "filled")


async def test_what_is_known_of_a_gap_is_kept(database: Database) -> None:
    writer = GapWriter(database)
    await write(writer, [gap("gap_found", time_us=START_US + 7)])
    await write(writer, [gap("gap_filled", time_us=START_US + 9, missing=None)])
    assert await rows(database, "SELECT detected_at, missing, filled_at FROM market_gaps") == [
        (at(START_US + 7), 2, at(START_US + 9))
    ]
