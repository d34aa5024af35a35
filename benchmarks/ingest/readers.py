"""What else may read a venue: nobody's work, and what a user would write. A process each.

``floor`` takes frames and drops them. ``peer`` decodes each with msgspec and gives each trade to
nats-py's ``publish_async``, with a message id. For each number on standard input they read so many
frames and say ``done``, the peer when all are acknowledged.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import nats
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from market_ingestor.connectors.transport import FRAMES_QUEUED_MAX

PEER_SUBJECT: Final = "market.raw.peer."  # MARKET_RAW takes it, and nobody else writes there

Read = Callable[[int], Awaitable[None]]


class _Data(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    amount: str = msgspec.field(name="q")
    time_ms: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class _Frame(msgspec.Struct, gc=False):
    data: _Data


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    id: int
    price: str
    amount: str
    side: str
    time_ms: int


@asynccontextmanager
async def floor(socket: ClientConnection) -> AsyncIterator[Read]:
    """Give what takes frames and drops them."""

    async def read(frames: int) -> None:
        recv = socket.recv
        for _ in range(frames):
            await recv(decode=False)

    yield read


@asynccontextmanager
async def peer(socket: ClientConnection, bus: str) -> AsyncIterator[Read]:
    """Give what publishes each trade as a message."""
    client = await nats.connect(bus)
    stream = client.jetstream()
    decode = msgspec.json.Decoder(_Frame).decode
    encode = msgspec.json.Encoder().encode

    async def read(frames: int) -> None:
        for _ in range(frames):
            data = decode(await socket.recv(decode=False)).data
            trade = _Trade(
                data.symbol, data.id, data.price, data.amount,
                "sell" if data.is_buyer_maker else "buy", data.time_ms,
            )  # fmt: skip
            await stream.publish_async(
                PEER_SUBJECT + data.symbol,
                encode(trade),
                headers={"Nats-Msg-Id": f"{data.symbol}.{data.id}"},
            )
        await stream.publish_async_completed()

    try:
        yield read
    finally:
        await client.close()


async def main() -> None:
    """Read as many frames as standard input says, again and again."""
    who, url, bus = sys.argv[1:]
    async with (
        connect(url, compression=None, max_queue=FRAMES_QUEUED_MAX, ping_interval=None) as socket,
        floor(socket) if who == "floor" else peer(socket, bus) as read,
    ):
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await read(int(line))
            print("done", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
