"""Prices over any span equal what SQL computes from the trades alone."""

import asyncio
import random
import time
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.model import decimals
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.trade import FeedPosition, Mark, Trade, TradeBatch
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import Table, api, eventually, get, moment
from tests.integration.push.harness import Market, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000

FILL_TRADES = """
INSERT INTO market_trades (exchange, symbol, trade_id, time, price, amount, side, received_at)
SELECT $1, $2, id, timestamptz 'epoch' + us * interval '1 microsecond', price::numeric,
    amount::numeric, 'buy', now()
FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[]) AS t(id, us, price, amount)
"""
# Every closed window of every period, folded by SQL; `complete` as told.
FOLD = """
INSERT INTO market_klines (exchange, symbol, period, open_time, open, high, low, close, volume,
    quote_volume, buy_volume, buy_quote_volume, trade_count, first_trade_id, last_trade_id,
    complete, revision, reason)
SELECT exchange, symbol, period, opened,
    (array_agg(price ORDER BY length(trade_id), trade_id))[1], max(price), min(price),
    (array_agg(price ORDER BY length(trade_id) DESC, trade_id DESC))[1],
    sum(amount), sum(price * amount), 0, 0, count(*),
    (array_agg(trade_id ORDER BY length(trade_id), trade_id))[1],
    (array_agg(trade_id ORDER BY length(trade_id) DESC, trade_id DESC))[1], true, 1, 'close'
FROM market_trades
CROSS JOIN unnest($1::text[], $2::interval[]) AS periods(period, length)
CROSS JOIN LATERAL (
    SELECT date_bin(length, time, timestamptz '1970-01-05 00:00:00+00') AS opened
) AS windows
WHERE opened + length <= $3
GROUP BY exchange, symbol, period, opened
"""
EXPECTED = """
SELECT count(*), max(price), min(price), sum(price * amount), sum(amount), avg(price)
FROM market_trades
WHERE exchange = ANY ($1::text[]) AND symbol = 'BTCUSDT' AND time > $2 AND time <= $3
"""


