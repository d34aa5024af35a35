"""REST over real HTTP, a real nats-server and a real PostgreSQL."""

import asyncio
import csv
import json
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest

from market_ingestor.access import AccessPolicy
from market_ingestor.bus import codec, subjects
from market_ingestor.klines.stats import RollingStats
from market_ingestor.model.trade import FeedPosition, Mark
from market_ingestor.storage.read_store import DatabaseReadStore
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import Table, api, eventually, get, publish_trades
from tests.integration.push.harness import MINUTE, START, kline, market
from tests.support.servers import NatsHandle
from tests.unit.klines.build import columns
from tests.unit.model.test_listing import listing

pytestmark = pytest.mark.anyio


async def klines(client: httpx2.AsyncClient, **params: Any) -> Any:
    given = {"exchange": "binance", "symbol": "BTCUSDT", "period": "1m"} | params
    body = await get(client, "/api/v1/klines", **given)
    assert body["error"] is None
    return body["data"]


def opened(page: Any) -> list[tuple[int, int]]:
    return [((each["open_time"] - START) // MINUTE, each["revision"]) for each in page["data"]]


async def test_klines_are_the_table_overlaid_with_the_stream(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.klines(*(kline(n) for n in range(5)))
    async with (
        market(nats_server.url) as bus,
        api(nats_server.url, table.store) as client,
    ):
        await bus.closed(kline(3, revision=2), kline(5))
        await bus.open(kline(6, closed=False))

        async def is_there() -> bool:
            return len((await klines(client, open="true"))["data"]) == 7

        await eventually(is_there)
        page = await klines(client)
        assert opened(page) == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 1), (5, 1)]
        assert page["pagination"] == {"next_cursor": None}
        stored, live = page["data"][0], page["data"][5]
        assert stored.keys() == live.keys()
        assert stored["open"] == "67123.45"
        assert (await klines(client, open="true"))["data"][-1]["closed"] is False
        # An old state of a window that the stream or the table closed is not shown.
        await bus.open(kline(5, closed=False))
        assert opened(await klines(client, open="true"))[-2:] == [(5, 1), (6, 0)]


async def test_klines_without_from_are_the_newest(nats_server: NatsHandle, table: Table) -> None:
    await table.klines(*(kline(n) for n in range(10)))
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
    ):
        page = await klines(client, limit=3, symbol="btc-usdt", interval="1m", period="")
        assert opened(page) == [(7, 1), (8, 1), (9, 1)]
        before = await klines(client, limit=3, cursor=page["pagination"]["next_cursor"])
        assert opened(before) == [(4, 1), (5, 1), (6, 1)]
        down = await klines(client, limit=2, order="desc")
        assert opened(down) == [(9, 1), (8, 1)]
        start = datetime.fromtimestamp(START / 1_000 + 60, UTC).isoformat()
        page = await klines(client, **{"from": start, "to": START + 5 * MINUTE, "limit": 3})
        assert opened(page) == [(1, 1), (2, 1), (3, 1)]
        page = await klines(
            client,
            **{"from": start, "to": START + 5 * MINUTE},
            limit=3,
            cursor=page["pagination"]["next_cursor"],
        )
        assert opened(page) == [(4, 1)]
        assert page["pagination"]["next_cursor"] is None


async def test_klines_as_csv(nats_server: NatsHandle, table: Table) -> None:
    await table.klines(kline(0), kline(1))
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
    ):
        answer = await client.get(
            "/api/v1/klines",
            params={"exchange": "binance", "symbol": "BTCUSDT", "format": "csv", "limit": "1"},
        )
        assert answer.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(answer.text.splitlines())
        assert (row["open_time"], row["close"], row["closed"]) == (
            str(START + MINUTE),
            "67149.99",
            "true",
        )
        assert answer.headers["x-next-cursor"]


