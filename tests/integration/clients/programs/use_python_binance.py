"""Asks through python-binance; prints what came as JSON."""

import asyncio
import json
import sys
from typing import Any

from binance import AsyncClient, BinanceSocketManager

WAIT_S = 20.0


async def ask(api: str, push: str, live: str, since: int) -> dict[str, Any]:
    AsyncClient.API_URL = f"{api}/binance/kraken/api"
    BinanceSocketManager.STREAM_URL = f"{push}/binance/kraken/"
    client = await AsyncClient.create()
    try:
        sockets = BinanceSocketManager(client)
        found: dict[str, Any] = {
            "info": await client.get_symbol_info(live),
            "newest": await client.get_klines(symbol="ETHUSD", interval="1m", limit=3),
            "history": await client.get_historical_klines("ETHUSD", "1m", since),
            "recent": await client.get_recent_trades(symbol=live, limit=5),
            "tickers": await client.get_all_tickers(),
            "ticker": await client.get_ticker(symbol=live),
            "average": await client.get_avg_price(symbol=live),
            "micro": (await client.get_klines(
                symbol="ETHUSD", interval="1m", limit=1, timeUnit="MICROSECOND"
            ))[0][0],
        }  # fmt: skip
        first = found["recent"][0]["id"]
        found["historical"] = await client.get_historical_trades(symbol=live, fromId=first)
        iterated = []
        async for trade in client.aggregate_trade_iter(symbol=live, last_id=first):
            iterated.append(trade["a"])
            if len(iterated) == 20:
                break
        found["iterated"] = iterated
        async with asyncio.timeout(WAIT_S):
            async with sockets.kline_socket(live, interval="1m") as stream:
                found["kline"] = await stream.recv()
            names = [f"{live.lower()}@trade", f"{live.lower()}@kline_1m"]
            async with sockets.multiplex_socket(names) as stream:
                seen: dict[str, Any] = {}
                while len(seen) < len(names):
                    message = await stream.recv()
                    seen[message["stream"]] = message["data"]
                found["multiplex"] = seen
        return found
    finally:
        await client.close_connection()


if __name__ == "__main__":
    api, push, live, since = sys.argv[1:]
    print(json.dumps(asyncio.run(ask(api, push, live, int(since)))))
