"""Asks through binance-connector; prints what came as JSON."""

import json
import queue
import sys
from typing import Any

from binance.error import ClientError
from binance.spot import Spot
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

WAIT_S = 20.0


def ask(api: str, push: str, live: str) -> dict[str, Any]:
    client = Spot(base_url=f"{api}/binance/kraken")
    found: dict[str, Any] = {
        "time": client.time(),
        "symbols": [each["symbol"] for each in client.exchange_info()["symbols"]],
        "newest": client.klines("ETHUSD", "1m", limit=3),
        "trades": client.trades(live, limit=2),
        "aggregates": client.agg_trades(live, limit=2),
        "ticker": client.ticker_24hr(live),
        "tickers": client.ticker_24hr(symbols=[live, "ETHUSD"]),
        "price": client.ticker_price(live),
        "average": client.avg_price(live),
    }
    try:
        client.klines("NOPE", "1m")
    except ClientError as problem:
        found["error"] = [problem.status_code, problem.error_code, problem.error_message]
    arrived: queue.Queue[dict[str, Any]] = queue.Queue()
    stream = SpotWebsocketStreamClient(
        stream_url=f"{push}/binance/kraken",
        on_message=lambda _, message: arrived.put(json.loads(message)),
    )
    try:
        stream.kline(symbol=live.lower(), interval="1m")
        found["stream"] = [arrived.get(timeout=WAIT_S) for _ in range(2)]
    finally:
        stream.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(ask(*sys.argv[1:])))
