"""Resume records in their bucket, also when somebody else has written there."""

import asyncio

import pytest

from market_ingestor.bus import subjects
from market_ingestor.config import NatsSettings
from market_ingestor.klines import resume
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.memory import ResumeMemory
from market_ingestor.runtime.bus_setup import prepare_bus
from tests.integration.klines.harness import SLOT, connected, publishing
from tests.integration.klines.memory_store import MemoryStore
from tests.support.servers import NatsHandle
from tests.unit.klines.build import rules

pytestmark = pytest.mark.anyio

UNUSED = resume.key_of(7)  # a slot without symbols, whose record never changes


def owns(_number: int) -> bool:
    return True


async def test_a_bucket_made_for_one_record_is_made_to_keep_more(nats_server: NatsHandle) -> None:
    name = subjects.bucket_stream(subjects.STATE_BUCKET)
    async with connected(nats_server) as bus:
        bucket = await bus.bucket(subjects.STATE_BUCKET, history=1)
        await bucket.put(UNUSED, b"1")
        await prepare_bus([nats_server.url], NatsSettings())
        await bucket.put(UNUSED, b"2")
        kept = await bus.messages_of(name, subjects.bucket_subject(subjects.STATE_BUCKET, UNUSED))
        assert [each.payload for each in kept] == [b"1", b"2"]


async def test_a_record_nobody_can_read_is_replaced_as_soon_as_the_server_is_back(
    nats_server: NatsHandle,
) -> None:
    async with connected(nats_server) as bus:
        memory = ResumeMemory(bus, MemoryStore(), Intake(rules(), owns), owns)
        await memory.load()
        bucket = await bus.bucket(subjects.STATE_BUCKET)
        await bucket.put(UNUSED, b"null")
        await nats_server.kill()
        assert not await memory.write(1)
        await nats_server.start()
        async with asyncio.timeout(10):
            while not bus.is_connected:  # noqa: ASYNC110 - nats-py tells nobody
                await asyncio.sleep(0.01)
        assert await memory.write(1)
        record = await bucket.get(UNUSED)
        assert record is not None
        assert resume.decode(record).read_to == 1


@pytest.mark.parametrize("spoilt", [1, subjects.STATE_HISTORY])
@pytest.mark.parametrize(("key", "lost_start"), [(UNUSED, 3), (resume.key_of(SLOT), 1)])
async def test_only_lost_records_of_trades_in_the_stream_make_it_read_again(
    nats_server: NatsHandle, spoilt: int, key: str, lost_start: int
) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        for number in (1, 2):
            await publisher.publish(subjects.raw("binance", "BTCUSDT"), b"{}", f"m{number}")
        memory = ResumeMemory(bus, MemoryStore(), Intake(rules(), owns), owns)
        await memory.load()
        assert memory.start == 1  # nobody has read anything
        assert await memory.write(3, all_slots=True)
        bucket = await bus.bucket(subjects.STATE_BUCKET)
        for _ in range(spoilt):
            await bucket.put(key, b"null")
        memory = ResumeMemory(bus, MemoryStore(), Intake(rules(), owns), owns)
        await memory.load()
        assert memory.start == (3 if spoilt == 1 else lost_start)
