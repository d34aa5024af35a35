"""A bus of a benchmark's own, and rounds that run on its event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from anyio.from_thread import BlockingPortal, start_blocking_portal

from benchmarks.race import Round, timed
from market_ingestor.bus import streams
from market_ingestor.bus.jetstream import Bus

LIMITS: Final = streams.StreamLimits(max_age_s=3600, max_bytes=4 * 1024**3, duplicate_window_s=30)


@contextmanager
def loop_thread() -> Iterator[BlockingPortal]:
    """Give a thread with the event loop the service runs on."""
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        yield portal


@asynccontextmanager
async def market_bus(url: str) -> AsyncIterator[Bus]:
    """Give a connection to a server with the project's streams."""
    bus = await Bus.connect([url], name="bench")
    try:
        limits = dict.fromkeys(("raw", "kline", "event", "dead"), LIMITS)
        await bus.ensure_streams(streams.market_streams(**limits, replicas=1), update=True)
        yield bus
    finally:
        await bus.close()


def on_loop(portal: BlockingPortal, run: Callable[[], Awaitable[object]]) -> Callable[[], object]:
    """Return a function that runs ``run`` on the loop of ``portal`` and waits."""
    return lambda: portal.call(run)


def timed_on(portal: BlockingPortal, run: Callable[[], Awaitable[object]]) -> Round:
    """Return a round that times ``run`` on the loop of ``portal``."""
    return timed(on_loop(portal, run))
