"""Feeds a board from the push gateway, over WebSocket or lines, through cuts. SHELL."""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException

from market_ingestor.watch.board import PERIOD, Board

TOPICS: Final = ("stats.*.*", f"kline.*.*.{PERIOD}", "event.*.*")
SNAPSHOT: Final = 120  # candles of each market at the start
BATCH_MS: Final = 100
WAIT_FIRST_S: Final = 0.5
WAIT_MOST_S: Final = 15.0
KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))  # s, s, probes
OPEN_S: Final = 10.0
LINE_BYTES_MAX: Final = 1024 * 1024


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect: ``tcp`` as host and port, else the WebSocket ``url``."""

    url: str
    tcp: tuple[str, int] | None = None
    token: str | None = None

    @property
    def address(self) -> str:
        """Return what is shown of it."""
        return self.url if self.tcp is None else f"tcp://{self.tcp[0]}:{self.tcp[1]}"


class Status(msgspec.Struct, kw_only=True):
    """How the connection is: ``is_live`` once something came."""

    is_live: bool = False
    text: str = "connecting"


async def follow(target: Target, board: Board, status: Status) -> None:
    """Keep a board up to date until cancelled; comes back after every cut."""
    wait_s = WAIT_FIRST_S
    while True:
        try:
            async with _opened(target, board) as messages:
                async for payload in messages:
                    board.take(payload, time.time_ns() // 1_000)
                    status.is_live, status.text = True, "live"
                    wait_s = WAIT_FIRST_S
        except InvalidURI:
            raise
        except (OSError, TimeoutError, WebSocketException, InvalidHandshake) as problem:
            reason = str(problem) or type(problem).__name__
        else:
            reason = "the gateway closed the connection"
        status.is_live = False
        status.text = f"no connection, retrying: {reason}"
        await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))
        wait_s = min(wait_s * 2, WAIT_MOST_S)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the system find out that the gateway is gone: lines have no ping."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has them all
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)


@asynccontextmanager
async def _opened(target: Target, board: Board) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the messages of a subscribed connection."""
    if target.tcp is not None:
        async with asyncio.timeout(OPEN_S):
            reader, writer = await asyncio.open_connection(*target.tcp, limit=LINE_BYTES_MAX)
        _keep_alive(writer)
        try:
            if target.token is not None:
                writer.write(json.dumps({"token": target.token}).encode() + b"\n")
            writer.write(" ".join(TOPICS).encode() + b"\n")
            await writer.drain()
            yield _lines(reader)
        finally:
            writer.close()
        return
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else None
    async with connect(
        target.url, additional_headers=headers, open_timeout=OPEN_S, max_size=None
    ) as connection:  # which pings by itself
        where = {"since": board.position} if board.position else {"snapshot": SNAPSHOT}
        request = {"action": "subscribe", "topics": TOPICS, "batch_ms": BATCH_MS, **where}
        await connection.send(json.dumps(request))
        yield _frames(connection)


async def _frames(connection: ClientConnection) -> AsyncIterator[bytes]:
    async for frame in connection:
        yield frame.encode() if isinstance(frame, str) else frame


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := await reader.readline():
        yield line
