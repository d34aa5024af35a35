"""The hops of the service with nothing done in between: ``python -m benchmarks.hops HOP ...``.

``receive`` reads a venue's socket and drops what comes; ``publish`` puts each frame into a stream
as it is; ``republish`` reads that stream and puts one of ten into another; ``push`` writes what is
in both to WebSocket clients, those of ``/trades`` and of ``/candles``. Nothing is decoded, checked,
counted, batched or resent.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import click
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy, StorageType
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

RAW: Final = "floor.raw"
MADE: Final = "floor.made"
STREAMS: Final = {"FLOOR_RAW": RAW, "FLOOR_MADE": MADE}
SHARE: Final = 10  # of what is read is made into something else, one in so many
PENDING_BYTES: Final = 1 << 30


async def make_streams(url: str) -> None:
    """Make the two streams, in files as the service's own."""
    client = await nats.connect(url)
    for name, subject in STREAMS.items():
        await client.jetstream().add_stream(name=name, subjects=[subject], storage=StorageType.FILE)
    await client.close()


async def follow(client: Any, subject: str, take: Any) -> None:
    """Call ``take`` with every new message of a stream."""
    await client.jetstream().subscribe(
        subject,
        cb=take,
        ordered_consumer=True,
        deliver_policy=DeliverPolicy.NEW,
        pending_bytes_limit=PENDING_BYTES,
        pending_msgs_limit=-1,
    )


async def publish(url: str, venue: str) -> None:
    """Put each frame of a venue into the first stream."""
    client = await nats.connect(url)
    async with connect(venue, proxy=None, max_size=None, compression=None) as socket:
        _say("reading")
        while True:
            await client.publish(RAW, await socket.recv(decode=False))


async def receive(venue: str) -> None:
    """Read a venue's frames and drop them."""
    async with connect(venue, proxy=None, max_size=None, compression=None) as socket:
        _say("reading")
        while True:
            await socket.recv(decode=False)


async def republish(url: str) -> None:
    """Put one of ten messages of the first stream into the second."""
    client = await nats.connect(url)
    taken = 0

    async def take(message: Msg) -> None:
        nonlocal taken
        taken += 1
        if taken % SHARE == 0:
            await client.publish(MADE, message.data)

    await follow(client, RAW, take)
    _say("reading")
    await asyncio.Event().wait()


async def push(url: str) -> None:
    """Write every message to the clients of its stream."""
    client = await nats.connect(url)
    clients: dict[str, set[ServerConnection]] = {"/trades": set(), "/candles": set()}

    async def keep(socket: ServerConnection) -> None:
        assert socket.request is not None
        mine = clients[socket.request.path]
        mine.add(socket)
        try:
            await socket.wait_closed()
        finally:
            mine.discard(socket)

    async def take(message: Msg) -> None:
        for each in clients["/trades" if message.subject == RAW else "/candles"]:
            await each.send(message.data, text=True)

    async with serve(keep, "127.0.0.1", 0, compression=None) as server:
        for subject in STREAMS.values():
            await follow(client, subject, take)
        _say(str(next(iter(server.sockets)).getsockname()[1]))
        await asyncio.Event().wait()


HOPS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    "receive": receive, "publish": publish, "republish": republish, "push": push,
}  # fmt: skip


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@click.command()
@click.argument("hop", type=click.Choice(sorted(HOPS)))
@click.argument("addresses", nargs=-1)
def main(hop: str, addresses: tuple[str, ...]) -> None:
    """Be one hop until killed; says when it works, ``push`` with its port."""
    uvloop.run(HOPS[hop](*addresses))


if __name__ == "__main__":
    main()
