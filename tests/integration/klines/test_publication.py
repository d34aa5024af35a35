"""Publishing a version while another processor publishes one of the same window."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from market_ingestor.bus import codec
from market_ingestor.klines.completeness import Evidence
from market_ingestor.klines.publication import Publication, next_version
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.versions import Version, Versions
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from tests.integration.klines.harness import connected, publishing, versions
from tests.support.servers import NatsHandle
from tests.unit.klines.build import T0, Course, columns

pytestmark = pytest.mark.anyio

OTHERS = Fold.of(columns((1, 0)))
OURS = Fold.of(columns((1, 0), (2, 1)))


@contextlib.asynccontextmanager
async def reading(tail: Tail) -> AsyncIterator[None]:
    task = asyncio.create_task(tail.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_version_computed_before_anothers_came_is_computed_again(
    nats_server: NatsHandle,
) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        aggregator, tail = Course().aggregator, Tail(bus, Versions(), lambda _: None)
        await tail.begin(0, is_whole=True)
        publication = Publication(bus, publisher, tail, {})
        asked: list[Version | None] = []

        def version(fold: Fold, known: Version | None) -> Kline | None:
            return next_version(
                aggregator, "1m", T0, fold, known, evidence=Evidence.PROVEN, reason="late"
            )

        async def compute(known: Version | None) -> Kline | None:
            if not asked:  # between our look at the tail and our publication
                others = version(OTHERS, known)
                assert others is not None
                subject = publication.subject(aggregator, "1m")
                await bus.client.request(subject, codec.encode(others), timeout=5)
            asked.append(known)
            return version(OURS, known)

        async with reading(tail), asyncio.timeout(20):
            await publication.settle(aggregator, "1m", T0, compute)
        assert [each and each.revision for each in asked] == [None, 1]
        assert publication.refused == 1
        assert [each.revision for each in await versions(bus)] == [1, 2]
