"""Lists skip and repeat nothing of what was there at the first page, whatever comes meanwhile."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from market_ingestor.model.trade import Trade
from tests.integration.api.harness import Table, api, get, moment
from tests.integration.api.test_prices import Recorded
from tests.integration.push.harness import MINUTE, START, kline, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

OLD = 700


def trades(first: int, count: int) -> list[Trade[str]]:
    """Return trades of one millisecond, ids of two lengths, a third of them of one microsecond."""
    return [
        Trade[str](id=str(n), price="1", amount="1", side=None, time_us=START * 1_000 + n % 3 * 400)
        for n in range(first, first + count)
    ]


async def pages(
    client: httpx2.AsyncClient,
    path: str,
    within: Callable[[Any], Any],
    meanwhile: Callable[[], Awaitable[None]],
    **params: Any,
) -> list[Any]:
    """Return the items of every page, with something happening between two of them."""
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = within((await get(client, path, **params, cursor=cursor))["data"])
        found += page["data"]
        cursor = page["pagination"]["next_cursor"]
        await meanwhile()
    return found


async def test_seven_hundred_trades_of_one_millisecond(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.symbol()
    await table.symbol(exchange="kraken")
    await table.klines(kline(0))
    recorded = Recorded(table)
    shuffled = trades(9_700, OLD)
    random.Random(3).shuffle(shuffled)
    await recorded.save("binance", shuffled)
    await recorded.save("kraken", shuffled[:50])
    newer = iter(range(20_000, 90_000, 10))

    async def more() -> None:
        await recorded.save("binance", trades(next(newer), 10))

    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        lists: list[tuple[str, Callable[[Any], Any], dict[str, Any], int]] = [
            ("/api/v1/trades/BTCUSDT", lambda data: data, {"exchange": "binance"}, OLD),
            ("/api/v1/trades/BTCUSDT", lambda data: data, {}, OLD + 50),
            (
                f"/api/v1/klines/binance/BTCUSDT/1m/{START}",
                lambda data: data["trades"],
                {"trades": "true"},
                OLD,
            ),
        ]
        for path, within, params, count in lists:
            found = await pages(client, path, within, more, limit=97, **params)
            old = [(e["exchange"], e["id"]) for e in found if int(e["id"]) < 20_000]
            assert len(old) == len(set(old)) == count, path
            order = [(e["time_us"], int(e["id"]), e["exchange"]) for e in found]
            assert order == sorted(order, reverse=True), path


async def test_holes_noticed_at_one_moment(nats_server: NatsHandle, table: Table) -> None:
    for n in range(30):
        await table.gap(n * 2, symbol="BTCUSDT" if n % 3 else "ETHUSDT")
    extra = iter(range(100, 1_000))

    async def more() -> None:
        await table.gap(next(extra))
        await table.database.fetch(
            "UPDATE market_gaps SET state = 'filled' WHERE after_id = '0004'"
        )

    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        found = await pages(client, "/api/v1/gaps", lambda data: data, more, limit=4)
    old = [e["after_id"] for e in found if int(e["after_id"]) < 100]
    assert sorted(old) == sorted({f"{n * 2:04}" for n in range(30)})


async def test_candles_up_and_down_while_versions_come(
    nats_server: NatsHandle, table: Table
) -> None:
    await table.klines(*(kline(n) for n in range(20)))
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        revisions = iter(range(2, 100))

        async def more() -> None:
            number = next(revisions)
            await bus.closed(kline(number, revision=number))

        for params in (
            {"order": "desc"},
            {"from": str(START)},
            {"from": moment(START).isoformat()},
        ):
            found = await pages(
                client, "/api/v1/klines", lambda data: data, more, limit=3,
                to=START + 20 * MINUTE, exchange="binance", symbol="BTCUSDT", **params,
            )  # fmt: skip
            opened = sorted((e["open_time"] - START) // MINUTE for e in found)
            assert opened == list(range(20))
