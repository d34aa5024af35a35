"""Publish: messages acknowledged by a real nats-server, against one awaited publish at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pytest_benchmark.fixture import BenchmarkFixture

from market_ingestor.bus import streams
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from tests.support.servers import NatsHandle

MESSAGES = 1_000
PAYLOAD = b"x" * 190  # one trade
LIMITS = streams.StreamLimits(max_age_s=600, max_bytes=1024**3, duplicate_window_s=30)


class Sender:
    """A connected publisher that numbers its messages for ever."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._number = 0

    async def pipelined(self) -> None:
        for _ in range(MESSAGES):
            self._number += 1
            await self._publisher.send("market.raw.a.S", PAYLOAD, f"m{self._number}")
        assert await self._publisher.drain(30)

    async def one_by_one(self) -> None:
        for _ in range(MESSAGES // 10):
            self._number += 1
            await self._publisher.publish("market.raw.a.S", PAYLOAD, f"m{self._number}")


@asynccontextmanager
async def sending(url: str) -> AsyncIterator[Sender]:
    bus = await Bus.connect([url], name="bench")
    await bus.ensure_streams(
        streams.market_streams(raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1),
        update=True,
    )
    publisher = Publisher(bus)
    task = asyncio.create_task(publisher.run())
    try:
        yield Sender(publisher)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bus.close()


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as loop:
        yield loop


@pytest.mark.benchmark(group="publish")
@pytest.mark.parametrize("way", ["pipelined", "one_by_one"])
def test_publish(
    benchmark: BenchmarkFixture, nats_server: NatsHandle, portal: BlockingPortal, way: str
) -> None:
    with portal.wrap_async_context_manager(sending(nats_server.url)) as sender:
        work: Callable[[], object] = getattr(sender, way)
        benchmark(portal.call, work)