class Recorded:
    """Trades of ten days up to now: in the tables, the last of them on the bus only."""

    def __init__(self, table: Table) -> None:
        self.database: Database = table.database
        self.now_us = time.time_ns() // 1_000
        self._random = random.Random(7)

    def trades(self, count: int, span_us: int, first_id: int) -> list[Trade[str]]:
        times = sorted(self.now_us - int(self._random.random() * span_us) for _ in range(count))
        return [
            Trade[str](
                id=str(first_id + n),
                price=f"{self._random.randrange(1, 10**8) / 10**4:.4f}",
                amount=f"{self._random.randrange(1, 10**6) / 10**5:.5f}",
                side="buy",
                time_us=at,
            )
            for n, at in enumerate(times)
        ]

    async def save(self, exchange: str, trades: list[Trade[str]]) -> None:
        columns = zip(*((t.id, t.time_us, t.price, t.amount) for t in trades), strict=True)
        days = [moment(each.time_us // 1_000) for each in trades]
        await self.database.fetch("SELECT market_ensure_partitions('market_trades', $1)", days)
        await self.database.fetch(FILL_TRADES, exchange, "BTCUSDT", *map(list, columns))

    async def fold(self, closed_to_us: int) -> None:
        months = [moment(self.now_us // 1_000 - days * DAY_MS) for days in range(0, 40, 7)]
        await self.database.fetch("SELECT market_ensure_partitions('market_klines', $1)", months)
        lengths = [moment(each) - moment(0) for each in PERIOD_MS.values()]
        await self.database.fetch(
            FOLD, list(PERIOD_MS), lengths, moment(closed_to_us // 60_000_000 * 60_000)
        )

    async def expected(self, exchanges: list[str], answer: Any) -> tuple[Any, ...]:
        (row,) = await self.database.fetch(
            EXPECTED, exchanges, moment(answer["from"]), moment(answer["to"])
        )
        return tuple(row)


async def mark(bus: Market, exchange: str = "binance") -> None:
    """Say that a feed is alive now."""
    alive = Mark(
        v=1,
        exchange=exchange,
        feed="i0-1",
        received_us=time.time_ns() // 1_000,
        symbols={"BTCUSDT": FeedPosition(n=1, id="1")},
        end=False,
    )
    await bus.bus.client.request(subjects.mark(exchange), codec.encode(alive), timeout=5)


async def publish(
    bus: Market, exchange: str, trades: list[Trade[str]], n: int = 1, prev_id: str | None = None
) -> None:
    batch = TradeBatch[str](
        v=1,
        exchange=exchange,
        symbol="BTCUSDT",
        feed="i0-1",
        n=n,
        source="ws",
        received_us=time.time_ns() // 1_000,
        prev_id=prev_id,
        trades=trades,
    )
    subject = subjects.raw(exchange, "BTCUSDT")
    await bus.bus.client.request(subject, codec.encode(batch), timeout=5)


async def aggregate(client: httpx2.AsyncClient, where: str, period: str) -> Any:
    return await get(client, f"/prices/aggregate/{where}BTCUSDT", period=period)


def average(quote_volume: Decimal, volume: Decimal) -> str | None:
    return decimals.average(quote_volume, volume)


PERIODS = ["30s", "1m", "90s", "5m", "1h30m", "1d", "2d3h", "1w", "9d", "40d"]


async def test_prices_of_any_span_equal_the_fold_of_its_trades(
    nats_server: NatsHandle, table: Table
) -> None:
    recorded = Recorded(table)
    await recorded.save("binance", recorded.trades(3_000, 10 * DAY_MS * 1_000, 1_000))
    await recorded.save("binance", recorded.trades(400, 600_000_000, 5_000))
    await recorded.save("kraken", recorded.trades(500, 10 * DAY_MS * 1_000, 1))
    await recorded.fold(recorded.now_us - 2_000_000)
    for exchange in ("binance", "kraken"):
        await table.symbol(exchange=exchange)
    async with market(nats_server.url) as bus:
        fresh = recorded.trades(50, 2_000_000, 9_000)
        await publish(bus, "binance", fresh)
        async with api(nats_server.url, table.store) as client:
            answers = {p: await aggregate(client, "binance/", p) for p in PERIODS}
            overall = await aggregate(client, "", "9d")
            highest = await get(client, "/prices/highest/BTCUSDT", period="9d")
            lowest = await get(client, "/prices/lowest/BTCUSDT", exchange="kraken", period="9d")
            mean = await get(client, "/prices/average/binance/btc-usdt", period="2d")
    # What was on the bus alone is stored now: the same trades, found by other means.
    await recorded.save("binance", fresh)
    for period, answer in answers.items():
        count, high, low, quote, volume, _ = await recorded.expected(["binance"], answer)
        assert answer["trade_count"] == count, period
        assert (Decimal(answer["max_price"]), Decimal(answer["min_price"])) == (high, low), period
        assert answer["average_price"] == average(quote, volume), period
        assert answer["exchange"] == "binance"
    count, high, low, quote, volume, _ = await recorded.expected(["binance", "kraken"], overall)
    assert (overall["trade_count"], overall["exchange"]) == (count, None)
    assert overall["average_price"] == average(quote, volume)
    assert Decimal(highest["price"]) == high
    assert lowest["exchange"] == "kraken"
    count, *_, quote, volume, _ = await recorded.expected(["binance"], mean)
    assert (mean["trade_count"], mean["price"]) == (count, average(quote, volume))
    assert mean["to"] - mean["from"] == 2 * DAY_MS


async def test_long_spans_cost_no_more_for_more_trades(
    nats_server: NatsHandle, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many trades a month has, only those of the ragged ends are read."""
    recorded = Recorded(table)
    await recorded.save("binance", recorded.trades(20_000, 30 * DAY_MS * 1_000, 1))
    await recorded.fold(recorded.now_us - 2_000_000)
    await table.symbol()
    asked: list[int] = []
    real = table.store.range_trades

    async def noted(exchange: str, symbol: str, ranges: Any, held: Any) -> Any:
        asked.extend(end - start for start, end in ranges)
        return await real(exchange, symbol, ranges, held)

    monkeypatch.setattr(table.store, "range_trades", noted)
    candles: list[int] = []
    real_klines = table.store.range_klines

    async def counted(*args: Any) -> Any:
        found = await real_klines(*args)
        candles.append(len(found))
        return found

    monkeypatch.setattr(table.store, "range_klines", counted)
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        answer = await aggregate(client, "binance/", "29d")
    assert answer["trade_count"] > 15_000
    assert sum(candles) < 150
    assert sum(asked) < 15 * 60_000_000  # a quiet symbol's newest candle may be minutes old


async def test_span_is_complete_only_when_nothing_is_known_to_be_missing(
    nats_server: NatsHandle, table: Table
) -> None:
    recorded = Recorded(table)
    await recorded.save("binance", recorded.trades(500, 3_600_000_000, 1))
    await recorded.fold(recorded.now_us - 2_000_000)
    await table.symbol(at_ms=recorded.now_us // 1_000 - DAY_MS)
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:

        async def is_complete(period: str) -> bool:
            return bool((await aggregate(client, "binance/", period))["complete"])

        assert not await is_complete("5m")  # no feed was heard

        async def alive() -> bool:
            await mark(bus)
            return await is_complete("5m")

        await eventually(alive)
        assert not await is_complete("2d")  # nothing was recorded then
        older_ms = recorded.now_us // 1_000 - 600_000
        await recorded.database.fetch(
            "INSERT INTO market_gaps (exchange, symbol, detected_at, after_id, before_id,"
            " from_time, to_time, missing, state)"
            " VALUES ('binance', 'BTCUSDT', $1, '1', '9', $1, $1, 7, 'unfillable')",
            moment(older_ms),
        )
        await mark(bus)
        assert await is_complete("5m")
        assert not await is_complete("15m")
        await recorded.database.fetch("UPDATE market_gaps SET state = 'filled'")
        await recorded.database.fetch(
            "UPDATE market_klines SET complete = false WHERE period = '1m' AND open_time <= $1"
            " AND open_time > $1 - interval '1 minute'",
            moment(recorded.now_us // 1_000 - 240_000),
        )
        await mark(bus)
        assert not await is_complete("5m")


async def test_span_is_not_complete_before_its_trades_are_there(
    nats_server: NatsHandle, table: Table
) -> None:
    """A hole nobody has reported yet, and trades that wait on their way, are seen by ids."""
    recorded = Recorded(table)
    await recorded.save("binance", recorded.trades(500, 3_600_000_000, 1))
    await recorded.fold(recorded.now_us - 2_000_000)
    await table.symbol(at_ms=recorded.now_us // 1_000 - DAY_MS)
    fresh = recorded.trades(30, 2_000_000, 501)
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:

        async def answer(count: int) -> bool:
            """Return whether the span of an answer with so many fresh trades is complete."""
            while True:
                await mark(bus)
                found = await aggregate(client, "binance/", "5m")
                stored, *_ = await recorded.expected(["binance"], found)
                if found["trade_count"] == stored + count:
                    return bool(found["complete"])

        async def is_complete(count: int) -> bool:
            return await answer(count)

        async with asyncio.timeout(30):
            await eventually(lambda: is_complete(0))
            await publish(bus, "binance", fresh[:10])
            assert await answer(10)
            await publish(bus, "binance", fresh[20:], n=2, prev_id=fresh[9].id)
            assert not await answer(20)
            await publish(bus, "binance", fresh[10:20], n=3, prev_id=fresh[29].id)
            assert await answer(30)
            # Where feeds name no neighbours ids prove nothing: it had to be heard all the time.
            await publish(bus, "binance", [fresh[0]], n=4)
            await eventually(lambda: _is_not(is_complete(30)))
            await publish(bus, "binance", [fresh[0]], n=5, prev_id=fresh[1].id)
            await eventually(lambda: is_complete(30))
            # Of the minute that the start of the span cuts, a trade is not in the table yet.
            first_ms = (recorded.now_us // 1_000 - 300_000) // 60_000 * 60_000
            await recorded.database.fetch(
                "UPDATE market_klines SET trade_count = trade_count + 1 WHERE period = '1m'"
                " AND open_time >= $1 AND open_time <= $2",
                moment(first_ms),
                moment(first_ms + 120_000),
            )
            await mark(bus)
            assert not (await aggregate(client, "binance/", "5m"))["complete"]


async def _is_not(condition: Awaitable[bool]) -> bool:
    return not await condition


async def test_average_without_volume_is_the_plain_mean(
    nats_server: NatsHandle, table: Table
) -> None:
    recorded = Recorded(table)
    trades = [
        Trade[str](id=str(n), price=price, amount="0", side=None, time_us=recorded.now_us - back)
        for n, price, back in ((1, "1", 200_000_000), (2, "2", 199_000_000), (3, "4", 1_000_000))
    ]
    await recorded.save("binance", trades)
    await recorded.fold(recorded.now_us - 2_000_000)
    await table.symbol()
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        answer = await get(client, "/prices/average/BTCUSDT", period="5m")
        assert (answer["price"], answer["trade_count"]) == ("2.3333333333333333333", 3)


async def test_what_was_not_traded_and_what_is_no_period(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol()
    await table.trade("7", int(time.time() * 1_000) - 3_600_000)
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        for kind in ("highest", "lowest", "average", "aggregate"):
            answer = await client.get(f"/prices/{kind}/BTCUSDT")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_data")
            answer = await client.get(f"/prices/{kind}/NOPE")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_symbol")
        answer = await client.get("/prices/latest/BTCUSDT?period=1m")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_data")
        latest = await get(client, "/prices/latest/BTCUSDT")  # however old; the minute is counted
        assert (latest["price"], latest["trade_count"], latest["period"]) == ("7.50", 0, "1m")
        assert latest["to"] - latest["from"] == 60_000
        assert latest["complete"] is False
        latest = await get(client, "/prices/latest/BTCUSDT", period="2h")
        assert (latest["price"], latest["trade_count"], latest["period"]) == ("7.50", 1, "2h")
        for bad in ("0s", "1", "m", "5m1h", "1h 5m", "-1m", "1e9d", "9999999d", "1M", "\u0663m"):
            answer = await client.get("/prices/highest/BTCUSDT", params={"period": bad})
            assert answer.status_code == 400, bad


async def test_spans_need_the_database_and_the_latest_price_does_not(
    nats_server: NatsHandle,
) -> None:
    async with (
        market(nats_server.url) as bus,
        Database("postgresql://127.0.0.1:1/none") as away,
    ):
        table = Table(away)
        await publish(bus, "binance", Recorded(table).trades(3, 1_000_000, 1))
        async with api(nats_server.url, table.store) as client:
            answer = await client.get("/prices/highest/BTCUSDT")
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            latest = await get(client, "/prices/latest/BTCUSDT")
            assert (latest["exchange"], latest["period"]) == ("binance", "1m")
            assert (latest["trade_count"], latest["complete"]) == (None, None)
