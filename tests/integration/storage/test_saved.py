"""A server that forgets how far savers have come makes them save nothing twice and lose nothing."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.durables import ensure_durable, move_durable
from market_ingestor.bus.jetstream import ApiError, Bus
from market_ingestor.bus.reader import Delivery, PullReader
from market_ingestor.bus.streams import durable_config, moved_config
from market_ingestor.errors import StreamSetupError
from market_ingestor.storage import lane, saved
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.lane import PULL_MESSAGES, durable
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.saved import Saved, SavedRecord
from market_ingestor.storage.saver import CONNECTIONS, BatchSaver
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
from tests.support.servers import DatabaseMaker, NatsHandle, spoil_durable

pytestmark = pytest.mark.anyio

RAW = subjects.RAW_STREAM
MESSAGES = 100
MANY = 12 * PULL_MESSAGES
RECORD_ENDS = "SELECT since, through FROM market_saved WHERE stream = $1 ORDER BY since"
NEWEST = "SELECT min(created), max(stored_at) FROM market_saved WHERE stream = $1"
INSERT = """
INSERT INTO market_saved (stream, created, since, through, stored_at) VALUES ($1, $2, $3, $4, $5)
"""
RECORD = "SELECT created, since, through, stored_at FROM market_saved WHERE stream = $1"


@pytest.fixture
def has_timescale() -> bool:
    """Nothing here depends on how tables are split."""
    return False


async def send(feed: Feed, first: int) -> int:
    """Publish trades from a number on, a message each; return the last sequence."""
    last = 0
    for number in range(first, first + MESSAGES):
        last = await feed.send(trade(number))
    return last


async def recorded(database: Database, sequence: int) -> None:
    """Wait until the database remembers what was saved up to a sequence."""

    async def is_known() -> bool:
        return any(found[2] >= sequence for found in await rows(database, RECORD, RAW))

    await until(is_known)


async def joined(database: Database, last: int, *, since: int = 0) -> None:
    """Wait until the database remembers everything up to a sequence, as one stretch."""

    async def is_one() -> bool:
        return await rows(database, RECORD_ENDS, RAW) == [(since, last)]

    await until(is_one)


async def forget(bus: Bus) -> None:
    """Make the server forget how far savers have come in MARKET_RAW."""
    await bus.api(f"CONSUMER.DELETE.{RAW}.{subjects.SAVE_DURABLE}")


def folder(server: NatsHandle) -> Path:
    """Return where a server keeps its streams."""
    return server.server.log_path.parent.parent


async def remake(bus: Bus) -> None:
    """Delete MARKET_RAW and make it anew: sequences begin at 1 again."""
    await bus.api(f"STREAM.DELETE.{RAW}")
    await prepared(bus)


async def count(database: Database) -> int:
    found: int = await database.value("SELECT count(*) FROM market_trades")
    return found


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


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out whatever can be, however little it is, and at once."""
    monkeypatch.setattr(saved, "PASSED_MAX", 0)
    monkeypatch.setattr(lane, "LEAVE_OUT_WAIT_S", 0.0)


async def send_many(feed: Feed, first: int) -> int:
    """Publish more than readers have asked for, as `send` does."""
    numbers = range(first, first + MANY)
    return max(await asyncio.gather(*(feed.send(trade(number)) for number in numbers)))


