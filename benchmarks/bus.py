"""A bus of a benchmark's own, and rounds that run on its event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from anyio.from_thread import BlockingPortal, start_blocking_portal

from benchmarks.batches import Message
from benchmarks.race import Round, timed
from market_ingestor.bus import streams
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.bus.publisher import Publisher

LIMITS: Final = streams.StreamLimits(max_age_s=3600, max_bytes=4 * 1024**3, duplicate_window_s=30)


@contextmanager
def loop_thread() -> Iterator[BlockingPortal]:
    """Give a thread with the event loop the service runs on."""
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        yield portal


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Bus]:
    """Give a connection to a server."""
    bus = await Bus.connect([url], name="bench")
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def market_bus(url: str) -> AsyncIterator[Bus]:
    """Give a connection to a server with the project's streams."""
    async with connected(url) as bus:
        limits = dict.fromkeys(("raw", "kline", "event", "dead"), LIMITS)
        await ensure_streams(bus, streams.market_streams(**limits, replicas=1), update=True)
        yield bus


async def publish(bus: Bus, messages: Sequence[Message]) -> None:
    """Put messages into the streams, and return when all are stored."""
    publisher = Publisher(bus)
    running = asyncio.create_task(publisher.run())
    for message in messages:
        await publisher.send(*message)
    assert await publisher.drain(60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def on_loop(portal: BlockingPortal, run: Callable[[], Awaitable[object]]) -> Callable[[], object]:
    """Return a function that runs ``run`` on the loop of ``portal`` and waits."""
    return lambda: portal.call(run)


def timed_on(portal: BlockingPortal, run: Callable[[], Awaitable[object]]) -> Round:
    """Return a round that times ``run`` on the loop of ``portal``."""
    return timed(on_loop(portal, run))
