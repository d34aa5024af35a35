"""A durable that the server forgot goes on behind what is saved; nothing else is left out."""

import asyncio
import contextlib

import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.durables import ensure_durable, move_durable
from market_ingestor.bus.jetstream import ApiError, Bus
from market_ingestor.bus.reader import PullReader
from market_ingestor.bus.streams import moved_config
from market_ingestor.errors import StreamSetupError
from market_ingestor.storage import leaving
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.lane import durable
from market_ingestor.storage.leaving import LeavingOut
from market_ingestor.storage.saved import SavedRecord
from market_ingestor.storage.times import at
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import Feed, acknowledged, rows, saving, until
from tests.integration.storage.saved_harness import (
    MANY,
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
    send_many,
)
from tests.support.servers import NatsHandle, spoil_durable

pytestmark = pytest.mark.anyio

NEWEST = "SELECT min(created), max(stored_at) FROM market_saved WHERE stream = $1"
INSERT = """
INSERT INTO market_saved (stream, created, since, through, stored_at) VALUES ($1, $2, $3, $4, $5)
"""


@pytest.fixture
def has_timescale() -> bool:
    """Nothing here depends on how tables are split."""
    return False


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out whatever can be, however little it is, and at once."""
    monkeypatch.setattr(leaving, "PASSED_MAX", 0)
    monkeypatch.setattr(leaving, "WAIT_S", 0.0)


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
async def test_what_is_in_no_stretch_and_not_in_the_stream_holds_nothing_up(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await joined(database, await send(feed, 1))
    ((created, stored_at),) = await rows(database, NEWEST, RAW)
    await rows(database, "UPDATE market_saved SET through = 50 WHERE stream = $1", RAW)
    await rows(database, INSERT, RAW, created, 51, MESSAGES, stored_at)
    await bus.api(f"STREAM.MSG.DELETE.{RAW}", {"seq": 51})
    await forget(bus)
    await ensure_durable(bus, RAW, durable(SaveLimits()))
    moves: list[str] = []
    record = SavedRecord(bus, database)
    leaver = LeavingOut(bus, record, RAW, durable(SaveLimits()), lambda: moves.append("moved"))
    assert await leaver.step() is None
    assert moves == ["moved"]


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
    moves: list[str] = []
    leaver = LeavingOut(bus, record, RAW, durable(SaveLimits()), lambda: moves.append("moved"))
    tenth, end = await bus.message_at(RAW, 10), await bus.message_at(RAW, last)
    assert tenth is not None
    assert end is not None
    await rows(database, "UPDATE market_saved SET stored_at = $1", at(tenth.stored_us))
    assert await leaver.step() is None
    assert moves == []
    newer = delivered(last, stored_us=end.stored_us)
    assert await record.covered(RAW, (await bus.stream_state(RAW)).created, [newer]) == frozenset()
    await record.look()
    assert await rows(database, RECORD_ENDS, RAW) == []


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


async def test_a_reader_tells_a_durable_from_the_one_before(bus: Bus, feed: Feed) -> None:
    """Old servers take an acknowledgement meant for the one before for one of theirs."""
    last = await send(feed, 1)
    config = durable(SaveLimits())
    created = (await bus.stream_state(RAW)).created
    async with PullReader(bus, RAW, config) as reader:
        await reader.next(5.0)
        before = reader.origin
        assert before is not None
        assert before.stream == created
        assert await reader.is_from(before.durable)
        await move_durable(bus, RAW, config, behind=MESSAGES // 2, created=created)

        async def is_another() -> bool:
            return not await reader.is_from(before.durable)

        await until(is_another)
        again: list[int] = []
        while last not in again[-1:] or reader.origin == before:
            again += [each.sequence for each in await reader.next(5.0)]
        assert set(again) >= set(range(MESSAGES // 2 + 1, last + 1))
        assert reader.origin is not None
        assert await reader.is_from(reader.origin.durable)


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


async def test_an_answer_without_the_durable_says_that_it_is_away(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-server 2.9.10 gives it, without an error, while it deletes a durable at work."""

    async def answers(_: str) -> dict[str, str]:
        return {"type": "io.nats.jetstream.api.v1.consumer_info_response"}

    monkeypatch.setattr(bus, "api", answers)
    assert await bus.consumer_state(RAW, subjects.SAVE_DURABLE) is None
