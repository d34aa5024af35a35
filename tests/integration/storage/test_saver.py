"""The role as a whole: from the streams into the tables, whatever the world does in between."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import PullReader
from market_ingestor.bus.streams import durable_config
from market_ingestor.model.event import EventType, MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.runtime import role
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.saver import CONNECTIONS
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import (
    EXCHANGE,
    START_US,
    SYMBOL,
    Feed,
    acknowledged,
    mark,
    rows,
    saving,
    trade,
    until,
)
from tests.support.servers import NatsHandle, PostgresHandle

pytestmark = pytest.mark.anyio

RAW = subjects.RAW_STREAM
GAP_SUBJECT = subjects.event(EXCHANGE, SYMBOL)


def kline(revision: int) -> bytes:
    opened = START_US // 1_000
    return codec.encode(
        Kline(
            v=1, exchange=EXCHANGE, symbol=SYMBOL, period="1m", open_time=opened,
            close_time=opened + 59_999, open="1", high="2", low="0.5", close=str(revision),
            volume="1", quote_volume="1", buy_volume="0", buy_quote_volume="0", trade_count=3,
            first_trade_id="9", last_trade_id="11", closed=True, complete=True,
            revision=revision, reason="close",
        )
    )  # fmt: skip


def event(kind: EventType) -> bytes:
    return codec.encode(
        MarketEvent(
            v=1, exchange=EXCHANGE, symbol=SYMBOL, type=kind, time_us=START_US, after_id="10",
            before_id="13", missing=2, from_time=1, to_time=2, detail="",
        )
    )  # fmt: skip


async def count(database: Database) -> int:
    found: int = await database.value("SELECT count(*) FROM market_trades")
    return found


async def dead_letters(bus: Bus) -> list[tuple[dict[str, str], bytes]]:
    """Return headers and payload of every dead letter."""
    found: list[tuple[dict[str, str], bytes]] = []
    state = await bus.stream_state(subjects.DEAD_STREAM)
    js = bus.client.jetstream()
    for sequence in range(max(state.first_sequence, 1), state.last_sequence + 1):
        message = await js.get_msg(subjects.DEAD_STREAM, sequence)
        found.append((dict(message.headers or {}), message.data or b""))
    return found


async def test_everything_on_the_bus_ends_in_its_table(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database) as saver:
        raw = kline_sequence = 0
        for number in range(1, 301, 3):
            raw = await feed.send(*(trade(number + each) for each in range(3)))
        subject = subjects.kline(EXCHANGE, SYMBOL, "1m")
        for revision in (1, 2):
            kline_sequence = await feed.publish(subject, kline(revision))
        await feed.publish(GAP_SUBJECT, event("gap_found"))
        await feed.publish(GAP_SUBJECT, event("feed_up"))
        gap_sequence = await feed.publish(GAP_SUBJECT, event("gap_filled"))
        await acknowledged(bus, RAW, raw)
        await acknowledged(bus, subjects.KLINE_STREAM, kline_sequence)
        await acknowledged(bus, subjects.EVENT_STREAM, gap_sequence)
        assert await count(database) == 300
        assert await rows(database, "SELECT revision FROM market_klines") == [(2,)]
        assert await database.value("SELECT count(*) FROM market_kline_revisions") == 2
        assert await rows(database, "SELECT state FROM market_gaps") == [("filled",)]
        health = saver.health()
        assert health.is_ready, health
        assert health.details[RAW]["committed"] == 300
    assert not saver.health().is_ready


async def test_marks_move_the_ack_floor_at_once(bus: Bus, database: Database, feed: Feed) -> None:
    patient = SaveLimits(batch_size=100, batch_size_max=500, flush_interval_s=60.0)
    async with saving(bus, database, limits=patient):
        sequence = 0
        for _ in range(3):
            sequence = await feed.publish(subjects.mark(EXCHANGE), mark())
        await acknowledged(bus, RAW, sequence)


async def test_a_full_batch_does_not_wait_for_its_age(
    bus: Bus, database: Database, feed: Feed
) -> None:
    patient = SaveLimits(batch_size=10, batch_size_max=50, flush_interval_s=60.0)
    async with saving(bus, database, limits=patient):
        sequence = await feed.send(*(trade(number) for number in range(1, 200)))
        await acknowledged(bus, RAW, sequence)
        assert await count(database) == 199


async def test_stopping_commits_and_acknowledges_what_is_in_hand(
    bus: Bus, database: Database, feed: Feed
) -> None:
    patient = SaveLimits(batch_size=1_000, batch_size_max=5_000, flush_interval_s=60.0)
    async with saving(bus, database, limits=patient) as saver:
        sequence = await feed.send(trade(1), trade(2))
        await until(lambda: saver.trades.oldest_us is not None)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    assert await count(database) == 2
    await acknowledged(bus, RAW, sequence)


async def test_redelivery_changes_nothing(bus: Bus, database: Database, feed: Feed) -> None:
    sequence = await feed.send(*(trade(number) for number in range(1, 51)))
    hasty = durable_config(subjects.SAVE_DURABLE, ack_wait_s=0.2, max_ack_pending=1_000)
    async with PullReader(bus, RAW, hasty) as reader:  # takes it and dies before it acknowledges
        assert await reader.next(5.0)
        await asyncio.sleep(1.0)  # the server takes back what was not acknowledged in time
    async with saving(bus, database) as first:
        await acknowledged(bus, RAW, sequence)
    await bus.api(f"CONSUMER.DELETE.{RAW}.{subjects.SAVE_DURABLE}")
    await rows(database, "DELETE FROM market_saved")
    await rows(database, "DELETE FROM market_saved_notes")
    async with saving(bus, database) as second:  # the whole stream again
        await until(lambda: second.trades.duplicate == 50)
        await acknowledged(bus, RAW, sequence)
    assert first.trades.committed == 50
    assert second.trades.committed == 0
    assert await count(database) == 50


async def test_two_savers_share_the_work_without_getting_in_each_others_way(
    nats_server: NatsHandle, bus: Bus, dsn: str, database: Database, feed: Feed
) -> None:
    other_bus = await Bus.connect([nats_server.url], name="other")
    async with Database(dsn, stages=True, connections_max=CONNECTIONS) as other_database:
        async with saving(bus, database) as one, saving(other_bus, other_database) as two:
            sequence = 0
            for number in range(1, 2_001, 4):
                ids = [trade(number + each) for each in range(4)]
                await feed.send(*ids)
                sequence = await feed.send(*ids[::-1], source="rest")  # a second copy
            await acknowledged(bus, RAW, sequence)
            assert one.trades.committed + two.trades.committed == 2_000
            assert one.trades.dead + two.trades.dead == 0
        await other_bus.close()
    assert await count(database) == 2_000


async def test_a_poison_row_is_dead_lettered_and_its_neighbours_stored(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database) as saver:
        poison = await feed.send(trade(1), trade(2, price="1.2.3"), trade(3))
        await feed.send(*(trade(number) for number in range(4, 50)))
        last = await feed.send(trade(50))
        await acknowledged(bus, RAW, last)
        await until(lambda: saver.trades.dead == 1)
        ((headers, payload),) = await dead_letters(bus)
        assert headers["Market-Role"] == "save"
        assert headers["Market-Subject"] == subjects.raw(EXCHANGE, SYMBOL)
        assert headers["Market-Sequence"] == str(poison)
        assert "22P02" in headers["Market-Error"]
        assert [each["id"] for each in msgspec.json.decode(payload)["trades"]] == ["2"]
        assert await rows(
            database, "SELECT after_id, before_id, missing, state FROM market_gaps"
        ) == [("1", "3", 1, "unfillable")]
        announced = await bus.last_message(subjects.EVENT_STREAM, GAP_SUBJECT)
        assert announced is not None
        assert codec.event(GAP_SUBJECT, announced.payload).type == "gap_unfillable"
    assert await count(database) == 49


async def test_a_lone_poison_row_waits_for_a_neighbour(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database) as saver:
        poison = await feed.send(trade(1, price="1.2.3"))
        await until(lambda: saver.trades.problem is not None)
        assert not saver.health().is_ready
        assert await dead_letters(bus) == []
        await feed.send(trade(2))
        await acknowledged(bus, RAW, poison)
        assert len(await dead_letters(bus)) == 1
        await until(lambda: saver.health().is_ready)
    assert await rows(database, "SELECT trade_id FROM market_trades") == [("2",)]


async def test_what_cannot_be_decoded_is_dead_lettered_and_acknowledged(
    bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        await feed.send_raw(b"\xff" * 100_000)
        await feed.publish(subjects.kline(EXCHANGE, SYMBOL, "1m"), b"{}")
        await feed.publish(GAP_SUBJECT, b"[1]")
        good = await feed.send(trade(1), trade(2, price="NaN"))
        await acknowledged(bus, RAW, good)
        await acknowledged(bus, subjects.KLINE_STREAM, 1)
        await acknowledged(bus, subjects.EVENT_STREAM, 1)
        letters = await dead_letters(bus)
    assert max(len(payload) for _, payload in letters) == codec.DEAD_LETTER_BYTES_MAX
    assert {headers["Market-Length"] for headers, _ in letters} > {"100000", "2", "3"}
    assert any("price" in headers["Market-Error"] for headers, _ in letters)
    assert await rows(database, "SELECT trade_id FROM market_trades") == [("1",)]


REFUSALS: dict[str, str] = {
    "disk full": "53100",
    "a check constraint or no partition": "23514",
    "out of memory": "53200",
    "an internal error": "XX000",
}


async def test_trades_that_wait_for_long_are_a_problem_and_no_failure(
    bus: Bus, database: Database, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "LAG_MAX_S", 0.2)
    async with saving(bus, database) as saver:
        await until(lambda: saver.health().is_ready)
        async with database.transaction() as session:
            await session.script("LOCK TABLE market_trades")
            sequence = await feed.send(trade(1))
            await until(lambda: saver.health().problems != ())
            health = saver.health()
        assert [each.split(" is ")[0] for each in health.problems] == [RAW]
        assert health.is_ready
        await acknowledged(bus, RAW, sequence)
        assert saver.health().problems == ()


@pytest.mark.parametrize("sqlstate", list(REFUSALS.values()), ids=list(REFUSALS))
async def test_what_the_world_does_is_waited_out_and_kills_nobody(
    bus: Bus, database: Database, feed: Feed, sqlstate: str
) -> None:
    async with database.transaction() as session:
        await session.script(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON market_trades"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    async with saving(bus, database) as saver:
        sequence = await feed.send(*(trade(number) for number in range(1, 9)))
        await until(lambda: saver.trades.problem is not None and sqlstate in saver.trades.problem)
        health = saver.health()
        assert not health.is_ready
        assert any(sqlstate in each for each in health.problems)
        async with database.transaction() as session:
            await session.script("DROP TRIGGER refuse ON market_trades")
        await acknowledged(bus, RAW, sequence)
        assert await dead_letters(bus) == []
        assert saver.trades.dead == 0
        await until(lambda: saver.health().is_ready)
    assert await count(database) == 8


async def test_connections_cut_in_the_middle_of_batches_lose_nothing(
    bus: Bus, dsn: str, database: Database, feed: Feed
) -> None:
    cuts = 0

    async def cut(admin: Database) -> None:
        nonlocal cuts
        while True:
            cuts += await admin.value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND application_name = 'market-ingestor' AND state <> 'idle'"
            )
            await asyncio.sleep(0.01)

    async with Database(dsn, name="admin") as admin, saving(bus, database) as saver:
        async with asyncio.TaskGroup() as tasks:
            cutter = tasks.create_task(cut(admin))
            last = 0
            for number in range(1, 5_001, 5):
                last = await feed.send(*(trade(number + each) for each in range(5)))
            await until(lambda: saver.trades.committed > 1_000 or cuts > 20)
            cutter.cancel()
        await acknowledged(bus, RAW, last)
    assert cuts > 0
    assert await count(database) == 5_000


async def test_old_recorded_days_are_stored(bus: Bus, database: Database, feed: Feed) -> None:
    april_2023 = 1_680_739_199_900_000
    async with saving(bus, database):
        sequence = await feed.send(
            *(trade(number, time_us=april_2023 + number * 1_000) for number in range(1, 201))
        )
        await acknowledged(bus, RAW, sequence)
    assert await count(database) == 200


async def test_a_database_that_is_away_is_waited_for(
    bus: Bus, own_postgres: PostgresHandle, feed: Feed, has_timescale: bool
) -> None:
    await migrate(own_postgres.dsn, use_timescale=has_timescale)
    await own_postgres.kill()
    async with (
        Database(own_postgres.dsn, stages=True, connections_max=CONNECTIONS) as database,
        saving(bus, database) as saver,
    ):
        first = await feed.send(*(trade(number) for number in range(1, 2_001)))
        await until(lambda: saver.trades.problem is not None)
        assert not saver.health().is_ready
        await own_postgres.start()
        await acknowledged(bus, RAW, first)
        await until(lambda: saver.health().is_ready)
        await own_postgres.kill()
        second = await feed.send(*(trade(number) for number in range(2_001, 4_001)))
        await own_postgres.start()
        await acknowledged(bus, RAW, second)
        assert await count(database) == 4_000


async def test_stopping_without_a_database_ends_in_time_and_loses_nothing(
    bus: Bus, database: Database, feed: Feed
) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none", stages=True)
    async with nowhere, saving(bus, nowhere, stop_grace_s=0.5) as saver:
        sequence = await feed.send(trade(1))
        await until(lambda: saver.trades.problem is not None)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    state = await bus.consumer_state(RAW, subjects.SAVE_DURABLE)
    assert state is not None
    assert state.ack_floor < sequence  # what is not committed is not acknowledged
    await bus.api(f"CONSUMER.DELETE.{RAW}.{subjects.SAVE_DURABLE}")  # instead of its ack_wait
    async with saving(bus, database):
        await acknowledged(bus, RAW, sequence)
    assert await count(database) == 1


async def test_what_is_held_while_the_database_is_away_is_bounded(
    bus: Bus, database: Database, feed: Feed
) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none", stages=True)
    small = SaveLimits(batch_size=10, batch_size_max=20, flush_interval_s=0.05)
    async with nowhere, saving(bus, nowhere, limits=small, stop_grace_s=0.2) as saver:
        sequence = 0
        for number in range(1, 1_001):
            sequence = await feed.send(trade(number))
        await until(lambda: saver.trades.problem is not None)
        await asyncio.sleep(0.5)
        state = await bus.consumer_state(RAW, subjects.SAVE_DURABLE)
        assert state is not None
        # two batches being written, one gathered, one and a half read ahead
        assert state.unacknowledged <= 20 * 5
        assert state.pending >= 900
    await bus.api(f"CONSUMER.DELETE.{RAW}.{subjects.SAVE_DURABLE}")
    async with saving(bus, database):
        await acknowledged(bus, RAW, sequence)
    assert await count(database) == 1_000


async def test_a_bus_that_restarts_is_waited_for(
    nats_server: NatsHandle, bus: Bus, database: Database, feed: Feed
) -> None:
    async with saving(bus, database):
        for number in range(1, 101):
            await feed.send(trade(number))
        await nats_server.kill()
        await nats_server.start()
        sequence = 0
        for number in range(101, 201):
            sequence = await feed.send(trade(number))
        await acknowledged(bus, RAW, sequence, wait_s=60)
    assert await count(database) == 200


async def test_nothing_is_taken_for_a_file(
    bus: Bus, database: Database, feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that takes bytes for a path must never see any."""
    monkeypatch.chdir(tmp_path)
    opened: list[Any] = []
    real: Any = open

    def noted(*args: Any, **options: Any) -> Any:
        opened.append(args)
        return real(*args, **options)

    monkeypatch.setattr("builtins.open", noted)
    async with saving(bus, database):
        await acknowledged(bus, RAW, await feed.send(trade(1)))
    assert opened == []
