"""Binance's REST interface over real HTTP, a real nats-server and a real PostgreSQL."""

import time
from typing import Any

import httpx2
import pytest

from market_ingestor.access import AccessPolicy
from market_ingestor.api.binance.endpoints import PATHS
from market_ingestor.bus import codec, subjects
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import close_time, open_time
from market_ingestor.model.trade import FeedPosition, Mark, Trade, TradeBatch
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import Table, api, eventually, get, moment
from tests.integration.push.harness import MINUTE, START, Market, kline, market
from tests.support.servers import NatsHandle
from tests.unit.model.test_listing import listing

pytestmark = pytest.mark.anyio

V3 = "/binance/kraken/api/v3"


def minute(n: int, first: int | None = None, last: int | None = None, **fields: Any) -> Kline:
    """Return the candle of minute ``n`` of BTC/USD on Kraken; ten ids from n * 10 by default."""
    ids = {
        "first_trade_id": str(n * 10 if first is None else first),
        "last_trade_id": str(n * 10 + 9 if last is None else last),
    }
    return kline(n, exchange="kraken", symbol="BTCUSD", **(ids | fields))


def opened(rows: list[list[Any]]) -> list[tuple[int, int]]:
    """Return minute and number of trades of rows of candles."""
    return [((row[0] - START) // MINUTE, row[8]) for row in rows]


async def failed(client: httpx2.AsyncClient, path: str, **params: Any) -> tuple[int, int]:
    """Return status and code of a refusal."""
    answer = await client.get(path, params=params)
    body = answer.json()
    assert body.keys() == {"code", "msg"}, body
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["code"]


async def test_candles_have_binances_columns_and_ranges(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol("BTCUSD", "kraken")
    await table.klines(*(minute(n) for n in range(10)))
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        wanted = {"symbol": "BTCUSD", "interval": "1m"}
        (row,) = await get(client, f"{V3}/klines", **wanted, limit=1, startTime=START)
        assert row == [
            START, "67123.45", "67150", "67100.1", "67149.99", "12.5", START + 59_999,
            "839123.12", 345, "6.25", "419561.56", "0",
        ]  # fmt: skip
        page = await get(client, f"{V3}/klines", **wanted, limit=3)
        assert opened(page) == [(7, 345), (8, 345), (9, 345)]  # without times the newest
        page = await get(client, f"{V3}/uiKlines", **wanted, startTime=0, limit=1)
        assert opened(page) == [(0, 345)]  # the oldest there is
        page = await get(client, f"{V3}/klines", **wanted, startTime=START + 1, limit=2)
        assert opened(page) == [(1, 345), (2, 345)]
        both = {"startTime": START + 2 * MINUTE, "endTime": START + 4 * MINUTE}
        assert opened(await get(client, f"{V3}/klines", **wanted, **both)) == [
            (2, 345), (3, 345), (4, 345),
        ]  # fmt: skip
        micro = {name: value * 1_000 for name, value in both.items()}
        assert opened(await get(client, f"{V3}/klines", **wanted, **micro)) == [
            (2, 345), (3, 345), (4, 345),
        ]  # fmt: skip
        page = await get(client, f"{V3}/klines", **wanted, endTime=START + 4 * MINUTE - 1, limit=2)
        assert opened(page) == [(2, 345), (3, 345)]
        backwards = {"startTime": START + MINUTE, "endTime": START}
        assert await get(client, f"{V3}/klines", **wanted, **backwards) == []
        (row,) = await get(client, f"{V3}/klines", **wanted, limit=1, timeUnit="MICROSECOND")
        assert (row[0], row[6]) == ((START + 9 * MINUTE) * 1_000, (START + 10 * MINUTE) * 1_000 - 1)
        answer = await client.get(
            f"{V3}/klines", params=wanted, headers={"X-MBX-TIME-UNIT": "microsecond"}
        )
        assert answer.json()[-1] == row
        for spelling in ("btc-usd", "BTC/USD", "BTC_USD"):
            page = await get(client, f"{V3}/klines", symbol=spelling, interval="1m", limit=1)
            assert opened(page) == [(9, 345)]


GAP = """
INSERT INTO market_gaps (exchange, symbol, detected_at, after_id, before_id, from_time, to_time,
    missing, state) VALUES ('kraken', 'BTCUSD', $1, $3, $4, $1, $2, 1, $5)
"""


async def gap(
    database: Database, from_ms: int, to_ms: int, state: str, ids: tuple[str, str] = ("1", "9")
) -> None:
    await database.fetch(GAP, moment(from_ms), moment(to_ms), *ids, state)


async def test_a_watched_minute_without_trades_is_flat_and_another_has_no_row(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol("BTCUSD", "kraken")
    # 0 and 3 continue each other; before 6 ids are missing, of a hole still open; before 9 the
    # venue had none; before 12 nobody knows why.
    await table.klines(
        minute(0, 100, 109, close="5"), minute(3, 110, 119), minute(6, 130, 139),
        minute(9, 150, 159), minute(12, 170, 179), minute(15, 180, 189),
    )  # fmt: skip
    await gap(table.database, START + 4 * MINUTE, START + 6 * MINUTE, "open", ("119", "130"))
    await gap(table.database, START + 7 * MINUTE, START + 9 * MINUTE, "filled", ("139", "150"))
    expected = [
        (0, 345), (1, 0), (2, 0), (3, 345), (6, 345), (7, 0), (8, 0), (9, 345), (12, 345),
        (13, 0), (14, 0), (15, 345),
    ]  # fmt: skip
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        wanted = {"symbol": "BTCUSD", "interval": "1m"}
        assert opened(await get(client, f"{V3}/klines", **wanted)) == expected
        from_start = await get(client, f"{V3}/klines", **wanted, startTime=0)
        assert opened(from_start) == expected
        assert from_start[1] == [
            START + MINUTE, "5", "5", "5", "5", "0", START + 2 * MINUTE - 1, "0", 0, "0", "0", "0",
        ]  # fmt: skip
        for limit in range(1, len(expected) + 2):
            page = await get(client, f"{V3}/klines", **wanted, limit=limit)
            assert opened(page) == expected[-limit:]
            page = await get(client, f"{V3}/klines", **wanted, startTime=START, limit=limit)
            assert opened(page) == expected[:limit]
        for first in range(16):
            for last in range(first, 16):
                times = {"startTime": START + first * MINUTE, "endTime": START + last * MINUTE}
                page = await get(client, f"{V3}/klines", **wanted, **times)
                assert opened(page) == [each for each in expected if first <= each[0] <= last]


def marked(received_us: int, exchange: str = "kraken", symbol: str = "BTCUSD") -> Mark:
    position = FeedPosition(n=1, id="1")
    return Mark(
        v=1, exchange=exchange, feed="i0-1", received_us=received_us, symbols={symbol: position},
        end=False,
    )  # fmt: skip


async def test_a_quiet_market_is_flat_up_to_now_while_its_feed_is_up(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol("BTCUSD", "kraken")
    now = open_time(time.time_ns() // 1_000_000, "1m")
    last = minute((now - START) // MINUTE - 3, 100, 109)
    await table.klines(last)
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        wanted = {"symbol": "BTCUSD", "interval": "1m"}

        async def rows() -> list[tuple[int, int]]:
            return [
                ((row[0] - last.open_time) // MINUTE, row[8])
                for row in await get(client, f"{V3}/klines", **wanted)
            ]

        assert await rows() == [(0, 345)]  # no feed is up

        async def is_flat() -> bool:
            mark = marked(time.time_ns() // 1_000)
            await bus.bus.client.request(subjects.mark("kraken"), codec.encode(mark), timeout=5)
            return (await rows())[:4] == [(0, 345), (1, 0), (2, 0), (3, 0)]

        await eventually(is_flat)
        # A trade that no candle counts yet: the minutes before it are not known to be quiet.
        await publish(bus, "110", time.time_ns() // 1_000)

        async def is_open() -> bool:
            return await rows() == [(0, 345)]

        await eventually(is_open)


async def publish(bus: Market, trade_id: str, time_us: int, price: str = "7") -> None:
    batch = TradeBatch[str](
        v=1, exchange="kraken", symbol="BTCUSD", feed="i0-1", n=1, source="ws",
        received_us=time_us, prev_id=None,
        trades=[Trade[str](id=trade_id, price=price, amount="2", side="sell", time_us=time_us)],
    )  # fmt: skip
    await bus.trades(batch)


async def test_open_candles_are_there(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol("BTCUSD", "kraken")
    now = open_time(time.time_ns() // 1_000_000, "1m")
    n = (now - START) // MINUTE
    await table.klines(minute(n - 1))
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        await bus.open(minute(n, closed=False, trade_count=7))

        async def is_there() -> bool:
            page = await get(client, f"{V3}/klines", symbol="BTCUSD", interval="1m", limit=2)
            return opened(page) == [(n - 1, 345), (n, 7)]

        await eventually(is_there)


async def test_refusals_are_binances(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol("BTCUSD", "kraken")
    await table.klines(minute(0))
    good = {"symbol": "BTCUSD", "interval": "1m"}
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, -1102),
        ({"symbol": "BTCUSD"}, -1102),
        ({"interval": "1m"}, -1102),
        (good | {"symbol": ""}, -1105),
        (good | {"symbol": "NOPE"}, -1121),
        (good | {"symbol": "-"}, -1121),
        (good | {"symbol": "BTC USD"}, -1100),
        (good | {"symbol": "BTC*"}, -1100),
        (good | {"symbol": "\u00e9"}, -1100),
        (good | {"symbol": "B" * 65}, -1100),
        (good | {"symbol": "B" * 5_000}, -1108),
        (good | {"interval": "7m"}, -1120),
        (good | {"interval": "1M"}, -1120),
        (good | {"limit": "x"}, -1100),
        (good | {"limit": "-1"}, -1100),
        (good | {"limit": "1.5"}, -1100),
        (good | {"limit": "\u0661"}, -1100),
        (good | {"limit": "0"}, -1130),
        (good | {"startTime": "now"}, -1100),
        (good | {"endTime": "-1"}, -1100),
        (good | {"endTime": "1" * 21}, -1100),
        (good | {"timeZone": "x"}, -1100),
        (good | {"timeZone": "99"}, -1130),
        (good | {"timeUnit": "NANOSECOND"}, -1194),
        (good | {"foo": "1"}, -1104),
    ]
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        for params, code in cases:
            assert await failed(client, f"{V3}/klines", **params) == (400, code), params
        twice = await client.get(f"{V3}/klines?symbol=BTCUSD&interval=1m&limit=1&limit=2")
        assert (twice.status_code, twice.json()["code"]) == (400, -1101)
        assert await failed(client, f"{V3}/ping", x="1") == (400, -1101)
        assert len(await get(client, f"{V3}/klines", **good, timeZone="5:30")) == 1
        for interval, zone in (("1h", "5:30"), ("1d", "8"), ("1w", "-1")):
            params = good | {"interval": interval, "timeZone": zone}
            assert await failed(client, f"{V3}/klines", **params) == (400, -1130)
        assert await failed(client, f"{V3}/ticker/24hr", symbol="BTCUSD", type="X") == (400, -1139)
        ids = {"symbol": "BTCUSD", "fromId": "1", "startTime": "1"}
        assert await failed(client, f"{V3}/aggTrades", **ids) == (400, -1128)
        assert await failed(client, f"{V3}/aggTrades", symbol="BTCUSD", fromId=2**63) == (
            400, -1108,
        )  # fmt: skip
        for symbols, code in (
            ("[", -1100), ("[]", -1130), ('["NOPE"]', -1121), ('["BTCUSD","BTCUSD"]', -1151),
            ("[1]", -1100), ('["a b"]', -1100), ("[" * 4_000, -1100),
        ):  # fmt: skip
            for path in ("exchangeInfo", "ticker/price", "ticker/24hr"):
                assert await failed(client, f"{V3}/{path}", symbols=symbols) == (400, code), symbols
        both = {"symbol": "BTCUSD", "symbols": '["BTCUSD"]'}
        assert await failed(client, f"{V3}/ticker/price", **both) == (400, -1128)
        assert await failed(client, f"{V3}/depth", symbol="BTCUSD") == (404, -1020)
        for path in ("api/v3/exchangeInfo", "api/v3/ping", "api/v3/time", "fapi/v1/exchangeInfo"):
            assert await failed(client, f"/binance/nowhere/{path}") == (404, -1020)
        assert await failed(client, "/binance/NO.WHERE/api/v3/ping") == (404, -1020)
        assert await failed(client, "/binance/nowhere/api/v3/klines", **good) == (400, -1121)
        assert await failed(client, "/api/v3/account") == (404, -1020)
        assert await failed(client, f"{V3}/ping/") == (404, -1020)
        assert await failed(client, f"{V3}/klines/", **good) == (404, -1020)
        answer = await client.post(f"{V3}/klines")
        assert (answer.status_code, answer.json()["code"]) == (405, -1020)
        answer = await client.get("/api/v1/nothing")
        assert answer.json()["error"]["code"] == "not_found"  # our own paths keep our shape
    assert all(path.startswith("/") for path in PATHS)


async def test_access_rates_and_a_database_away_are_told_in_the_same_shape(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol("BTCUSD", "kraken")
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store, access=AccessPolicy(tokens=("secret",))) as client,
    ):
        assert await failed(client, f"{V3}/ping") == (401, -2015)
        answer = await client.get(f"{V3}/ping", headers={"X-MBX-APIKEY": "secret"})
        assert (answer.status_code, answer.json()) == (200, {})
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store, rate_limit_rps=0.5) as client,
    ):
        assert await get(client, f"{V3}/ping") == {}
        assert await failed(client, f"{V3}/ping") == (429, -1003)
        answer = await client.get(f"{V3}/ping")
        assert int(answer.headers["Retry-After"]) >= 1
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    async with (
        away,
        market(nats_server.url),
        api(nats_server.url, Table(away).store) as client,
    ):
        good = {"symbol": "BTCUSD", "interval": "1m"}
        assert await failed(client, f"{V3}/klines", **good) == (503, -1001)
        assert await failed(client, f"{V3}/exchangeInfo") == (503, -1001)
        assert await get(client, f"{V3}/ping") == {}


async def test_trades_are_read_forward_from_any_id(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol("BTCUSD", "kraken")
    for n in range(60):
        if n != 31:  # the venue skipped an id
            await table.trade(str(n + 95), START + n * 2_000, symbol="BTCUSD", exchange="kraken")
    await table.klines(*(minute(n, 95 + n * 30, 124 + n * 30) for n in range(1)))
    async with market(nats_server.url), api(nats_server.url, table.store) as client:

        async def ids(path: str, **params: Any) -> list[int]:
            page = await get(client, f"{V3}/{path}", symbol="BTCUSD", **params)
            return [each["id" if path != "aggTrades" else "a"] for each in page]

        everything = [n for n in range(95, 155) if n != 126]
        assert await ids("trades") == everything
        assert await ids("trades", limit=3) == [152, 153, 154]
        assert await ids("historicalTrades", limit=2) == [153, 154]
        for path in ("historicalTrades", "aggTrades"):
            assert await ids(path, fromId=0, limit=3) == [95, 96, 97]
            assert await ids(path, fromId=99, limit=3) == [99, 100, 101]
            assert await ids(path, fromId=126, limit=2) == [127, 128]
            assert await ids(path, fromId=154) == [154]
            assert await ids(path, fromId=155) == []
            assert await ids(path, fromId=2**63 - 1) == []
            for first in everything:
                assert await ids(path, fromId=first) == [
                    each for each in everything if each >= first
                ]
        assert await ids("aggTrades", startTime=START + 2_000, limit=2) == [96, 97]
        assert await ids("aggTrades", startTime=START + 1, endTime=START + 4_000) == [96, 97]
        assert await ids("aggTrades", endTime=START + 4_000, limit=2) == [96, 97]
        (trade,) = await get(client, f"{V3}/historicalTrades", symbol="BTCUSD", fromId=95, limit=1)
        assert trade == {
            "id": 95, "price": "95.50", "qty": "0.10", "quoteQty": "9.55", "time": START,
            "isBuyerMaker": False, "isBestMatch": True,
        }  # fmt: skip
        (trade,) = await get(
            client, f"{V3}/aggTrades", symbol="BTCUSD", fromId=95, limit=1, timeUnit="MICROSECOND"
        )
        assert trade == {
            "a": 95, "p": "95.50", "q": "0.10", "f": 95, "l": 95, "T": START * 1_000, "m": False,
            "M": True,
        }  # fmt: skip


async def test_going_on_from_the_last_id_repeats_only_that_one(
    nats_server: NatsHandle, table: Table
) -> None:
    """Also where ids and times disagree, and with hundreds in one millisecond."""
    await table.symbol("BTCUSD", "kraken")
    for n in range(120):
        at = START + (0 if n < 80 else 1) + (5 if n % 7 == 0 else 0)
        await table.trade(str(n + 1), at, symbol="BTCUSD", exchange="kraken")
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        seen: list[int] = []
        first = 0
        while True:
            page = await get(client, f"{V3}/aggTrades", symbol="BTCUSD", fromId=first, limit=9)
            rows = [each["a"] for each in page]
            if seen:
                assert rows[0] == seen[-1]
                rows = rows[1:]
            seen += rows
            if len(page) < 9:
                break
            first = seen[-1]
        assert sorted(seen) == list(range(1, 121))


async def test_instruments_are_told_as_the_venue_lists_them(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol("ETHUSD", "kraken")
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        bucket = await bus.bus.bucket(subjects.INSTRUMENTS_BUCKET)
        for each in (listing(), listing(symbol="XRPUSD", base="XRP", state="inactive")):
            await bucket.put(f"kraken.{each.symbol}", codec.encode(each))

        async def info() -> Any:
            found = await get(client, f"{V3}/exchangeInfo")
            return len(found["symbols"]) == 3 and found

        found = await eventually(info)
        bitcoin, ether, ripple = found["symbols"]
        assert bitcoin == {
            "symbol": "BTCUSD", "status": "TRADING", "baseAsset": "BTC", "baseAssetPrecision": 8,
            "quoteAsset": "USD", "quotePrecision": 8, "quoteAssetPrecision": 8,
            "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0", "maxPrice": "0", "tickSize": "0.1"},
                {
                    "filterType": "LOT_SIZE", "minQty": "0.00000001", "maxQty": "92233720368",
                    "stepSize": "0.00000001",
                },
            ],
            "permissions": ["SPOT"], "permissionSets": [["SPOT"]],
        }  # fmt: skip
        assert (ether["baseAsset"], ether["quoteAsset"], ether["filters"]) == ("ETHUSD", "", [])
        assert ripple["status"] == "BREAK"
        assert (found["timezone"], found["rateLimits"]) == ("UTC", [])
        assert abs(found["serverTime"] - time.time() * 1_000) < 60_000
        for params, names in (
            ({"symbol": "XBT/USD"}, ["BTCUSD"]),
            ({"symbols": '["ETHUSD","BTCUSD"]'}, ["ETHUSD", "BTCUSD"]),
            ({"symbolStatus": "TRADING"}, ["BTCUSD", "ETHUSD"]),
            ({"symbolStatus": "BREAK"}, ["XRPUSD"]),
            ({"permissions": "MARGIN"}, []),
            ({"permissions": '["SPOT","MARGIN"]', "showPermissionSets": "false"},
             ["BTCUSD", "ETHUSD", "XRPUSD"]),
        ):  # fmt: skip
            page = await get(client, f"{V3}/exchangeInfo", **params)
            assert [each["symbol"] for each in page["symbols"]] == names, params
        for path in ("fapi", "dapi"):
            for prefix in ("", "/binance/kraken"):
                assert await get(client, f"{prefix}/{path}/v1/exchangeInfo") == {"symbols": []}
        assert (await get(client, f"{V3}/time"))["serverTime"] >= found["serverTime"]
        micro = await get(client, f"{V3}/time", timeUnit="MICROSECOND")
        assert micro["serverTime"] > found["serverTime"] * 1_000


async def test_tickers_sum_up_a_day_of_candles(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol("BTCUSD", "kraken")
    await table.symbol("ETHUSD", "kraken")
    now = time.time_ns() // 1_000_000
    this_minute = open_time(now, "1m")
    yesterday = this_minute - 24 * 3_600_000
    n = (this_minute - START) // MINUTE
    hour = open_time(now, "1h") - 5 * 3_600_000
    common: dict[str, Any] = {"volume": "2", "quote_volume": "20", "trade_count": 10}
    await table.klines(
        minute(n - 1441, high="999999", **common),  # older than a day
        minute(n - 1438, 1, 5, open="8", high="9", low="7", close="8", **common),
        minute(
            (hour - START) // MINUTE, 6, 9, period="1h", open_time=hour,
            close_time=close_time(hour, "1h"), open="8", high="12", low="10", close="11", **common,
        ),
        minute((hour - START) // MINUTE, 6, 9, high="888888", **common),  # within that hour
        minute(n - 1, 10, 12, open="10", high="11", low="5", close="10", **common),
    )  # fmt: skip
    await table.trade("11", this_minute - 30_000, symbol="BTCUSD", exchange="kraken")
    await table.trade("3", yesterday - 3_600_000, symbol="ETHUSD", exchange="kraken")
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        await bus.open(minute(n, 13, 14, closed=False, open="10", high="10", low="10", close="10",
                              **common))  # fmt: skip

        async def day() -> Any:
            found = await get(client, f"{V3}/ticker/24hr", symbol="BTCUSD")
            return found["lastId"] == 14 and found

        found = await eventually(day)
        assert found | {"openTime": 0, "closeTime": 0} == {
            "symbol": "BTCUSD", "priceChange": "2", "priceChangePercent": "25.000",
            "weightedAvgPrice": "10", "prevClosePrice": None, "lastPrice": "10", "lastQty": None,
            "bidPrice": None, "bidQty": None, "askPrice": None, "askQty": None, "openPrice": "8",
            "highPrice": "12", "lowPrice": "5", "volume": "8", "quoteVolume": "80", "openTime": 0,
            "closeTime": 0, "firstId": 1, "lastId": 14, "count": 40,
        }  # fmt: skip
        assert found["closeTime"] - found["openTime"] == 24 * 3_600_000
        both = await get(client, f"{V3}/ticker/24hr")
        assert [each["symbol"] for each in both] == ["BTCUSD", "ETHUSD"]
        assert (both[1]["lastPrice"], both[1]["openPrice"], both[1]["count"]) == ("3.50", None, 0)
        (mini,) = await get(client, f"{V3}/ticker/24hr", symbols='["BTCUSD"]', type="MINI")
        assert mini.keys() == {
            "symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume",
            "openTime", "closeTime", "firstId", "lastId", "count",
        }  # fmt: skip
        prices = await get(client, f"{V3}/ticker/price")
        assert prices == [
            {"symbol": "BTCUSD", "price": "11.50"}, {"symbol": "ETHUSD", "price": "3.50"},
        ]  # fmt: skip
        assert await get(client, f"{V3}/ticker/price", symbol="ethusd") == prices[1]
        average = await get(client, f"{V3}/avgPrice", symbol="BTCUSD")
        assert (average["mins"], average["price"]) == (5, "10")
        assert average["closeTime"] == this_minute - 30_000
        assert (await get(client, f"{V3}/avgPrice", symbol="ETHUSD"))["price"] == "3.50"


async def test_unprefixed_paths_mean_binance_and_test_mode_the_simulated_one(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol()
    await table.symbol("ETHUSDT", "sim-binance")
    await table.symbol("BTCUSD", "sim-kraken")
    async with market(nats_server.url):
        for is_test, path, names in (
            (False, "/api/v3", ["BTCUSDT"]),
            (True, "/api/v3", ["ETHUSDT"]),
            (True, "/binance/kraken/api/v3", ["BTCUSD"]),
            (False, "/binance/sim-kraken/api/v3", ["BTCUSD"]),
        ):
            async with api(nats_server.url, table.store, is_test_mode=lambda: is_test) as client:  # noqa: B023 - used within the iteration
                found = await get(client, f"{path}/exchangeInfo")
                assert [each["symbol"] for each in found["symbols"]] == names
