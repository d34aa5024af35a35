"""Asks through ccxt, with the options it has by default; prints what came as JSON."""

import asyncio
import json
import sys
from typing import Any

import ccxt.pro

WAIT_S = 20.0


async def ask(api: str, push: str, exchange: str, live: str, since: int) -> dict[str, Any]:
    base = f"{api}/binance/{exchange}"
    client = ccxt.pro.binance(
        {
            "urls": {
                "api": {
                    "public": f"{base}/api/v3",
                    "fapiPublic": f"{base}/fapi/v1",
                    "dapiPublic": f"{base}/dapi/v1",
                    "ws": {"spot": f"{push}/binance/{exchange}/ws"},
                }
            }
        }
    )
    try:
        markets = await client.load_markets()
        found: dict[str, Any] = {
            "markets": {name: each["precision"] for name, each in markets.items()},
            "newest": await client.fetch_ohlcv("ETH/USD", "1m", limit=3),
            "since": await client.fetch_ohlcv("ETH/USD", "1m", since=since, limit=4),
            "paginated": await client.fetch_ohlcv(
                "ETH/USD", "1m", since=since, params={"paginate": True, "paginationCalls": 5}
            ),
            "trades": await client.fetch_trades(live, limit=5),
            "ticker": await client.fetch_ticker(live),
            "tickers": sorted(await client.fetch_tickers()),
            "prices": sorted(await client.fetch_last_prices()),
            "time": await client.fetch_time(),
        }
        try:
            await client.fetch_order_book(live)
        except ccxt.pro.BaseError as problem:
            found["order_book"] = type(problem).__name__
        async with asyncio.timeout(WAIT_S):
            found["watched"] = await client.watch_ohlcv(live, "1m")
            found["watched_trades"] = await client.watch_trades(live)
            await client.un_watch_ohlcv(live, "1m")
        return found
    finally:
        await client.close()


if __name__ == "__main__":
    api, push, exchange, live, since = sys.argv[1:]
    print(json.dumps(asyncio.run(ask(api, push, exchange, live, int(since)))))
