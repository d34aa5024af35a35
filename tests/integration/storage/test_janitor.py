"""Room in a real MARKET_RAW: made when it is due, never from what somebody still needs."""

import asyncio

import msgspec
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.durables import move_durable
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import Delivery, PullReader
from market_ingestor.bus.streams import durable_config
from market_ingestor.storage.janitor import Janitor
from tests.integration.storage.harness import Feed, prepared

pytestmark = pytest.mark.anyio

RAW_BYTES = 1_000_000
PAYLOAD = b"x" * 10_000
RAW = subjects.RAW_STREAM


async def fill(bus: Bus, feed: Feed, *, messages: int) -> int:
    """Bring MARKET_RAW to that many messages of 1 % of its room; returns the last sequence."""
    await prepared(bus, raw_bytes=RAW_BYTES)
    last = 0
    for _ in range(messages):
        last = await feed.send_raw(PAYLOAD)
    return last


async def acknowledge(bus: Bus, durable: str, messages: int) -> None:
    """Acknowledge the first ``messages`` for a durable."""
    config = durable_config(durable, ack_wait_s=30, max_ack_pending=1_000)
    async with PullReader(bus, RAW, config) as reader:
        taken = 0
        while taken < messages:
            arrived = (await reader.next(5.0))[: messages - taken]
            await reader.ack(arrived)
            taken += len(arrived)
        await bus.client.flush()


async def resume_at(bus: Bus, **positions: int) -> None:
    """Write resume records."""
    bucket = await bus.bucket(subjects.STATE_BUCKET)
    created = (await bus.stream_state(RAW)).created
    for key, position in positions.items():
        record = {"v": 1, "stream": RAW, "created": created, "position": position, "more": []}
        await bucket.put(key, msgspec.json.encode(record))


async def test_read_messages_make_room_and_a_cushion_stays(bus: Bus, feed: Feed) -> None:
    last = await fill(bus, feed, messages=80)
    await acknowledge(bus, subjects.SAVE_DURABLE, 80)
    await resume_at(bus, one=last, two=last + 1)
    janitor = Janitor(bus, Publisher(bus))
    await janitor.look()
    state = await bus.stream_state(RAW)
    assert janitor.purged == state.first_sequence - 1 > 0
    assert 0.35 < state.bytes / RAW_BYTES < 0.45
    await janitor.look()
    assert (await bus.stream_state(RAW)).first_sequence == state.first_sequence


async def test_what_was_given_out_and_not_acknowledged_comes_again(bus: Bus, feed: Feed) -> None:
    last = await fill(bus, feed, messages=80)
    config = durable_config(subjects.SAVE_DURABLE, ack_wait_s=1, max_ack_pending=1_000)
    async with PullReader(bus, RAW, config) as dying:
        given: list[Delivery] = []
        while len(given) < last:
            given += await dying.next(5.0)
        await dying.ack(given[:60])
        await bus.client.flush()
    await resume_at(bus, one=last)
    janitor = Janitor(bus, Publisher(bus))
    await janitor.look()
    assert janitor.purged > 0
    async with asyncio.timeout(10), PullReader(bus, RAW, config) as living:
        again: set[int] = set()
        while len(again) < last - 60:
            again |= {each.sequence for each in await living.next(5.0)}
    assert again == set(range(61, last + 1))


async def test_the_slowest_durable_and_the_oldest_position_are_kept(bus: Bus, feed: Feed) -> None:
    await fill(bus, feed, messages=70)
    await acknowledge(bus, subjects.SAVE_DURABLE, 70)
    await acknowledge(bus, "another", 20)
    await resume_at(bus, one=60, two=15)
    janitor = Janitor(bus, Publisher(bus))
    await janitor.look()
    assert (await bus.stream_state(RAW)).first_sequence == 15
    await resume_at(bus, two=60)
    await janitor.look()
    assert (await bus.stream_state(RAW)).first_sequence == 21


async def test_nothing_goes_while_the_savers_durable_is_away(bus: Bus, feed: Feed) -> None:
    """As when it is being made anew, and as before the first saver has started."""
    last = await fill(bus, feed, messages=70)
    await acknowledge(bus, "another", 70)
    await resume_at(bus, one=last)
    janitor = Janitor(bus, Publisher(bus))
    await janitor.look()
    assert janitor.purged == 0
    await acknowledge(bus, subjects.SAVE_DURABLE, 70)
    await janitor.look()
    assert janitor.purged > 0


async def test_what_a_moved_durable_leaves_out_is_not_kept_for_it(bus: Bus, feed: Feed) -> None:
    """Else a full stream refuses what could be acknowledged next, and never has room again."""
    last = await fill(bus, feed, messages=70)
    config = durable_config(subjects.SAVE_DURABLE, ack_wait_s=1, max_ack_pending=1_000)
    created = (await bus.stream_state(RAW)).created
    await move_durable(bus, RAW, config, behind=last, created=created)
    await resume_at(bus, one=60)
    janitor = Janitor(bus, Publisher(bus))
    await janitor.look()
    assert janitor.purged > 0


@pytest.mark.parametrize(
    "record",
    [None, b"not a record", b'{"position": 60, "created": "2001-01-01T00:00:00Z"}'],
    ids=["no record", "an unknown record", "the record of another stream"],
)
async def test_nothing_goes_while_it_is_unknown_what_is_needed(
    bus: Bus, feed: Feed, record: bytes | None
) -> None:
    last = await fill(bus, feed, messages=70)
    await acknowledge(bus, subjects.SAVE_DURABLE, 70)
    if record is not None:
        await resume_at(bus, one=last)
        bucket = await bus.bucket(subjects.STATE_BUCKET)
        await bucket.put("two", record)
    await Janitor(bus, Publisher(bus)).look()
    assert (await bus.stream_state(RAW)).first_sequence == 1


async def test_a_stream_full_of_unread_messages_is_told_once(bus: Bus, feed: Feed) -> None:
    await fill(bus, feed, messages=85)
    await resume_at(bus, one=1)

    publisher = Publisher(bus)
    janitor = Janitor(bus, publisher)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(publisher.run())
        await janitor.look()
        await janitor.look()
        running.cancel()
    assert (await bus.stream_state(subjects.EVENT_STREAM)).messages == 1
    subject = subjects.event("market", "_")
    told = await bus.last_message(subjects.EVENT_STREAM, subject)
    assert told is not None
    assert codec.event(subject, told.payload).type == "backlog"
