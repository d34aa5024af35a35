"""A server that forgets how far savers have come makes them save nothing twice and lose nothing."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import Delivery, PullReader
from market_ingestor.bus.streams import durable_config
from market_ingestor.storage import saved
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.saved import Saved, SavedRecord
from market_ingestor.storage.saver import BatchSaver
from market_ingestor.storage.times import at
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import (
    Feed,
    acknowledged,
    mark,
    prepared,
    rows,
    saving,
    trade,
    until,
)
from tests.integration.storage.saved_harness import (
    MESSAGES,
    RAW,
    RECORD_ENDS,
    count,
    delivered,
    forget,
    joined,
    recorded,
    remake,
    send,
)
from tests.support.servers import NatsHandle, spoil_durable

pytestmark = pytest.mark.anyio


@pytest.fixture
def has_timescale() -> bool:
    """Nothing here depends on how tables are split."""
    return False


def folder(server: NatsHandle) -> Path:
    """Return where a server keeps its streams."""
    return server.server.log_path.parent.parent


async def test_what_was_saved_is_passed_over_when_the_durable_is_forgotten(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await feed.send_raw(b"\xff")  # a dead letter, which must not be buried again
        await recorded(database, last := await send(feed, 1))
    await forget(bus)
    dead = (await bus.stream_state(subjects.DEAD_STREAM)).messages
    async with saving(bus, database) as again:
        await acknowledged(bus, RAW, last)
        assert again.trades.skipped == last
        await acknowledged(bus, RAW, await send(feed, 1 + MESSAGES))
    assert (again.trades.committed, again.trades.duplicate, again.trades.dead) == (MESSAGES, 0, 0)
    assert again.trades.skipped == last
    assert await count(database) == 2 * MESSAGES
    assert (await bus.stream_state(subjects.DEAD_STREAM)).messages == dead == 1


async def test_what_holds_nothing_to_be_saved_is_noted_as_well(
    bus: Bus, database: Database, feed: Feed
) -> None:
    """Else every mark would be asked for before a durable is moved."""
    async with saving(bus, database):
        sent = [await feed.publish(subjects.mark("binance"), mark()) for _ in range(3)]
        await joined(database, sent[-1])


async def test_a_message_is_not_noted_before_its_dead_letter_is_written(
    bus: Bus, database: Database, feed: Feed
) -> None:
    """Whoever takes over from a killed saver would pass it over, and nobody would bury it."""
    await bus.api(f"STREAM.DELETE.{subjects.DEAD_STREAM}")
    async with saving(bus, database, limits=SaveLimits(batch_size=2, flush_interval_s=0.5)):
        await feed.send_raw(b"\xff")
        last = await feed.send(trade(1))
        await until(lambda: _is_stored(database))
        assert await rows(database, RECORD_ENDS, RAW) == []
        await prepared(bus)
        await acknowledged(bus, RAW, last)
        await joined(database, last)
    assert (await bus.stream_state(subjects.DEAD_STREAM)).messages == 1


async def _is_stored(database: Database) -> bool:
    return await count(database) == 1


async def test_a_server_killed_while_it_wrote_the_durable_costs_nothing(
    nats_server: NatsHandle, bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database) as saver:
        await recorded(database, last := await send(feed, 1))
        await nats_server.kill()
        spoil_durable(nats_server.server, RAW)
        await nats_server.start()
        await until(lambda: saver.trades.skipped + saver.trades.duplicate == last)
        await acknowledged(bus, RAW, await send(feed, 1 + MESSAGES))
    assert await count(database) == 2 * MESSAGES


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_stream_made_anew_is_saved_from_its_first_message(
    bus: Bus, database: Database, feed: Feed, is_running: bool
) -> None:
    async def check(saver: BatchSaver) -> None:
        last = await send(feed, 1 + MESSAGES)
        assert last == MESSAGES  # the same sequences
        await acknowledged(bus, RAW, last)
        assert saver.trades.skipped == 0
        assert await count(database) == 2 * MESSAGES

    async with saving(bus, database) as saver:
        await recorded(database, await send(feed, 1))
        if is_running:
            await remake(bus)
            await check(saver)
    if not is_running:
        await remake(bus)
        async with saving(bus, database) as saver:
            await check(saver)


async def test_an_empty_database_gets_the_whole_stream(
    bus: Bus, database: Database, other_database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
    async with saving(bus, other_database):  # by mistake: the durable goes on where it was
        last = await feed.send(trade(MESSAGES + 1))
        await recorded(other_database, last)
    await forget(bus)
    async with saving(bus, other_database) as saver:
        await acknowledged(bus, RAW, last)
    assert await count(other_database) == MESSAGES + 1
    assert saver.trades.committed == MESSAGES


async def test_what_a_restored_database_lacks_is_saved_again(
    bus: Bus, database: Database, other_database: Database, feed: Feed
) -> None:
    """Also when savers have worked on it before the durable was forgotten."""
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
    async with saving(bus, other_database):
        await acknowledged(bus, RAW, await send(feed, 1 + MESSAGES))
    async with saving(bus, database):  # as if it were a backup of the other one
        last = await feed.send(trade(1 + 2 * MESSAGES))
        await recorded(database, last)
    await forget(bus)
    async with saving(bus, database) as saver:
        await acknowledged(bus, RAW, last)
        assert (saver.trades.skipped, saver.trades.committed) == (MESSAGES + 1, MESSAGES)
    assert await count(database) == 2 * MESSAGES + 1


async def test_a_stream_that_lost_its_end_is_not_believed_to_be_whole(
    nats_server: NatsHandle, bus: Bus, database: Database, feed: Feed, tmp_path: Path
) -> None:
    """Not even if the clock of its server was put back as well, as with a machine's snapshot."""
    store = folder(nats_server)
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
    await nats_server.kill()
    shutil.copytree(store, tmp_path / "snapshot")
    await nats_server.start()
    async with saving(bus, database):
        await recorded(database, await send(feed, 1 + MESSAGES))
    await nats_server.kill()
    shutil.copytree(tmp_path / "snapshot", store, dirs_exist_ok=True)
    await nats_server.start()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await rows(database, "UPDATE market_saved SET stored_at = $1", tomorrow)
    async with saving(bus, database):
        first = await feed.send(trade(1 + 2 * MESSAGES))
        await acknowledged(bus, RAW, first)
        last = await send(feed, 2 + 2 * MESSAGES)
        await acknowledged(bus, RAW, last)
    assert (first, last) == (1 + MESSAGES, 1 + 2 * MESSAGES)
    assert await count(database) == 3 * MESSAGES + 1


