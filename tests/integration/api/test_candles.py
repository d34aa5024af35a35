"""Lists of candles, one candle explained, and which stretches are whole."""

import time
from typing import Any

import httpx2
import pytest

from market_ingestor.model.kline import Kline
from market_ingestor.model.period import close_time
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import Table, api, eventually, get, moment
from tests.integration.push.harness import MINUTE, START, kline, market
from tests.support.servers import NatsHandle, PostgresHandle

pytestmark = pytest.mark.anyio


async def klines(client: httpx2.AsyncClient, **params: Any) -> Any:
    given = {"exchange": "binance", "symbol": "BTCUSDT", "period": "1m"} | params
    return (await get(client, "/api/v1/klines", **given))["data"]


def minutes(page: Any) -> list[tuple[int, int]]:
    """Return minute and number of trades of each candle."""
    return [((each["open_time"] - START) // MINUTE, each["trade_count"]) for each in page["data"]]


async def every_page(client: httpx2.AsyncClient, **params: Any) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await klines(client, **params, cursor=cursor)
        found += minutes(page)
        cursor = page["pagination"]["next_cursor"]
    return found


async def test_filled_lists_have_every_window_on_whatever_pages(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.klines(*(kline(n) for n in (0, 1, 4, 9)))
    n = 345
    whole = [(minute, n if minute in {0, 1, 4, 9, 11} else 0) for minute in range(12)]
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        await bus.closed(kline(11))

        async def all_there() -> bool:
            return minutes(await klines(client, fill="true")) == whole

        await eventually(all_there)
        for limit in (1, 3, 5, 12):
            up = await every_page(client, **{"from": START - 9 * MINUTE}, limit=limit, fill="true")
            assert up == whole, limit
            down = await every_page(client, order="desc", limit=limit, fill="true")
            assert down == whole[::-1], limit
        ranged = await klines(client, **{"from": START + 1, "to": START + 8 * MINUTE}, fill="true")
        assert minutes(ranged) == whole[1:8]
        # Without `fill` only what was traded.
        assert minutes(await klines(client)) == [each for each in whole if each[1]]


async def test_pages_of_candles_skip_and_repeat_nothing_while_candles_come(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.klines(*(kline(n) for n in range(20)))
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        found: list[int] = []
        cursor: str | None = ""
        extra = 20
        while cursor is not None:
            page = await klines(client, order="desc", limit=3, cursor=cursor)
            found += [minute for minute, _ in minutes(page)]
            cursor = page["pagination"]["next_cursor"]
            await bus.closed(kline(extra))
            await table.klines(kline(extra + 100))
            extra += 1
        assert found == list(range(19, -1, -1))


async def test_one_candle_is_explained(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol()
    five = kline(
        0, period="5m", close_time=close_time(START, "5m"), open="3.50", high="9.50", low="1.50",
        close="7.50", first_trade_id="3", last_trade_id="7",
    )  # fmt: skip
    await table.klines(
        five,
        kline(0, high="5.50", low="3.50"),
        kline(2, high="9.50", low="1.50"),
        kline(3, high="9.50", low="4.50"),
    )
    for n, (trade_id, minute) in enumerate([("3", 0), ("5", 0), ("9", 2), ("1", 2), ("9", 3)]):
        await table.trade(trade_id if n < 4 else "19", START + minute * MINUTE + n)
    await table.trade("7", START + 4 * MINUTE)
    path = f"/api/v1/klines/binance/btc-usdt/5m/{START}"
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        found = (await get(client, path))["data"]
        assert found["kline"]["high"] == "9.5"
        assert [each["revision"] for each in found["revisions"]] == [1]
        deciding = {name: each["id"] for name, each in found["deciding"].items()}
        assert deciding == {"open": "3", "high": "9", "low": "1", "close": "7"}
        assert found["trades"] is None
        listed: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await get(client, path, trades="true", limit=2, cursor=cursor))["data"]
            listed += [each["id"] for each in page["trades"]["data"]]
            cursor = page["trades"]["pagination"]["next_cursor"]
        assert listed == ["7", "19", "1", "9", "5", "3"]
        by_text = await get(
            client, f"/api/v1/klines/binance/BTC_USDT/5m/{moment(START).isoformat()}"
        )
        assert by_text["data"] == found

        # A version the table lacks is shown; its trades are not there yet.
        await bus.closed(kline(0, revision=2, high="99", last_trade_id="77"))

        async def is_newer() -> Any:
            one = (await get(client, f"/api/v1/klines/binance/BTCUSDT/1m/{START}"))["data"]
            return one if one["kline"]["revision"] == 2 else None

        newer = await eventually(is_newer)
        assert [each["revision"] for each in newer["revisions"]] == [1, 2]
        assert newer["deciding"]["high"] is None
        assert newer["deciding"]["close"] is None

        await bus.open(kline(50, closed=False))

        async def is_open() -> Any:
            answer = await client.get(f"/api/v1/klines/binance/BTCUSDT/1m/{START + 50 * MINUTE}")
            return answer.json()["data"] if answer.status_code == 200 else None

        still = await eventually(is_open)
        assert (still["kline"]["closed"], still["revisions"]) == (False, [])
        for where, status, code in (
            (f"binance/BTCUSDT/1m/{START + 1}", 404, "no_data"),
            (f"binance/NOPE/1m/{START}", 404, "unknown_symbol"),
            (f"binance/BTCUSDT/7m/{START}", 400, "bad_parameter"),
            ("binance/BTCUSDT/1m/soon", 400, "bad_parameter"),
        ):
            answer = await client.get(f"/api/v1/klines/{where}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), where


async def test_completeness_is_told_in_stretches(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol()
    now = int(time.time() * 1_000)
    begin = (now // MINUTE - 100) * MINUTE

    def minute(n: int, **fields: Any) -> Kline:
        return kline(
            (begin - START) // MINUTE + n,
            **({"first_trade_id": str(100 * n), "last_trade_id": str(100 * n + 99)} | fields),
        )

    await table.klines(
        *(minute(n) for n in range(10)),
        *(minute(n, complete=False) for n in (10, 11)),
        *(minute(n) for n in range(12, 90)),
    )
    await table.database.fetch(
        "INSERT INTO market_gaps (exchange, symbol, detected_at, after_id, before_id, from_time,"
        " to_time, missing, state) VALUES"
        " ('binance', 'BTCUSDT', now(), '1', '2', $1, $1, 1, 'unfillable'),"
        " ('binance', 'BTCUSDT', now(), '3', '4', $2, $2, 1, 'filled'),"
        " ('kraken', 'BTCUSDT', now(), '3', '4', $3, $3, 1, 'open')",
        moment(begin + 10 * MINUTE + 5), moment(begin + 20 * MINUTE), moment(begin),
    )  # fmt: skip
    path = "/api/v1/completeness"
    asked = {"exchange": "binance", "symbol": "BTCUSDT", "from": begin}
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        await bus.closed(minute(90))

        async def judged() -> Any:
            page = (await get(client, path, **asked, to=begin + 92 * MINUTE))["data"]
            last = page["data"][-1]
            return page if last["from"] == begin + 91 * MINUTE else None

        page = await eventually(judged)
        shown = [
            ((e["from"] - begin) // MINUTE, (e["to"] - begin) // MINUTE, e["state"])
            for e in page["data"]
        ]
        assert shown == [
            (0, 10, "complete"), (10, 11, "incomplete"), (11, 12, "unprovable"),
            (12, 20, "complete"), (20, 21, "repaired"), (21, 91, "complete"),
            (91, 92, "unprovable"),
        ]  # fmt: skip
        pages: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            ranged = asked | {"to": begin + 92 * MINUTE}
            part = (await get(client, path, **ranged, limit=2, cursor=cursor))["data"]
            pages += part["data"]
            cursor = part["pagination"]["next_cursor"]
        assert pages == page["data"]
        recent = (await get(client, path, exchange="binance", symbol="BTCUSDT"))["data"]["data"]
        assert recent[-1]["to"] > now - 120_000
        days = 24 * 60 * MINUTE
        long = (await get(client, path, **(asked | {"from": begin - 20 * days})))["data"]
        assert long["data"][0]["state"] == "unprovable"
        assert long["data"][-1]["to"] == begin - 13 * days
        assert long["pagination"]["next_cursor"]
        for given, status in (
            ({"symbol": "NOPE"}, 404),
            ({"symbol": ""}, 400),
            ({"cursor": "x"}, 400),
        ):
            params: Any = asked | given
            answer = await client.get(path, params=params)
            assert answer.status_code == status, given


async def test_newest_candles_are_answered_without_the_database(
    nats_server: NatsHandle, own_postgres: PostgresHandle
) -> None:
    """Killed or stuck: memory answers as far back as it has every candle, and says so."""
    await migrate(own_postgres.dsn)
    async with Database(own_postgres.dsn) as database:
        table = Table(database)
        await table.symbol()
        await table.klines(*(kline(n) for n in range(5)))
        async with (
            market(nats_server.url) as bus,
            api(nats_server.url, table.store, request_timeout_s=2.0) as client,
        ):
            await bus.closed(kline(2, revision=2), kline(5), kline(6))
            await bus.open(kline(7, closed=False))

            async def all_there() -> bool:
                page = await klines(client, open="true")
                return minutes(page)[-1][0] == 7

            await eventually(all_there)

            async def check() -> None:
                answer = await get(
                    client, "/api/v1/klines", exchange="binance", symbol="BTCUSDT", open="true"
                )
                page = answer["data"]
                assert [minute for minute, _ in minutes(page)] == [5, 6, 7]
                assert "database" in answer["message"]
                older = {"exchange": "binance", "symbol": "BTCUSDT"}
                cursor = page["pagination"]["next_cursor"]
                refused = await client.get("/api/v1/klines", params=older | {"cursor": cursor})
                assert refused.status_code in {503, 504}
                inside = await klines(client, **{"from": START + 5 * MINUTE}, limit=1)
                assert minutes(inside)[0][0] == 5
                assert inside["pagination"]["next_cursor"]
                before = await client.get("/api/v1/klines", params=older | {"from": START})
                assert before.status_code in {503, 504}

            async with database.transaction() as session:
                await session.script("LOCK TABLE market_klines IN ACCESS EXCLUSIVE MODE")
                await check()
            await own_postgres.kill()
            await check()
            await own_postgres.start()

            async def is_back() -> bool:
                answer = await client.get(
                    "/api/v1/klines", params={"exchange": "binance", "symbol": "BTCUSDT"}
                )
                return answer.status_code == 200 and len(answer.json()["data"]["data"]) == 7

            await eventually(is_back, 20)