async def test_trades_page_by_page(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol()
    for n in (8, 9, 10, 11):  # two of one time, ids of different length
        await table.trade(str(n), START + n // 10)
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
    ):
        first = (await get(client, "/api/v1/trades/btc-usdt", limit=2))["data"]
        assert [each["id"] for each in first["data"]] == ["11", "10"]
        trade = first["data"][0]
        assert trade["price"] == "11.50"
        assert trade["volume"] == trade["amount"] == "0.10"
        assert trade["exchange"] == "binance"
        assert trade["timestamp"] == "2025-11-20T22:00:00.001000Z"
        await table.trade("12", START + 2)
        for name in ("cursor", "before"):
            rest = await get(
                client,
                "/api/v1/trades/BTCUSDT",
                **{"limit": 2, name: first["pagination"]["next_cursor"]},
            )
            assert [each["id"] for each in rest["data"]["data"]] == ["9", "8"]
        older = await get(client, "/api/v1/trades/BTCUSDT", before=START + 1)
        assert [each["id"] for each in older["data"]["data"]] == ["9", "8"]
        ranged = await get(
            client, "/api/v1/trades/BTCUSDT", exchange="binance", **{"from": START + 1}
        )
        assert [each["id"] for each in ranged["data"]["data"]] == ["12", "11", "10"]


async def test_latest_price_is_never_the_last_to_arrive(
    nats_server: NatsHandle, table: Table
) -> None:
    async with market(nats_server.url) as bus:
        await publish_trades(bus, 1, [("9", START, "1"), ("10", START, "2")])
        await publish_trades(bus, 2, [("5", START - 60_000, "3")])  # a refill
        async with api(nats_server.url, table.store) as client:
            price = await get(client, "/prices/latest/BTCUSDT")
            assert price["price"] == "2"
            assert price["exchange"] == "binance"
            assert price["time"] == START
            assert price["simulated"] is False
            await publish_trades(bus, 3, [("11", START + 1, "4")])

            async def is_newer() -> bool:
                answer = await get(client, "/prices/latest/binance/btc_usdt")
                return bool(answer["price"] == "4")

            await eventually(is_newer)


async def test_latest_price_of_a_quiet_symbol_is_found(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol("ETHUSDT")
    await table.symbol("XRPUSDT")
    await table.trade("7", START, symbol="ETHUSDT")
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
    ):
        assert (await get(client, "/prices/latest/ETHUSDT"))["price"] == "7.50"
        answer = await client.get("/prices/latest/XRPUSDT")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_data")


async def test_test_mode_means_the_simulated_exchange(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol(exchange="sim-binance")
    await table.trade("7", START, exchange="sim-binance")
    async with market(nats_server.url):
        async with api(nats_server.url, table.store, is_test_mode=lambda: True) as client:
            price = await get(client, "/prices/latest/binance/BTCUSDT")
            assert (price["exchange"], price["simulated"]) == ("sim-binance", True)
            assert (await get(client, "/prices/latest/BTCUSDT"))["exchange"] == "sim-binance"
            assert (await get(client, "/api/v1/info"))["data"]["mode"] == "test"
        async with api(nats_server.url, table.store) as client:
            assert (await client.get("/prices/latest/BTCUSDT")).status_code == 404
            assert (await get(client, "/prices/latest/sim-binance/BTCUSDT"))["price"] == "7.50"


async def test_symbols_tell_what_is_recorded_and_whether_it_lives(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol()
    await table.symbol("ETHUSDT")
    async with market(nats_server.url) as bus:
        now_us = int(datetime.now(UTC).timestamp() * 1_000_000)
        mark = Mark(
            v=1,
            exchange="binance",
            feed="i0-1",
            received_us=now_us,
            symbols={"BTCUSDT": FeedPosition(n=1, id="1")},
            end=False,
        )
        await bus.bus.client.request(subjects.mark("binance"), codec.encode(mark), timeout=5)
        async with api(nats_server.url, table.store) as client:
            available = (await get(client, "/api/v1/symbols"))["data"]["available"]
            assert available[0] == {
                "symbol": "BTCUSDT",
                "exchange": "binance",
                "trade_count": 3,
                "last_trade_at": "2025-11-20T22:00:00Z",
                "first_trade_at": "2025-11-20T22:00:00Z",
                "feed": "up",
                "volume": "base",
                "venue_symbol": None,
                "base": None,
                "quote": None,
                "price_step": None,
                "amount_step": None,
                "state": "active",
            }
            assert available[1]["feed"] is None


async def test_gaps_page_by_page(nats_server: NatsHandle, table: Table) -> None:
    for n in range(7):
        await table.gap(n)
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
    ):
        found: list[str] = []
        page: Any = {"pagination": {"next_cursor": ""}}
        while page["pagination"]["next_cursor"] is not None:
            cursor = page["pagination"]["next_cursor"]
            page = (await get(client, "/api/v1/gaps", limit=3, cursor=cursor))["data"]
            found += [each["after_id"] for each in page["data"]]
        assert found == ["0006", "0005", "0004", "0003", "0002", "0001", "0000"]
        gap = page["data"][0]
        assert (gap["missing"], gap["state"], gap["filled_at"]) == (5, "open", None)
        assert gap["from_time"] == START
        none = await get(client, "/api/v1/gaps", symbol="ETHUSDT", state="filled")
        assert none["data"]["data"] == []


class Away:
    """A database that is not there."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


BAD = [
    ("/api/v1/klines", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&period=7m", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&limit=0", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&limit=9999", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&limit=%C2%B2", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&from=yesterday", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&cursor=%00", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&cursor=WzEsMl0", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&froom=1", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=bin%2Aance&symbol=BTCUSDT", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTC%20USDT", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=NOPE", 404, "unknown_symbol"),
    ("/api/v1/trades/NOPE", 404, "unknown_symbol"),
    ("/api/v1/trades/%3E", 400, "bad_parameter"),
    ("/api/v1/trades/BTCUSDT?cursor=WzEsMl0", 400, "bad_parameter"),
    ("/api/v1/gaps?state=lost", 400, "bad_parameter"),
    ("/prices/latest/NOPE", 404, "unknown_symbol"),
    ("/prices/latest/*", 400, "bad_parameter"),
    ("/prices/latest/binance/BTC.USDT", 400, "bad_parameter"),
    ("/prices/latest/bin.ance/BTCUSDT", 400, "bad_parameter"),
    ("/prices/latest/binance/BTC%20USDT", 400, "bad_parameter"),
    ("/prices/latest/%3E/%3E", 400, "bad_parameter"),
    ("/api/v1/stats/binance/%2A", 400, "bad_parameter"),
    ("/api/v1/klines?exchange=binance&symbol=BTCUSDT&limit=1&limit=2", 400, "bad_parameter"),
    ("/prices/latest/kraken/BTCUSDT", 404, "unknown_symbol"),
    ("/api/v1/nothing", 404, "not_found"),
    ("/api/v1/symbols/", 404, "not_found"),
    ("/", 404, "not_found"),
]


async def test_what_cannot_be_answered_says_why(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol()
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
    ):
        for path, status, code in BAD:
            answer = await client.get(path)
            assert answer.status_code == status, (path, answer.text)
            body = answer.json()
            assert body["data"] is None
            assert body["error"]["code"] == code, path
            assert body["message"] == body["error"]["message"]
        posted = await client.post("/api/v1/klines")
        assert (posted.status_code, posted.json()["error"]["code"]) == (405, "method_not_allowed")
        assert set(posted.headers["allow"].split(", ")) == {"GET", "HEAD"}
        head = await client.head("/api/v1/info")
        assert (head.status_code, head.content) == (200, b"")


async def test_database_away_is_told_and_memory_still_answers(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        Database("postgresql://127.0.0.1:1/none") as database,
    ):
        await publish_trades(bus, 1, [("9", START, "1")])
        async with api(nats_server.url, DatabaseReadStore(database)) as client:
            answer = await client.get(
                "/api/v1/klines", params={"exchange": "binance", "symbol": "BTCUSDT"}
            )
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "database_unavailable"
            assert answer.headers["retry-after"]
            assert (await get(client, "/prices/latest/BTCUSDT"))["price"] == "1"
            assert (await get(client, "/prices/latest/binance/BTCUSDT"))["price"] == "1"
            assert (await client.get("/prices/latest/ETHUSDT")).status_code == 503
            assert (await client.get("/api/v1/symbols")).status_code == 503


async def test_slow_answer_is_given_up(nats_server: NatsHandle) -> None:
    class Slow(Away):
        async def symbols(self) -> list[Any]:
            await asyncio.Event().wait()
            return []

    async with (
        market(nats_server.url),
        api(nats_server.url, Slow(), request_timeout_s=0.2) as client,
    ):
        answer = await client.get("/api/v1/symbols")
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


async def test_own_fault_is_answered_without_details(nats_server: NatsHandle) -> None:
    async with market(nats_server.url), api(nats_server.url, Away()) as client:
        answer = await client.get("/api/v1/symbols")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
        assert "Assertion" not in answer.text


async def test_tokens_guard_all_but_health(nats_server: NatsHandle) -> None:
    access = AccessPolicy(tokens=("secret",))
    async with market(nats_server.url), api(nats_server.url, Away(), access=access) as client:
        refused = await client.get("/api/v1/info")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
        wrong = await client.get("/api/v1/info", headers={"Authorization": "Bearer no"})
        assert wrong.status_code == 401
        assert (await client.get("/health")).status_code == 404  # no health was mounted here
        for headers in ({"Authorization": "Bearer secret"}, {"X-MBX-APIKEY": "secret"}):
            assert (await client.get("/api/v1/info", headers=headers)).status_code == 200


async def test_rate_limit_says_when_to_come_back(nats_server: NatsHandle) -> None:
    async with market(nats_server.url), api(nats_server.url, Away(), rate_limit_rps=2) as client:
        answers = [await client.get("/api/v1/info") for _ in range(8)]
        assert answers[0].status_code == 200
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1


async def test_document_describes_every_route(nats_server: NatsHandle) -> None:
    async with market(nats_server.url), api(nats_server.url, Away()) as client:
        answer = await client.get("/openapi.json")
        document = json.loads(answer.text)
        assert "/api/v1/klines" in document["paths"]
        assert "Kline" in document["components"]["schemas"]


async def test_statistics_as_last_published(nats_server: NatsHandle, table: Table) -> None:
    await table.symbol()
    async with market(nats_server.url) as bus_side, api(nats_server.url, table.store) as client:
        path = "/api/v1/stats/binance/btc-usdt"
        nothing = await client.get(path)
        assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "no_data")
        unknown = await client.get("/api/v1/stats/binance/NOPEUSDT")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_symbol")
        rolling = RollingStats("binance", "BTCUSDT")
        rolling.take([columns((1, 0, "10", "2"))], START * 1_000)
        stats = rolling.stats([])
        assert stats is not None
        subject = subjects.stats("binance", "BTCUSDT")
        await bus_side.bus.publish_core((subject, b"{}"))  # refused, and changes nothing
        await bus_side.bus.publish_core((subject, codec.encode(stats)))
        async with asyncio.timeout(10):
            while (answer := await client.get(path)).status_code != 200:  # noqa: ASYNC110 - the condition is in the server
                await asyncio.sleep(0.02)
        assert answer.json() == {"data": msgspec.to_builtins(stats), "error": None, "message": None}


async def test_a_symbol_may_be_spelled_as_its_venue_does(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.klines(kline(0, exchange="kraken", symbol="BTCUSD"))
    await table.trade("7", START, symbol="BTCUSD", exchange="kraken")
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        bucket = await bus.bus.bucket(subjects.INSTRUMENTS_BUCKET)
        await bucket.put("kraken.BTCUSD", codec.encode(listing()))
        wanted = {"exchange": "kraken", "symbol": "XBT/USD"}

        async def is_known() -> bool:
            return (await client.get("/api/v1/klines", params=wanted)).json()["data"] is not None

        await eventually(is_known)
        assert len((await klines(client, **wanted))["data"]) == 1
        for spelling in ("xbt-usd", "BTC_USD", "XBTUSD"):
            assert len((await klines(client, exchange="kraken", symbol=spelling))["data"]) == 1
            page = await get(client, f"/api/v1/trades/{spelling}", exchange="kraken")
            assert [each["symbol"] for each in page["data"]["data"]] == ["BTCUSD"]
            price = await get(client, f"/prices/latest/kraken/{spelling}")
            assert (price["symbol"], price["price"]) == ("BTCUSD", "7.50")
