"""Publishing and reading a real nats-server, also while it is killed under load."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import msgspec
import pytest

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.ack_window import PubAck
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import Delivery, OrderedReader, PullReader
from market_ingestor.connectors.feed import Feed
from market_ingestor.embedded.nats_config import MAX_STORE_BYTES
from market_ingestor.errors import (
    BusError,
    StaleSequenceError,
    StreamRecreatedError,
    StreamSetupError,
)
from market_ingestor.model.trade import Trade
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

LIMITS = streams.StreamLimits(max_age_s=3_600, max_bytes=64 * 1024**2, duplicate_window_s=30)


@asynccontextmanager
async def connected(
    server: NatsHandle, limits: streams.StreamLimits = LIMITS
) -> AsyncIterator[Bus]:
    bus = await Bus.connect([server.url], name="test")
    configs = streams.market_streams(
        raw=limits, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
    )
    await ensure_streams(bus, configs, update=True)
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def publishing(bus: Bus) -> AsyncIterator[Publisher]:
    publisher = Publisher(bus)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def read_all(bus: Bus, stream: str, count: int) -> list[str]:
    payloads: list[str] = []
    async with OrderedReader(bus, stream, start_sequence=1) as reader:
        while len(payloads) < count:
            arrived = await reader.next(10)
            assert arrived, f"{len(payloads)} of {count} messages"
            payloads += [each.payload.decode() for each in arrived]
    return payloads


async def test_streams_can_be_set_up_twice(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, connected(nats_server):
        state = await bus.stream_state(subjects.RAW_STREAM)
    assert state.bytes_max == LIMITS.max_bytes
    assert state.messages == 0


async def test_streams_promised_most_of_the_disk_can_be_set_up_again(
    nats_server: NatsHandle,
) -> None:
    vast = msgspec.structs.replace(LIMITS, max_bytes=MAX_STORE_BYTES * 3 // 4)
    async with connected(nats_server, vast), connected(nats_server, vast) as bus:
        assert (await bus.stream_state(subjects.RAW_STREAM)).bytes_max == vast.max_bytes
    longer = msgspec.structs.replace(vast, max_age_s=7_200)
    async with connected(nats_server, longer) as bus:
        raw = await bus.api(f"STREAM.INFO.{subjects.RAW_STREAM}")
    assert raw["config"]["max_age"] == 7_200 * 10**9


async def test_many_may_set_up_streams_promised_most_of_the_disk_at_once(
    nats_server: NatsHandle,
) -> None:
    vast = msgspec.structs.replace(LIMITS, max_bytes=MAX_STORE_BYTES * 3 // 4)
    async with AsyncExitStack() as stack:
        reached = [stack.enter_async_context(connected(nats_server, vast)) for _ in range(5)]
        await asyncio.gather(*reached)


async def test_a_stream_of_another_size_is_the_same_one_also_after_a_restart_of_the_server(
    nats_server: NatsHandle,
) -> None:
    async with connected(nats_server) as bus:
        before = await bus.stream_state(subjects.RAW_STREAM)
    await nats_server.kill()
    await nats_server.start()
    larger = msgspec.structs.replace(LIMITS, max_bytes=2 * LIMITS.max_bytes)
    async with connected(nats_server, larger) as bus:
        await nats_server.kill()
        await nats_server.start()
        async with asyncio.timeout(10):
            while not bus.is_connected:  # noqa: ASYNC110 - nats-py tells nobody
                await asyncio.sleep(0.01)
        after = await bus.stream_state(subjects.RAW_STREAM)
        assert after.bytes_max == larger.max_bytes
        assert after.created == before.created
        await bus.api(f"STREAM.DELETE.{subjects.RAW_STREAM}")
    async with connected(nats_server, larger) as bus:
        assert (await bus.stream_state(subjects.RAW_STREAM)).created != before.created


async def test_a_stream_the_server_refuses_is_one_clear_error(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus:
        config = streams.stream_config(
            "OTHER", subjects.RAW_ALL, LIMITS, replicas=1, keeps_unread=False
        )
        with pytest.raises(StreamSetupError, match="OTHER"):
            await ensure_streams(bus, [config], update=True)


async def test_no_server_is_one_clear_error() -> None:
    with pytest.raises(BusError, match="no NATS server reached"):
        await Bus.connect(["nats://127.0.0.1:1"], name="test", timeout_s=0.5)


async def test_what_is_published_is_read_in_order(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        for number in range(5_000):
            await publisher.send(f"market.raw.a.S{number % 7}", b"%d" % number, f"m{number}")
        assert await publisher.drain(10)
        assert publisher.in_flight == 0
        assert await read_all(bus, subjects.RAW_STREAM, 5_000) == [str(n) for n in range(5_000)]


async def killed_and_started(server: NatsHandle) -> None:
    await server.kill()
    await server.start()


async def test_a_killed_server_loses_nothing_and_stores_nothing_twice(
    nats_server: NatsHandle,
) -> None:
    count = 20_000
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        fault: asyncio.Task[None] | None = None
        for number in range(count):
            if number == count // 2:
                fault = asyncio.create_task(killed_and_started(nats_server))
            await publisher.send(f"market.raw.a.S{number % 50}", b"%d" % number, f"m{number}")
        assert fault is not None
        await fault
        assert await publisher.drain(30)
        assert publisher.resent > 0
        stored = await read_all(bus, subjects.RAW_STREAM, count)
    assert len(stored) == count
    assert set(stored) == {str(number) for number in range(count)}


async def test_what_a_lost_connection_took_along_comes_before_what_waited_for_it(
    nats_server: NatsHandle,
) -> None:
    payload = bytes(200_000)
    async with connected(nats_server) as bus, publishing(bus) as publisher:

        async def feed(first: int, last: int) -> None:
            for number in range(first, last):
                await publisher.send("market.raw.a.S", b"%d " % number + payload, f"m{number}")
                await asyncio.sleep(0)

        await nats_server.pause()
        feeding = asyncio.create_task(feed(0, 80))
        await asyncio.sleep(0.2)
        assert not feeding.done()  # it was more than sockets hold
        await killed_and_started(nats_server)
        await feeding
        while not bus.is_connected:  # noqa: ASYNC110 - nats-py tells nobody
            await asyncio.sleep(0.001)
        await feed(80, 100)  # while everything is sent again
        assert await publisher.drain(20)
        last = (await bus.stream_state(subjects.RAW_STREAM)).last_sequence
        stored = [int(each.split()[0]) for each in await read_all(bus, subjects.RAW_STREAM, last)]
    assert stored == list(range(100))


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_stream_made_anew_is_read_from_its_beginning_or_said_to_be_another(
    nats_server: NatsHandle, is_known: bool
) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        created = (await bus.stream_state(subjects.RAW_STREAM)).created if is_known else None
        for number in range(10):
            await publisher.publish("market.raw.a.S", b"old", f"old{number}")
        async with OrderedReader(
            bus, subjects.RAW_STREAM, start_sequence=1, created=created
        ) as reader:
            while reader.next_sequence < 11:
                await reader.next(5)
            await bus.api(f"STREAM.DELETE.{subjects.RAW_STREAM}")
            again = streams.market_streams(
                raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
            )
            await ensure_streams(bus, again, update=False)
            await publisher.publish("market.raw.a.S", b"new", "new1")
            if is_known:
                with pytest.raises(StreamRecreatedError):
                    await until_read(reader)
            else:
                (arrived,) = await until_read(reader)
                assert (arrived.payload, arrived.sequence) == (b"new", 1)


async def until_read(reader: OrderedReader) -> list[Delivery]:
    async with asyncio.timeout(20):
        while True:
            arrived = await reader.next(5)
            if arrived:
                return arrived


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_a_connection_whose_server_is_away_can_be_closed(
    nats_server: NatsHandle, anyio_backend: object
) -> None:
    del anyio_backend
    bus = await Bus.connect([nats_server.url], name="test")
    await nats_server.kill()
    async with asyncio.timeout(10):
        while bus.is_connected:  # noqa: ASYNC110 - nats-py tells nobody
            await asyncio.sleep(0.01)
    await bus.client.publish("market.live.a.b.1m", b"buffered until it is back")
    await bus.close()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_who_publishes_when_the_connection_is_lost_is_not_hit_and_it_comes_back(
    nats_server: NatsHandle, anyio_backend: object
) -> None:
    del anyio_backend
    told: list[bytes] = []

    def listen(_subject: str, payload: bytes) -> None:
        told.append(payload)

    bus = await Bus.connect([nats_server.url], name="test")
    await bus.subscribe_core("market.live.a.b.1m", listen)
    transport = bus.client._transport  # noqa: SLF001 - nobody else closes a socket just so
    assert transport is not None
    transport.close()  # type: ignore[no-untyped-call] # nats-py has no types there
    await transport.wait_closed()  # type: ignore[no-untyped-call] # as above
    with pytest.raises(ConnectionResetError):  # not uvloop's RuntimeError, which ends the flusher
        transport.writelines([b"PING\r\n"])
    async with asyncio.timeout(10):
        while not told:
            await bus.publish_core(("market.live.a.b.1m", b"{}"))
            await asyncio.sleep(0)
    await bus.close()


async def test_what_is_sent_again_is_stored_once(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        first = await publisher.publish("market.raw.a.S", b"x", "m1")
        again = await publisher.publish("market.raw.a.S", b"x", "m1")
        assert (again.sequence, again.is_duplicate) == (first.sequence, True)
        assert (await bus.stream_state(subjects.RAW_STREAM)).messages == 1


@pytest.mark.timeout(10)  # nothing else would end a loop that waits for nothing
async def test_a_connection_lost_again_at_once_stops_nobody(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        await publisher.publish("market.raw.a.S", b"1", "m1")
        await nats_server.kill()
        while bus.is_connected:  # noqa: ASYNC110 - nats-py tells nobody
            await asyncio.sleep(0.01)
        await bus._on_reconnected()  # noqa: SLF001 - as nats-py does, only too late
        await nats_server.start()
        async with asyncio.timeout(5):
            assert (await publisher.publish("market.raw.a.S", b"2", "m2")).sequence == 2


async def test_a_reader_that_has_ended_is_forgotten(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus:
        async with OrderedReader(bus, subjects.RAW_STREAM, start_sequence=1) as reader:
            assert not await reader.next(0.05)
        ended = weakref.ref(reader)
        del reader
        gc.collect()
        assert ended() is None


async def test_readers_go_on_after_the_server_was_killed(nats_server: NatsHandle) -> None:
    durable = streams.durable_config("save", ack_wait_s=30, max_ack_pending=10_000)
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        OrderedReader(bus, subjects.RAW_STREAM, start_sequence=1) as ordered,
        PullReader(bus, subjects.RAW_STREAM, durable) as shared,
    ):
        seen: tuple[list[str], list[str]] = ([], [])
        for phase in range(2):
            if phase:
                await nats_server.kill()
                await nats_server.start()
            for number in range(100):
                name = f"{phase}.{number}"
                await publisher.send("market.raw.a.S", name.encode(), name)
            async with asyncio.timeout(30):
                for reader, names in zip((ordered, shared), seen, strict=True):
                    while len(set(names)) < (phase + 1) * 100:
                        arrived = await reader.next(1)
                        names += [each.payload.decode() for each in arrived]
                        if reader is shared:
                            await shared.ack(arrived)
        expected = [f"{phase}.{number}" for phase in range(2) for number in range(100)]
        assert seen[0] == expected
        assert set(seen[1]) == set(expected)


async def test_batches_with_equal_ends_and_other_content_are_both_stored(
    nats_server: NatsHandle,
) -> None:
    lost = (101, 102)  # two connections missed one trade each, and a refill brought both
    feeds = [("a-1", lost[:1]), ("a-2", lost[1:]), ("a-3", ())]
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        for name, missed in feeds:
            feed = Feed(name, "okx", source="ws", has_contiguous_ids=True, simulated=False)
            lane = feed.lane("S")
            lane.put(
                [
                    Trade(id=str(each), price="1", amount="1", side="buy", time_us=each)
                    for each in range(100, 104)
                    if each not in missed
                ],
                1,
            )
            (message,) = lane.drain()
            for is_again in (False, True):
                ack = await publisher.publish(message.subject, message.payload, message.message_id)
                assert ack.is_duplicate == is_again
        assert (await bus.stream_state(subjects.RAW_STREAM)).messages == len(feeds)


async def test_the_fence_admits_one_writer(nats_server: NatsHandle) -> None:
    subject = "market.kline.a.S.1m"
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        first = await publisher.publish(subject, b"1", "k1", expected_sequence=0)
        assert first == PubAck(sequence=1, is_duplicate=False)
        with pytest.raises(StaleSequenceError):
            await publisher.publish(subject, b"2", "k2", expected_sequence=0)
        try:  # servers before 2.12 look at the id first, newer ones at the fence
            again = await publisher.publish(subject, b"1", "k1", expected_sequence=0)
            assert again == PubAck(sequence=1, is_duplicate=True)
        except StaleSequenceError:
            pass
        stored = await bus.last_message(subjects.KLINE_STREAM, subject)
        assert stored is not None
        assert (stored.sequence, stored.payload) == (1, b"1")
        assert await bus.last_message(subjects.KLINE_STREAM, "market.kline.a.S.5m") is None


async def test_a_full_stream_holds_the_publisher_until_there_is_room(
    nats_server: NatsHandle,
) -> None:
    small = streams.StreamLimits(max_age_s=3_600, max_bytes=20_000, duplicate_window_s=30)
    async with connected(nats_server, small) as bus, publishing(bus) as publisher:
        for number in range(40):
            await publisher.send("market.raw.a.S", b"x" * 1_000, f"m{number}")
        assert not await publisher.drain(1)  # the server refuses, and the publisher keeps on
        assert publisher.is_held
        await bus.api(f"STREAM.PURGE.{subjects.RAW_STREAM}")
        # Room for the rest only when what is stored goes again; the numbers fit twice.
        assert publisher.refused > 0
        async with asyncio.timeout(20):
            while publisher.in_flight:
                await bus.api(f"STREAM.PURGE.{subjects.RAW_STREAM}")
                await publisher.drain(0.1)
        assert not publisher.is_held


async def test_an_unacknowledged_message_comes_again(nats_server: NatsHandle) -> None:
    durable = streams.durable_config("save", ack_wait_s=0.5, max_ack_pending=10)
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        PullReader(bus, subjects.RAW_STREAM, durable) as reader,
    ):
        await publisher.send("market.raw.a.S", b"1", "m1")
        (first,) = await reader.next(5)
        (second,) = await reader.next(5)
        assert first.sequence == second.sequence
        await reader.ack([second])
        async with asyncio.timeout(5):
            while True:
                state = await bus.consumer_state(subjects.RAW_STREAM, "save")
                assert state is not None
                if state.ack_floor == 1 and not state.unacknowledged:
                    break


async def test_a_stream_can_be_entered_by_time(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, publishing(bus) as publisher:
        await publisher.publish("market.raw.a.S", b"1", "m1")
        between = datetime.now(UTC)
        await publisher.publish("market.raw.a.S", b"2", "m2")
        assert await bus.sequence_since(subjects.RAW_STREAM, between) == 2
        assert await bus.sequence_since(subjects.RAW_STREAM, datetime.now(UTC)) == 3