@pytest.mark.usefixtures("hasty")
async def test_much_that_was_saved_is_left_out_when_the_durable_is_forgotten(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await recorded(database, last := await send_many(feed, 1))
    await forget(bus)
    new = await send(feed, 1 + MANY)
    async with saving(bus, database) as one, saving(bus, database) as other:
        await acknowledged(bus, RAW, new)
        both = (one.trades, other.trades)
        assert 0 < sum(each.skipped for each in both) < MANY
        assert sum(each.committed for each in both) == MESSAGES
    assert last == MANY
    assert await count(database) == MANY + MESSAGES
    info = await bus.api(f"CONSUMER.INFO.{RAW}.{subjects.SAVE_DURABLE}")
    assert info["config"]["opt_start_seq"] == last + 1


@pytest.mark.usefixtures("hasty")
async def test_a_durable_that_was_moved_is_moved_again_and_outlives_restarts(
    nats_server: NatsHandle, bus: Bus, database: Database, feed: Feed
) -> None:
    last = 0
    for first in (1, 1 + MANY):
        async with saving(bus, database):
            await recorded(database, last := await send_many(feed, first))
        await forget(bus)
        async with saving(bus, database) as saver:
            await acknowledged(bus, RAW, last)
            assert saver.trades.skipped < last
    await nats_server.kill()
    await nats_server.start()
    async with saving(bus, database) as saver:
        await acknowledged(bus, RAW, await send(feed, 1 + 2 * MANY))
        assert (saver.trades.skipped, saver.trades.committed) == (0, MESSAGES)
    assert await count(database) == 2 * MANY + MESSAGES
    info = await bus.api(f"CONSUMER.INFO.{RAW}.{subjects.SAVE_DURABLE}")
    assert info["config"]["opt_start_seq"] == last + 1


@pytest.mark.usefixtures("hasty")
async def test_what_took_the_place_of_what_was_saved_is_not_left_out(
    bus: Bus, database: Database, feed: Feed
) -> None:
    """As if the stream had lost its end, and had been filled again beyond it."""
    async with saving(bus, database):
        await recorded(database, last := await send_many(feed, 1))
    tenth = await bus.message_at(RAW, 10)
    assert tenth is not None
    await rows(database, "UPDATE market_saved SET stored_at = $1", at(tenth.stored_us))
    await rows(database, "DELETE FROM market_trades WHERE trade_id::int > 10")
    await forget(bus)
    async with saving(bus, database):
        await acknowledged(bus, RAW, last)
    assert await count(database) == MANY


@pytest.mark.usefixtures("hasty")
async def test_another_database_gets_all_of_what_a_moved_durable_left_out(
    nats_server: NatsHandle, bus: Bus, database: Database, other_database: Database, feed: Feed
) -> None:
    """When the server forgets a durable that was moved, it begins at the first message."""
    async with saving(bus, database):
        await recorded(database, last := await send_many(feed, 1))
    await forget(bus)
    async with saving(bus, database) as saver:
        await acknowledged(bus, RAW, last)
        assert saver.trades.skipped < last
    await nats_server.kill()
    spoil_durable(nats_server.server, RAW)
    await nats_server.start()
    async with saving(bus, other_database):
        await acknowledged(bus, RAW, await send(feed, 1 + MANY))
        await recorded(other_database, last + MESSAGES)
    assert await count(other_database) == MANY + MESSAGES


async def test_an_answer_without_the_durable_says_that_it_is_away(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-server 2.9.10 gives it, without an error, while it deletes a durable at work."""

    async def answers(_: str) -> dict[str, str]:
        return {"type": "io.nats.jetstream.api.v1.consumer_info_response"}

    monkeypatch.setattr(bus, "api", answers)
    assert await bus.consumer_state(RAW, subjects.SAVE_DURABLE) is None


async def test_a_durable_that_is_being_moved_is_there_or_not(bus: Bus) -> None:
    config = durable(SaveLimits())
    created = (await bus.stream_state(RAW)).created

    async def look(moving: asyncio.Task[None]) -> None:
        while not moving.done():
            state = await bus.consumer_state(RAW, subjects.SAVE_DURABLE)
            assert state is None or state.ack_floor in {0, 50}
            with contextlib.suppress(StreamSetupError):  # it is tried again
                await ensure_durable(bus, RAW, config)

    async def move() -> None:
        for _ in range(100):
            with contextlib.suppress(ApiError, StreamSetupError):
                await move_durable(bus, RAW, config, behind=50, created=created)

    async with asyncio.TaskGroup() as tasks:
        moving = tasks.create_task(move())
        for _ in range(5):
            tasks.create_task(look(moving))


@pytest.mark.usefixtures("hasty")
async def test_what_no_stretch_has_is_saved_before_the_rest_is_left_out(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await recorded(database, last := await send_many(feed, 1))
    ((created, stored_at),) = await rows(database, NEWEST, RAW)
    await rows(database, "DELETE FROM market_saved WHERE stream = $1", RAW)
    for since, through in ((0, 1_000), (1_100, last)):
        await rows(database, INSERT, RAW, created, since, through, stored_at)
    await rows(database, "DELETE FROM market_trades WHERE trade_id::int BETWEEN 1001 AND 1100")
    await forget(bus)
    few = SaveLimits(batch_size=10, batch_size_max=50, flush_interval_s=0.1)
    async with saving(bus, database, limits=few) as saver:
        await acknowledged(bus, RAW, last)
        assert saver.trades.skipped < last - 1_000
        await joined(database, last)
    assert await count(database) == MANY
    info = await bus.api(f"CONSUMER.INFO.{RAW}.{subjects.SAVE_DURABLE}")
    assert info["config"]["opt_start_seq"] == last + 1


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


async def test_a_durable_moved_in_another_stream_begins_at_the_first_message(
    bus: Bus, database: Database, feed: Feed
) -> None:
    config = durable(SaveLimits())
    old = (await bus.stream_state(RAW)).created
    await remake(bus)
    last = await send(feed, 1)
    await move_durable(bus, RAW, config, behind=MESSAGES // 2, created=old)
    async with saving(bus, database):
        await acknowledged(bus, RAW, last)
    assert await count(database) == MESSAGES


async def test_a_durable_left_by_a_saver_that_died_moving_it_is_found_out(
    bus: Bus, database: Database, feed: Feed
) -> None:
    """It died before it could see that its stream was made anew in between."""
    last = await send(feed, 1)
    config = moved_config(durable(SaveLimits()), behind=MESSAGES // 2, created="2000-01-01")
    create = f"CONSUMER.DURABLE.CREATE.{RAW}.{subjects.SAVE_DURABLE}"
    await bus.api(create, {"stream_name": RAW, "config": config})
    async with saving(bus, database):
        await acknowledged(bus, RAW, last)
    assert await count(database) == MESSAGES


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


@pytest.fixture
async def other_database(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    """Give another database with the schema."""
    dsn = make_database()
    await migrate(dsn, use_timescale=False)
    async with Database(dsn, stages=True, connections_max=CONNECTIONS) as opened:
        yield opened


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
    old = Delivery(
        subject="s",
        payload=b"",
        sequence=last,
        consumer_sequence=1,
        stored_us=1,
        pending=0,
        reply="r",
    )
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


@pytest.mark.usefixtures("hasty")
async def test_a_stretch_whose_end_is_another_message_by_now_is_given_up(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await recorded(database, last := await send(feed, 1))
        await joined(database, last)
    await forget(bus)
    await ensure_durable(bus, RAW, durable(SaveLimits()))
    record = SavedRecord(bus, database)
    found = await record.left_out(RAW, subjects.SAVE_DURABLE)
    assert found is not None
    assert (found.behind.through, list(found.missing)) == (last, [])

    tenth, end = await bus.message_at(RAW, 10), await bus.message_at(RAW, last)
    assert tenth is not None
    assert end is not None
    await rows(database, "UPDATE market_saved SET stored_at = $1", at(tenth.stored_us))
    assert await record.left_out(RAW, subjects.SAVE_DURABLE) is None
    newer = Delivery(
        subject="s",
        payload=b"",
        sequence=last,
        consumer_sequence=1,
        stored_us=end.stored_us,
        pending=0,
        reply="r",
    )
    assert await record.covered(RAW, found.behind.created, [newer]) == frozenset()
    await record.look()
    assert await rows(database, RECORD_ENDS, RAW) == []


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([((0, 10), 5), ((10, 20), 6)], [(0, 20, 6)]),
        ([((0, 10), 5), ((11, 20), 6)], [(0, 10, 5), (11, 20, 6)]),
        ([((0, 10), 5), ((5, 20), 6)], [(0, 20, 6)]),
        ([((0, 20), 5), ((5, 8), 5)], [(0, 20, 5)]),
        ([((0, 20), 5), ((5, 8), 6)], [(5, 8, 6)]),  # 6 to 8 took the place of others
        ([((0, 20), 5), ((0, 8), 6)], [(0, 8, 6)]),
    ],
)
async def test_stretches_that_touch_are_joined_unless_one_contradicts_the_other(
    bus: Bus,
    database: Database,
    notes: list[tuple[tuple[int, int], int]],
    expected: list[tuple[int, int, int]],
) -> None:
    record = SavedRecord(bus, database)
    for (since, through), stored_us in notes:
        await record.write(
            [Saved(stream=RAW, created="then", since=since, through=through, stored_us=stored_us)]
        )
        await record.look()
    found = await rows(
        database, "SELECT since, through, stored_at FROM market_saved ORDER BY since"
    )
    assert found == [(since, through, at(stored_us)) for since, through, stored_us in expected]
    assert await rows(database, "SELECT FROM market_saved_notes") == []


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
    old = Delivery(
        subject="s", payload=b"", sequence=1, consumer_sequence=1, stored_us=1, pending=0, reply="r"
    )
    created = (await bus.stream_state(RAW)).created
    async with Database(dsn) as other:
        record = SavedRecord(bus, other)
        await record.begin()
        assert await record.covered(RAW, created, [old]) == {1}
    await record.begin()
    assert await record.covered(RAW, created, [old]) == frozenset()
