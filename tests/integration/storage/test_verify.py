"""Recomputing candles from trades: clean when they agree, exact when a digit does not."""

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from market_ingestor.bus import codec
from market_ingestor.model import decimals
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS, close_time, open_time
from market_ingestor.model.trade import TextTrade
from market_ingestor.storage.batch import Batch
from market_ingestor.storage.rows import kline_row, trade_rows
from market_ingestor.storage.times import at_ms
from market_ingestor.storage.timescale import Database
from market_ingestor.storage.verify import verify
from market_ingestor.storage.writers import KlineWriter, Locks, TradeWriter
from tests.integration.storage.harness import EXCHANGE, START_US, SYMBOL, batch, trade

pytestmark = pytest.mark.anyio

MONDAY_US = 1_763_337_600_000_000  # 2025-11-17T00:00Z
LATER = datetime(2025, 12, 25, tzinfo=UTC)


def folded(trades: Iterable[TextTrade]) -> list[Kline]:
    """Fold trades to candles of every period, the plainest way there is."""
    windows: dict[tuple[str, int], list[TextTrade]] = defaultdict(list)
    for each in trades:
        for period in PERIOD_MS:
            windows[period, open_time(each.time_us // 1_000, period)].append(each)
    candles = []
    for (period, opened), members in windows.items():
        members.sort(key=lambda each: int(each.id))
        numbers = [(Decimal(each.price), Decimal(each.amount), each.side) for each in members]
        bought = [(price, amount) for price, amount, side in numbers if side == "buy"]
        plain = decimals.plain
        candles.append(
            Kline(
                v=1, exchange=EXCHANGE, symbol=SYMBOL, period=period, open_time=opened,
                close_time=close_time(opened, period),
                open=plain(numbers[0][0]), close=plain(numbers[-1][0]),
                high=plain(max(price for price, _, _ in numbers)),
                low=plain(min(price for price, _, _ in numbers)),
                volume=plain(sum((amount for _, amount, _ in numbers), Decimal(0))),
                quote_volume=plain(sum((p * a for p, a, _ in numbers), Decimal(0))),
                buy_volume=plain(sum((amount for _, amount in bought), Decimal(0))),
                buy_quote_volume=plain(sum((p * a for p, a in bought), Decimal(0))),
                trade_count=len(members), first_trade_id=members[0].id,
                last_trade_id=members[-1].id, closed=True, complete=True, revision=1,
                reason="close",
            )
        )  # fmt: skip
    return candles


def tape() -> list[TextTrade]:
    """Trades over two weeks: ids across a change of length, equal times, 30-digit numbers."""
    chance = random.Random(7)
    trades = []
    for index in range(1_500):
        minute = chance.choice([0, 1, 2, 59, 60, 1_439, 1_440, 5_000, 10_079, 10_080, 15_000])
        trades.append(
            trade(
                99_000 + index,
                price=f"{chance.randrange(1, 10**9)}.{chance.randrange(10**21):021}",
                amount=f"0.{chance.randrange(1, 10**25):025}",
                side=chance.choice(["buy", "sell", None]),
                time_us=MONDAY_US + minute * 60_000_000 + chance.randrange(50) * 1_000_000,
            )
        )
    return trades


async def put(database: Database, trades: list[TextTrade], candles: list[Kline]) -> None:
    if trades:
        held: Batch[int] = Batch()
        subject = f"market.raw.{EXCHANGE}.{SYMBOL}"
        held.add(1, trade_rows(subject, codec.encode(batch(*trades)), 1).rows, now=0.0)
        rows = held.sorted_rows()
        keys, alone = held.slots(rows)
        await TradeWriter(database).write(rows, Locks(keys=keys, alone=alone))
    found = [
        kline_row(f"market.kline.{EXCHANGE}.{SYMBOL}.{each.period}", codec.encode(each), 1)
        for each in candles
    ]
    if found:
        no_locks = Locks(keys=[], alone=[])
        await KlineWriter(database).write(sorted(found, key=lambda row: row.key), no_locks)


async def test_candles_that_are_the_fold_of_their_trades_are_clean(database: Database) -> None:
    candles = folded(tape())
    await put(database, tape(), candles)
    report = await verify(database, now=LATER)
    assert report.differences == []
    assert report.compared == len(candles)


FIELDS = (
    "open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "buy_quote_volume",
    "trade_count",
)  # fmt: skip


async def test_one_digit_changed_by_hand_is_found(database: Database) -> None:
    await put(database, tape(), folded(tape()))
    for period in ("1m", "1w"):
        for field in FIELDS:
            digit = "1" if field == "trade_count" else "0.000000000000000000001"
            change = (
                f"UPDATE market_klines SET {field} = {field} %s {digit} WHERE (period, open_time)"  # noqa: S608 - names from this test
                " = (SELECT period, min(open_time) FROM market_klines WHERE period = $1"
                " GROUP BY period)"
            )
            await database.value(change % "+", period)
            (difference,) = (await verify(database, now=LATER)).differences
            assert (difference.period, difference.fields) == (period, (field,))
            assert difference.open_time == MONDAY_US // 1_000
            assert difference.expected is not None
            assert f"{field} " in str(difference)
            assert difference.expected[field] in str(difference)
            await database.value(change % "-", period)
    for field in ("first_trade_id", "last_trade_id"):
        await database.value(f"UPDATE market_klines SET {field} = '5' WHERE period = '1w'")  # noqa: S608 - as above
    report = await verify(database, now=LATER)
    assert {each.fields for each in report.differences} == {("first_trade_id", "last_trade_id")}


async def test_a_candle_or_a_trade_that_is_missing_is_found(database: Database) -> None:
    trades = tape()
    candles = folded(trades)
    await put(database, trades, candles[1:])
    (missing,) = (await verify(database, now=LATER)).differences
    assert (missing.actual, missing.fields) == (None, ())
    assert "no candle over" in str(missing)
    await put(database, [], candles[:1])
    lonely = next(each for each in folded([trade(1, time_us=START_US)]) if each.period == "1m")
    await put(database, [], [lonely])
    (extra,) = (await verify(database, now=LATER)).differences
    assert extra.expected is None
    assert "trades that are not there" in str(extra)


async def test_a_flat_candle_over_no_trades_is_no_difference(database: Database) -> None:
    trades = [trade(1, time_us=MONDAY_US)]
    (minute,) = [each for each in folded(trades) if each.period == "1m"]
    flat = codec.encode(minute).replace(b'"trade_count":1', b'"trade_count":0')
    opened = str(minute.open_time).encode()
    row = kline_row(
        f"market.kline.{EXCHANGE}.{SYMBOL}.1m",
        flat.replace(opened, str(minute.open_time + 60_000).encode()),
        1,
    )
    await put(database, trades, folded(trades))
    await KlineWriter(database).write([row], Locks(keys=[], alone=[]))
    assert (await verify(database, now=LATER)).differences == []


async def test_only_settled_windows_inside_the_range_count(database: Database) -> None:
    trades = [trade(n, time_us=MONDAY_US + n * 30_000_000) for n in range(8)]  # four minutes
    await put(database, trades, [])

    async def minutes(
        *, now: datetime = LATER, from_ms: int | None = None, to_ms: int | None = None,
        trade_retention_s: float = 0,
    ) -> list[int]:  # fmt: skip
        report = await verify(
            database,
            now=now,
            from_time=None if from_ms is None else at_ms(from_ms),
            to_time=None if to_ms is None else at_ms(to_ms),
            periods=["1m"],
            lateness_s=2,
            trade_retention_s=trade_retention_s,
        )
        return [(each.open_time - MONDAY_US // 1_000) // 60_000 for each in report.differences]

    monday = MONDAY_US // 1_000
    assert await minutes() == [0, 1, 2, 3]
    assert await minutes(from_ms=monday + 60_000, to_ms=monday + 180_000) == [1, 2]
    assert await minutes(from_ms=monday + 1, to_ms=monday + 239_999) == [1, 2]
    third_ended = at_ms(monday + 180_000)
    assert await minutes(now=third_ended + timedelta(seconds=32)) == [0, 1, 2]
    assert await minutes(now=third_ended + timedelta(seconds=31)) == [0, 1]
    kept = (LATER - at_ms(monday + 90_000)).total_seconds()
    assert await minutes(trade_retention_s=kept) == [2, 3]


async def test_a_difference_that_heals_meanwhile_is_not_reported(database: Database) -> None:
    trades = tape()
    candles = folded(trades)
    await put(database, trades, candles[1:])

    class Healing:
        async def settle(self) -> None:
            await put(database, [], candles[:1])

        async def closed_through(self) -> None:
            return None

    assert (await verify(database, now=LATER, progress=Healing())).differences == []


async def test_windows_nobody_has_closed_yet_are_told_from_wrong_ones(database: Database) -> None:
    class Behind:
        async def settle(self) -> None:
            pass

        async def closed_through(self) -> dict[tuple[str, str], int]:
            return {(EXCHANGE, SYMBOL): MONDAY_US // 1_000 + 120_000}

    trades = [trade(n, time_us=MONDAY_US + n * 30_000_000) for n in range(8)]  # four minutes
    candles = [each for each in folded(trades) if each.period == "1m"]
    await put(database, trades, [candles[1], candles[3]])
    await database.value("UPDATE market_klines SET close = close + 1 WHERE open_time > $1",
                         at_ms(MONDAY_US // 1_000 + 150_000))  # fmt: skip
    report = await verify(database, now=LATER, periods=["1m", "1h"], progress=Behind())
    assert [
        ((each.open_time - MONDAY_US // 1_000) // 60_000, each.fields)
        for each in report.differences
    ] == [(0, ()), (3, ("close",))]
    assert [(each.period, each.open_time - MONDAY_US // 1_000) for each in report.unclosed] == [
        ("1h", 0), ("1m", 120_000),
    ]  # fmt: skip


async def test_instruments_can_be_chosen(database: Database) -> None:
    await put(database, tape(), [])
    assert (await verify(database, exchange="okx", now=LATER)).compared == 0
    assert (await verify(database, symbol="ETHUSDT", now=LATER)).compared == 0
    chosen = await verify(database, exchange=EXCHANGE, symbol=SYMBOL, now=LATER)
    assert chosen.compared == len(folded(tape()))