async def test_a_durable_ahead_of_its_stream_is_made_anew(
    nats_server: NatsHandle, bus: Bus, database: Database, feed: Feed, tmp_path: Path
) -> None:
    """A power cut may take a stream's end and leave what was written down of the durable."""
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
    await nats_server.kill()
    shutil.copytree(folder(nats_server), tmp_path / "before")
    await nats_server.start()
    async with saving(bus, database):
        await recorded(database, last := await send(feed, 1 + MESSAGES))
    await nats_server.kill()
    (ended,) = folder(nats_server).rglob(f"{RAW}/msgs")
    (before,) = (tmp_path / "before").rglob(f"{RAW}/msgs")
    shutil.rmtree(ended)
    shutil.copytree(before, ended)
    await nats_server.start()
    async with saving(bus, database):
        again = await send(feed, 1 + 2 * MESSAGES)
        assert again == last
        await acknowledged(bus, RAW, again)
    assert await count(database) == 3 * MESSAGES


async def test_a_saver_that_stands_still_believes_nothing_it_once_read(
    bus: Bus, database: Database, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may hang, and be another one when it answers again."""
    async with saving(bus, database):
        await recorded(database, last := await send(feed, 1))
    created = (await bus.stream_state(RAW)).created
    record = SavedRecord(bus, database)
    await record.look()
    old = delivered(last, stored_us=1)
    assert await record.covered(RAW, created, [old]) == {last}
    monkeypatch.setattr(saved, "KNOWN_MAX_S", 0.0)
    assert await record.covered(RAW, created, [old]) == frozenset()


async def test_a_later_message_in_the_place_of_a_saved_one_ends_the_belief_in_it(
    bus: Bus, database: Database, feed: Feed
) -> None:
    """The stream lost its end and is filled again beyond it: it cannot be seen to be shorter."""
    async with saving(bus, database):
        await recorded(database, last := await send(feed, 1))
    tenth = await bus.message_at(RAW, 10)
    assert tenth is not None
    await rows(database, "UPDATE market_saved SET stored_at = $1", at(tenth.stored_us))
    await rows(database, "DELETE FROM market_trades WHERE trade_id::int > 10")
    await forget(bus)
    async with saving(bus, database):
        await acknowledged(bus, RAW, last)
        await joined(database, last, since=10)  # of what was saved now
    assert await count(database) == MESSAGES


async def test_what_batches_noted_is_joined_once_a_look_at_a_time(
    bus: Bus, database: Database
) -> None:
    record = SavedRecord(bus, database)
    for since, through in ((0, 10), (20, 30), (10, 20)):
        some = Saved(stream=RAW, created="then", since=since, through=through, stored_us=through)
        await record.write([some])
        await record.look()
    assert await rows(database, "SELECT since, through, stored_at FROM market_saved") == [
        (0, 30, at(30))
    ]
    assert await rows(database, "SELECT FROM market_saved_notes") == []
    anew = Saved(stream=RAW, created="now", since=0, through=5, stored_us=31)
    await record.write([anew])
    await record.look()
    assert await rows(database, "SELECT created, since, through FROM market_saved") == [
        ("now", 0, 5)
    ]


async def test_a_durable_made_by_hand_to_begin_later_says_nothing(
    bus: Bus, database: Database, feed: Feed
) -> None:
    record = SavedRecord(bus, database)
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
        await record.look()
    await send(feed, 1 + MESSAGES)
    await forget(bus)
    late = durable_config(subjects.SAVE_DURABLE, ack_wait_s=30, max_ack_pending=1_000)
    async with PullReader(bus, RAW, late | {"deliver_policy": "new"}) as reader:
        assert not await reader.next(0.2)
        last = await feed.send(trade(1 + 2 * MESSAGES))
        await reader.ack(await reader.next(5.0))
        await acknowledged(bus, RAW, last)  # so the server says, of all
    await record.look()
    await forget(bus)
    async with saving(bus, database):
        await acknowledged(bus, RAW, last)
    assert await count(database) == 2 * MESSAGES + 1


async def test_a_record_of_another_stream_is_not_believed(
    bus: Bus, database: Database, feed: Feed
) -> None:
    """Not even if its clock is wrong: its time is what otherwise tells the messages apart."""
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await rows(database, "UPDATE market_saved SET stored_at = $1", tomorrow)
    record = SavedRecord(bus, database)
    await record.look()

    async def covered() -> frozenset[int]:
        """Return what is passed over of all that a durable gets."""
        config = durable_config("other", ack_wait_s=30, max_ack_pending=1_000)
        async with PullReader(bus, RAW, config) as reader:
            arrived: list[Delivery] = []
            while len(arrived) < MESSAGES:
                arrived += await reader.next(5.0)
        await record.look()  # it may be too old by now
        assert reader.origin is not None
        return await record.covered(RAW, reader.origin.stream, arrived)

    assert await covered() == frozenset(range(1, MESSAGES + 1))
    await remake(bus)
    await send(feed, 1 + MESSAGES)
    assert await covered() == frozenset()


async def test_nothing_is_known_while_the_database_is_away(
    bus: Bus, dsn: str, database: Database, feed: Feed
) -> None:
    """It may be another one, from a backup, when it comes back."""
    async with saving(bus, database):
        await recorded(database, await send(feed, 1))
    old = delivered(1, stored_us=1)
    created = (await bus.stream_state(RAW)).created
    async with Database(dsn) as other:
        record = SavedRecord(bus, other)
        await record.begin()
        assert await record.covered(RAW, created, [old]) == {1}
    await record.begin()
    assert await record.covered(RAW, created, [old]) == frozenset()
