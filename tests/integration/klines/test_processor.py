"""The klines role against a real nats-server."""

import pytest

from tests.integration.klines.harness import (
    MINUTE,
    Feed,
    brief,
    connected,
    processing,
    publishing,
    until,
    wait_versions,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_marks_close_a_minute(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    async with connected(nats_server) as bus, publishing(bus) as publisher, saving(bus, store):
        feed = Feed(publisher)
        async with processing(bus, store):
            await feed.trades((1, 1_000, "10", "2"), (2, 2_000, "12"))
            await feed.trades((3, MINUTE + 1_000, "11"), (4, MINUTE + 30_000, "9", "0.5"))
            for second in range(31, 64):
                await feed.mark(MINUTE + second * 1_000)
            found = await wait_versions(bus, 2)
    assert brief(found) == [(0, 1, "close", False, 2), (1, 1, "close", True, 2)]
    second = found[1]
    assert (second.open, second.high, second.low, second.close) == ("11", "11", "9", "9")
    assert (second.volume, second.quote_volume) == ("1.5", "15.5")
    assert (second.buy_volume, second.buy_quote_volume) == ("1", "11")
    assert (second.first_trade_id, second.last_trade_id) == ("3", "4")


async def test_late_trade_gives_revision_two(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    async with connected(nats_server) as bus, publishing(bus) as publisher, saving(bus, store):
        feed = Feed(publisher)
        async with processing(bus, store) as processor:
            await feed.trades((1, 1_000))
            await feed.trades((2, MINUTE + 1_000), (3, MINUTE + 59_000))
            await feed.trades((4, 2 * MINUTE + 5_000))
            await wait_versions(bus, 2)
            await feed.trades((5, MINUTE + 59_500, "50"), received=2 * MINUTE + 6_000)
            found = await wait_versions(bus, 3)
            await until(lambda: processor.corrections.waiting == 0)
    assert brief(found)[2] == (1, 2, "late", True, 3)
    assert found[2].close == "50"
