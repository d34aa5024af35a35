"""Reading back: for the candle processor, for the API, for snapshots."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from market_ingestor.bus import codec
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import GapKey, TradeKey, TradeSum
from market_ingestor.model.trade import TextTrade
from market_ingestor.storage.batch import Batch
from market_ingestor.storage.candle_store import DatabaseCandleStore
from market_ingestor.storage.read_store import DatabaseReadStore, kline_history
from market_ingestor.storage.rows import gap_row, kline_row, trade_rows
from market_ingestor.storage.saver import sum_symbols
from market_ingestor.storage.timescale import CANCEL_TIMEOUT_S, PING_TIMEOUT_S, Database
from market_ingestor.storage.writers import GapWriter, KlineWriter, Locks, TradeWriter
from tests.integration.storage.harness import EXCHANGE, START_US, SYMBOL, batch, trade
from tests.support.processes import frozen
from tests.support.servers import PostgresHandle

pytestmark = pytest.mark.anyio

START_MS = START_US // 1_000
END_MS = START_MS + 86_400_000
NO_LOCKS = Locks(keys=[], alone=[])


async def put_trades(database: Database, *trades: TextTrade, exchange: str = EXCHANGE) -> None:
    message = batch(*trades)
    payload = codec.encode(message).replace(EXCHANGE.encode(), exchange.encode())
    found = trade_rows(f"market.raw.{exchange}.{SYMBOL}", payload, 1).rows
    held: Batch[int] = Batch()
    held.add(1, found, now=0.0)
    keys, alone = held.slots(found)
    await TradeWriter(database).write(held.sorted_rows(), Locks(keys=keys, alone=alone))


def candle(minute: int, *, revision: int = 1, close: str = "1.50") -> Kline:
    opened = START_MS + minute * 60_000
    return Kline(
        v=1, exchange=EXCHANGE, symbol=SYMBOL, period="1m", open_time=opened,
        close_time=opened + 59_999, open="1.0", high="200", low="0.00000012", close=close,
        volume="12.50", quote_volume="0.10", buy_volume="0", buy_quote_volume="0.0",
        trade_count=3, first_trade_id="9", last_trade_id="11", closed=True, complete=False,
        revision=revision, reason="late",
    )  # fmt: skip


async def put_candles(database: Database, candles: Sequence[Kline]) -> None:
    subject = f"market.kline.{EXCHANGE}.{SYMBOL}.1m"
    found = [kline_row(subject, codec.encode(each), 1) for each in candles]
    await KlineWriter(database).write(sorted(found, key=lambda row: row.key), NO_LOCKS)


async def test_trades_of_a_window_come_in_the_venues_order(database: Database) -> None:
    await put_trades(
        database,
        trade(9, time_us=START_US + 5, side=None),
        trade(10, time_us=START_US, price="0.10"),
        trade(101, time_us=START_US + 59_999_999),
        trade(8, time_us=START_US - 1),
        trade(102, time_us=START_US + 60_000_000),
    )
    store = DatabaseCandleStore(database)
    found = await store.trades(EXCHANGE, SYMBOL, START_MS, START_MS + 60_000)
    assert [each.id for each in found] == ["9", "10", "101"]
    assert (found[0].time_us, found[0].side, found[0].price) == (
        START_US + 5,
        None,
        Decimal("100.5"),
    )
    assert str(found[1].price) == "0.10"


async def test_whether_anything_is_stored(database: Database) -> None:
    store = DatabaseCandleStore(database)
    assert await store.holds() == (False, False)
    await put_trades(database, trade(1))
    assert await store.holds() == (True, False)
    await put_candles(database, [candle(0)])
    assert await store.holds() == (True, True)


async def test_ids_that_are_not_stored_are_told_with_their_neighbours(database: Database) -> None:
    ids = [8, 9, 11, 12, 15, 103, 200]
    await put_trades(database, *(trade(number) for number in ids))
    store = DatabaseCandleStore(database)

    async def gaps(after: int, before: int, limit: int = 9) -> list[tuple[int, int]]:
        found = await store.gaps(
            EXCHANGE, SYMBOL, after, before, START_US + after * 1_000, START_US + before * 1_000,
            limit=limit,
        )  # fmt: skip
        assert all(
            (from_us, to_us) == (START_US + left * 1_000, START_US + right * 1_000)
            for left, right, from_us, to_us in found
        )
        return [(left, right) for left, right, _, _ in found]

    assert await gaps(8, 103) == [(9, 11), (12, 15), (15, 103)]
    assert await gaps(8, 103, limit=2) == [(9, 11), (12, 15)]
    assert await gaps(11, 12) == []
    assert await gaps(5, 9) == [(5, 8)]  # what is said to be there need not be stored
    assert await gaps(300, 302) == [(300, 302)]


async def test_the_price_before_a_window_is_that_of_the_newest_trades(database: Database) -> None:
    store = DatabaseCandleStore(database)
    flat = msgspec.structs.replace(candle(2, close="9"), trade_count=0)
    await put_candles(database, [candle(0, close="5"), candle(1, close="6"), flat])

    async def price(minute: int) -> Decimal | None:
        return await store.price_before(EXCHANGE, SYMBOL, START_MS, START_MS + minute * 60_000)

    assert [await price(minute) for minute in (0, 1, 2, 3)] == [None, 5, 6, 6]


async def test_minutes_are_found_by_their_trades_or_their_candle(database: Database) -> None:
    await put_trades(database, trade(1), trade(2, time_us=START_US + 125_000_000))
    await put_candles(database, [candle(0), candle(3), candle(9)])
    store = DatabaseCandleStore(database)
    found = await store.minutes(EXCHANGE, SYMBOL, START_MS, START_MS + 9 * 60_000)
    assert sorted((each - START_MS) // 60_000 for each in found) == [0, 2, 3]
    traded = await store.traded(EXCHANGE, SYMBOL, START_MS, START_MS + 9 * 60_000)
    assert sorted((each - START_MS) // 60_000 for each in traded) == [0, 2]
    assert await store.traded(EXCHANGE, SYMBOL, START_MS, START_MS + 2 * 60_000) == [START_MS]


async def test_minutes_without_a_price_are_told_up_to_the_next_trades(database: Database) -> None:
    flat = [msgspec.structs.replace(candle(n), trade_count=0) for n in (1, 3)]
    wrong = msgspec.structs.replace(candle(4, close="2"), trade_count=0)
    await put_candles(database, [*flat, wrong, candle(6), candle(8, close="3")])
    store = DatabaseCandleStore(database)

    async def unlike(first: int, end: int) -> list[tuple[int, bool]]:
        begin = START_MS + first * 60_000
        found = await store.unlike(
            EXCHANGE, SYMBOL, begin, START_MS + end * 60_000, Decimal("1.50")
        )
        return [((opened - START_MS) // 60_000, has_trades) for opened, has_trades in found]

    assert await unlike(1, 9) == [(2, False), (4, False), (5, False), (6, True)]
    assert await unlike(1, 5) == [(2, False), (4, False)]
    assert await unlike(3, 4) == []
    assert await unlike(3, 3) == []


async def test_symbols_are_told_whose_newest_trade_is_in_no_candle(database: Database) -> None:
    store = DatabaseCandleStore(database)
    assert await store.unclosed() == []
    await put_trades(database, trade(1, time_us=START_US + 60_000_005))
    assert await store.unclosed() == [(EXCHANGE, SYMBOL, START_US + 60_000_005)]
    await sum_symbols(database)
    await put_trades(database, trade(2, time_us=START_US + 70_000_000))
    assert await store.unclosed() == [(EXCHANGE, SYMBOL, START_US + 70_000_000)]
    await put_candles(database, [candle(0)])
    assert len(await store.unclosed()) == 1
    await put_candles(database, [candle(1)])
    assert await store.unclosed() == []


async def test_candles_come_back_with_one_spelling_of_each_number(database: Database) -> None:
    await put_candles(database, [candle(1), candle(0), candle(0, revision=2, close="1.6000")])
    store = DatabaseCandleStore(database)
    found = await store.klines(EXCHANGE, SYMBOL, "1m", START_MS, START_MS + 120_000)
    assert [(each.open_time, each.revision, each.close) for each in found] == [
        (START_MS, 2, "1.6"),
        (START_MS + 60_000, 1, "1.5"),
    ]
    first = found[0]
    assert (first.open, first.high, first.low) == ("1", "200", "0.00000012")
    assert (first.volume, first.quote_volume, first.buy_quote_volume) == ("12.5", "0.1", "0")
    assert (first.close_time, first.closed, first.complete) == (START_MS + 59_999, True, False)
    assert first.simulated is False
    assert not await store.klines(EXCHANGE, SYMBOL, "1m", 0, START_MS)


async def test_a_database_away_is_an_error_one_can_wait_for() -> None:
    async with Database("postgresql://nobody@127.0.0.1:1/none") as nowhere:
        store = DatabaseCandleStore(nowhere)
        with pytest.raises(StoreUnavailableError):
            await store.trades(EXCHANGE, SYMBOL, 0, 1)
        with pytest.raises(StoreUnavailableError):
            await store.klines(EXCHANGE, SYMBOL, "1m", 0, 1)
        assert not await nowhere.ping()
        assert not nowhere.is_up


async def test_a_database_that_hangs_is_told_from_one_that_answers(
    own_postgres: PostgresHandle,
) -> None:
    async with Database(own_postgres.dsn) as database:
        assert await database.ping()
        with frozen(own_postgres.server.pid):
            # The connection stays, and nobody answers a request to cancel either.
            async with asyncio.timeout(PING_TIMEOUT_S + CANCEL_TIMEOUT_S + 2):
                assert not await database.ping()
            assert not database.is_up
        assert await database.ping()


async def test_pages_of_trades_skip_and_repeat_nothing(database: Database) -> None:
    """Seven hundred trades of one millisecond, paged while more come in."""
    await put_trades(database, *(trade(n, time_us=START_US) for n in range(1, 701)))
    store = DatabaseReadStore(database)
    seen: list[str] = []
    before: TradeKey | None = None
    newcomer = 10_000
    while True:
        page = await store.trades(
            SYMBOL, [EXCHANGE], from_ms=None, to_ms=None, before=before, limit=64
        )
        seen += [each.id for each in page]
        if len(page) < 64:
            break
        before = TradeKey(page[-1].time_us, page[-1].id, page[-1].exchange)
        newcomer += 1
        await put_trades(database, trade(newcomer, time_us=START_US + newcomer))
    assert seen == [str(number) for number in range(700, 0, -1)]


async def test_pages_run_over_several_exchanges(database: Database) -> None:
    for exchange in ("binance", "okx", "sim-okx"):
        await put_trades(
            database, *(trade(n, time_us=START_US) for n in range(1, 6)), exchange=exchange
        )
    store = DatabaseReadStore(database)
    seen: list[tuple[str, str]] = []
    before: TradeKey | None = None
    for _ in range(10):
        page = await store.trades(
            SYMBOL, ["binance", "okx"], from_ms=None, to_ms=None, before=before, limit=1
        )
        seen += [(each.id, each.exchange) for each in page]
        before = TradeKey(page[-1].time_us, page[-1].id, page[-1].exchange)
    assert seen == [(str(n), name) for n in range(5, 0, -1) for name in ("okx", "binance")]


async def test_a_range_of_trades_includes_its_start_and_excludes_its_end(
    database: Database,
) -> None:
    await put_trades(database, *(trade(n, time_us=START_US + n * 1_000) for n in range(5)))
    store = DatabaseReadStore(database)
    found = await store.trades(
        SYMBOL, [EXCHANGE], from_ms=START_MS + 1, to_ms=START_MS + 3, before=None, limit=9
    )
    assert [each.id for each in found] == ["2", "1"]


async def test_the_latest_trade_is_the_greatest_not_the_last_to_arrive(
    database: Database,
) -> None:
    await put_trades(database, trade(99), trade(100, time_us=START_US + 99_000))
    await put_trades(database, trade(5))
    store = DatabaseReadStore(database)
    latest = await store.latest_trade(EXCHANGE, SYMBOL)
    assert latest is not None
    assert (latest.id, latest.price) == ("100", "100.5")
    assert await store.latest_trade(EXCHANGE, "NONE") is None


async def test_candles_are_read_from_either_end(database: Database) -> None:
    await put_candles(database, [candle(minute) for minute in range(5)])
    store = DatabaseReadStore(database)

    async def minutes(*, newest_first: bool) -> list[int]:
        found = await store.klines(
            EXCHANGE, SYMBOL, "1m",
            from_ms=START_MS, to_ms=END_MS, limit=2, newest_first=newest_first,
        )  # fmt: skip
        return [(each.open_time - START_MS) // 60_000 for each in found]

    assert await minutes(newest_first=False) == [0, 1]
    assert await minutes(newest_first=True) == [4, 3]
    history = await kline_history(database)(EXCHANGE, SYMBOL, "1m", 3)
    assert [(each.open_time - START_MS) // 60_000 for each, _ in history] == [2, 3, 4]


async def test_a_candle_is_explained_by_its_versions_and_trades(database: Database) -> None:
    await put_candles(database, [candle(0), candle(0, revision=2)])
    prices = {1: "5", 2: "9", 3: "1", 4: "9", 5: "4", 6: "3"}
    await put_trades(database, *(trade(n, price=price) for n, price in prices.items()))
    store = DatabaseReadStore(database)
    versions = await store.kline_revisions(EXCHANGE, SYMBOL, "1m", START_MS)
    assert [each.revision for each in versions] == [1, 2]
    explained = msgspec.structs.replace(
        candle(0), high="9", low="1", first_trade_id="1", last_trade_id="6"
    )
    deciding = await store.deciding_trades(explained)
    assert {name: each.id for name, each in deciding.items()} == {
        "open": "1", "high": "2", "low": "3", "close": "6",
    }  # fmt: skip
    unsaved = msgspec.structs.replace(explained, high="10", last_trade_id="7")
    assert set(await store.deciding_trades(unsaved)) == {"open", "low"}


async def test_trades_of_ranges_are_summed_up_once(database: Database) -> None:
    prices = {1: "5", 2: "9", 3: "1", 4: "9", 5: "4", 6: "3"}
    await put_trades(database, *(trade(n, price=price) for n, price in prices.items()))
    store = DatabaseReadStore(database)
    ranges = [(START_US + 1_000, START_US + 3_000), (START_US + 5_000, START_US + 9_000)]
    held = [trade(3, price="1", time_us=START_US + 3_001), trade(7, price="11")]
    total = await store.range_trades(EXCHANGE, SYMBOL, ranges, held)
    assert total == TradeSum(
        trade_count=4,
        first_id=2,
        last_id=7,
        volume=Decimal(8),
        quote_volume=Decimal(48),
        low=Decimal(1),
        high=Decimal(11),
        price_sum=Decimal(24),
    )
    empty = await store.range_trades(EXCHANGE, SYMBOL, [(0, 1)], [])
    assert (empty.trade_count, empty.volume, empty.low) == (0, Decimal(0), None)


async def test_gaps_are_paged_and_filtered(database: Database) -> None:
    found = []
    for number in range(6):
        event = MarketEvent(
            v=1, exchange=EXCHANGE, symbol=SYMBOL,
            type="gap_filled" if number % 2 else "gap_found",
            time_us=START_US + number // 2, after_id=str(number), before_id=str(number + 2),
            missing=1, from_time=START_MS + number * 10, to_time=START_MS + number * 10 + 5,
            detail="",
        )  # fmt: skip
        row = gap_row(f"market.event.{EXCHANGE}.{SYMBOL}", codec.encode(event), 1)
        assert row is not None
        found.append(row)
    await GapWriter(database).write(found, NO_LOCKS)
    store = DatabaseReadStore(database)

    async def page(
        *, state: str | None = None, from_ms: int | None = None, to_ms: int | None = None,
        before: GapKey | None = None, limit: int = 10,
    ) -> list[GapKey]:  # fmt: skip
        gaps = await store.gaps(
            exchange=EXCHANGE, symbol=SYMBOL, state=state, from_ms=from_ms, to_ms=to_ms,
            before=before, limit=limit,
        )  # fmt: skip
        return [
            GapKey(each.detected_at, each.exchange, each.symbol, each.after_id, each.before_id)
            for each in gaps
        ]

    everything = await page()
    assert [key.after_id for key in everything] == ["5", "4", "3", "2", "1", "0"]
    paged: list[GapKey] = []
    while len(paged) < 6:
        paged += await page(before=paged[-1] if paged else None, limit=2)
    assert paged == everything
    assert [key.after_id for key in await page(state="filled")] == ["5", "3", "1"]
    touching = await page(from_ms=START_MS + 15, to_ms=START_MS + 21)
    assert [key.after_id for key in touching] == ["2", "1"]
    (newest, *_) = await store.gaps(
        exchange=None, symbol=None, state=None, from_ms=None, to_ms=None, before=None, limit=1
    )
    assert (newest.from_time, newest.to_time) == (START_MS + 50, START_MS + 55)
    assert newest.detected_at > datetime(2025, 1, 1, tzinfo=UTC)
