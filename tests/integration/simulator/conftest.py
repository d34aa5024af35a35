"""Clients of simulated venues over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from market_ingestor.simulator import SimulatedVenue

WAIT_S = 10.0  # far above what anything here takes; a test that waits longer has failed

PATHS = {
    "binance": "/stream",
    "okx": "/ws/v5/business",
    "bybit": "/v5/public/spot",
    "coinbase": "/",
    "kraken": "/v2",
}
_ROWS: dict[str, Callable[[Any], list[tuple[str, int]]]] = {
    "binance": lambda frame: (
        [(frame["data"]["s"], frame["data"]["t"])]
        if frame.get("data", {}).get("e") == "trade"
        else []
    ),
    "okx": lambda frame: [(row["instId"], int(row["tradeId"])) for row in frame.get("data", [])],
    "bybit": lambda frame: [(row["s"], int(row["i"])) for row in frame.get("data", [])],
    "coinbase": lambda frame: (
        [(frame["product_id"], frame["trade_id"])] if frame["type"] == "match" else []
    ),
    "kraken": lambda frame: (
        [(row["symbol"], row["trade_id"]) for row in frame["data"]]
        if frame.get("channel") == "trade"
        else []
    ),
}


def request(venue: str, names: list[str]) -> Any:
    """Return the venue's message that subscribes to trades."""
    match venue:
        case "binance":
            streams = [f"{name.lower()}@trade" for name in names]
            return {"method": "SUBSCRIBE", "params": streams, "id": 1}
        case "okx":
            arguments = [{"channel": "trades-all", "instId": name} for name in names]
            return {"op": "subscribe", "args": arguments}
        case "bybit":
            return {"op": "subscribe", "args": [f"publicTrade.{name}" for name in names]}
        case "coinbase":
            return {"type": "subscribe", "product_ids": names, "channels": ["matches"]}
        case _:
            return {"method": "subscribe", "params": {"channel": "trade", "symbol": names}}


class Client:
    """A subscribed socket."""

    def __init__(self, venue: str, socket: ClientConnection) -> None:
        self.socket = socket
        self._venue = venue

    async def message(self) -> str | bytes:
        """Return the next message."""
        async with asyncio.timeout(WAIT_S):
            return await self.socket.recv()

    async def trades(self, count: int, symbol: str | None = None) -> list[tuple[str, int]]:
        """Return the next ``count`` trades as (native symbol, id)."""
        found: list[tuple[str, int]] = []
        while len(found) < count:
            rows = _ROWS[self._venue](msgspec.json.decode(await self.message()))
            found += [row for row in rows if symbol in {None, row[0]}]
        return found[:count]

    async def closed(self) -> int | None:
        """Read until the connection ends; return the close code."""
        async with asyncio.timeout(WAIT_S):
            try:
                async for _ in self.socket:
                    pass
            except ConnectionClosedError:
                pass  # an abnormal end is one of those waited for
        return self.socket.close_code


async def until(is_true: Callable[[], bool]) -> None:
    """Wait for something that tells nobody when it comes true."""
    async with asyncio.timeout(WAIT_S):
        while not is_true():  # noqa: ASYNC110 - counters and other processes set no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def subscribed(
    venue: SimulatedVenue, names: list[str] | None = None
) -> AsyncIterator[Client]:
    """Connect and subscribe to ``names``, or to everything the venue lists."""
    listed = [market.native for market in venue.world.listed()]
    async with connect(venue.ws_url + PATHS[venue.name], close_timeout=1) as socket:
        await socket.send(msgspec.json.encode(request(venue.name, names or listed)).decode())
        yield Client(venue.name, socket)


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """Return an HTTP client."""
    async with httpx2.AsyncClient(timeout=WAIT_S) as client:
        yield client
