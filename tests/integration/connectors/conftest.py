"""Servers that accept every connection and close it at once, for a minute that others use too."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest
from anyio.from_thread import start_blocking_portal
from websockets.asyncio.server import ServerConnection, serve

from market_ingestor.config import ExchangeSettings
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.markets import ALL_VENUES
from tests.integration.connectors.harness import SETTINGS, connected, ingesting
from tests.support.servers import running_nats, short_folder

FEED = "sim-exchange1"


class Slammed:
    """When each exchange was connected to, monotonic seconds; an ingest role keeps trying.

    Attributes:
        since: When the first attempts could be made.
        times: By exchange.
        end: Ends the role and its servers; blocks.
    """

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.times: dict[str, list[float]] = {}
        self.end: Callable[[], object] = lambda: None

    def first_minute(self, exchange: str) -> list[float]:
        """Return the attempts of the minute that began with the first, seconds after it."""
        times = self.times[exchange]
        return [at - times[0] for at in times if at - times[0] < 60]

    def is_over(self) -> bool:
        """Return whether every exchange has had its minute."""
        now = time.monotonic()
        return all(times and now - times[0] > 60 for times in self.times.values())


async def _slam_socket(stack: AsyncExitStack, times: list[float]) -> int:
    async def slam(socket: ServerConnection) -> None:
        times.append(time.monotonic())
        await socket.close()

    server = await stack.enter_async_context(serve(slam, "127.0.0.1", 0))
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _slam_lines(stack: AsyncExitStack, times: list[float]) -> int:
    def slam(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    await stack.enter_async_context(server)
    port: int = server.sockets[0].getsockname()[1]
    return port


@asynccontextmanager
async def _slamming() -> AsyncIterator[Slammed]:
    slammed = Slammed()
    async with AsyncExitStack() as stack:
        path = stack.enter_context(short_folder())
        nats = await stack.enter_async_context(running_nats(path))
        exchanges: dict[str, ExchangeSettings] = {}
        for name in ALL_VENUES:
            venue = await stack.enter_async_context(SimulatedVenue(name, rate=0))
            times = slammed.times[f"sim-{name}"] = []
            port = await _slam_socket(stack, times)
            exchanges[f"sim-{name}"] = ExchangeSettings(
                symbols=tuple(venue.symbols[:2]),
                ws_url=f"ws://127.0.0.1:{port}",
                rest_url=venue.rest_url,
            )
        times = slammed.times[FEED] = []
        port = await _slam_lines(stack, times)
        exchanges[FEED] = ExchangeSettings(kind="tcp", port=port, symbols=("BTCUSDT",))
        bus = await stack.enter_async_context(connected(nats))
        settings = SETTINGS.model_copy(update={"backoff_max_s": 60})
        await stack.enter_async_context(ingesting(bus, exchanges, settings))
        yield slammed


@pytest.fixture(scope="session")
def slammed() -> Iterator[Slammed]:
    """Give the attempts; they begin when the first test asks for them, in a thread of their own."""
    with start_blocking_portal() as portal, ExitStack() as stack:
        attempts = stack.enter_context(portal.wrap_async_context_manager(_slamming()))
        attempts.end = stack.close
        yield attempts
