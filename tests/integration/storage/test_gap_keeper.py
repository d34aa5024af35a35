"""Gaps whose ids are all stored are closed, whoever delivered the trades; all others stay.

Trades lie so far back that the savers beside, which store them, leave their gaps to the test.
"""

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.model.event import EventType, MarketEvent
from market_ingestor.model.trade import TextTrade
from market_ingestor.storage import gap_keeper
from market_ingestor.storage.gap_keeper import GapKeeper
from market_ingestor.storage.times import at
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import (
    EXCHANGE,
    START_US,
    SYMBOL,
    Feed,
    acknowledged,
    rows,
    saving,
    trade,
    until,
)

pytestmark = pytest.mark.anyio

DAY_S = 86_400
RAW = subjects.RAW_STREAM
EVENTS = subjects.EVENT_STREAM
SUBJECT = subjects.event(EXCHANGE, SYMBOL)


@pytest.fixture
async def keeper(bus: Bus, database: Database) -> AsyncIterator[GapKeeper]:
    """Give a keeper that looks when it is told to."""
    publisher = Publisher(bus)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publisher.run)
        yield GapKeeper(database, publisher)
        tasks.cancel_scope.cancel()


def gap(
    kind: EventType,
    after: int | str,
    before: int | str,
    *,
    missing: int | None = 1,
    noticed_us: int = START_US,
    from_us: int | None = None,
    to_us: int | None = None,
) -> bytes:
    """Return an event about a gap; its trades are those of `trade` unless times are given."""
    begin, end = (
        START_US + int(each) * 1_000 if from_us is None and str(each).isdigit() else START_US
        for each in (after, before)
    )
    if from_us is not None:
        begin, end = from_us, from_us if to_us is None else to_us
    return codec.encode(
        MarketEvent(
            v=1, exchange=EXCHANGE, symbol=SYMBOL, type=kind, time_us=noticed_us,
            after_id=str(after), before_id=str(before), missing=missing,
            from_time=begin // 1_000, to_time=end // 1_000, detail="",
        )
    )  # fmt: skip


def numbered(*ids: int) -> list[TextTrade]:
    return [trade(each) for each in ids]


async def states(database: Database) -> list[tuple[str, str]]:
    """Return where each gap begins and its state, ascending."""
    found = await rows(database, "SELECT after_id, state FROM market_gaps ORDER BY 1")
    return [(after, state) for after, state in found]


async def told(bus: Bus) -> list[MarketEvent]:
    """Return the events that say that a gap is filled."""
    last = (await bus.stream_state(EVENTS)).last_sequence
    read: list[MarketEvent] = []
    async with OrderedReader(bus, EVENTS, start_sequence=1) as reader:
        seen = 0
        while seen < last:
            for each in await reader.next(5):
                seen = each.sequence
                read.append(codec.event(each.subject, each.payload))
    return [each for each in read if each.type == "gap_filled"]


async def saved(bus: Bus, stream: str) -> None:
    """Wait until all that is in a stream now is in the tables."""
    await acknowledged(bus, stream, (await bus.stream_state(stream)).last_sequence)


async def test_what_one_process_gave_up_and_another_delivered_is_closed(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper
) -> None:
    async with saving(bus, database):
        await feed.send(*numbered(98, 99, 101, 102, 104))
        await feed.publish(SUBJECT, gap("gap_found", 99, 101))
        await feed.publish(SUBJECT, gap("gap_unfillable", 99, 101))
        await feed.publish(SUBJECT, gap("gap_unfillable", 102, 104))
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        await keeper.look()
        assert (await told(bus), keeper.closed) == ([], 0)
        await feed.send(*numbered(100))
        await saved(bus, RAW)
        await keeper.look()
        await keeper.look()  # before or after its row has changed: it is told once
        (event,) = await told(bus)
        await saved(bus, EVENTS)
        assert await states(database) == [("102", "unfillable"), ("99", "filled")]
        times = await rows(database, "SELECT filled_at FROM market_gaps ORDER BY after_id")
        assert times == [(None,), (at(event.time_us),)]
    assert (event.after_id, event.before_id, event.missing) == ("99", "101", 1)
    assert (event.from_time, event.to_time) == (START_US // 1_000 + 99, START_US // 1_000 + 101)


async def test_an_open_gap_is_left_to_its_finder_for_a_while(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with saving(bus, database):
        await feed.send(*numbered(1, 2, 3))
        now_us = time.time_ns() // 1_000
        await feed.publish(SUBJECT, gap("gap_found", 1, 3, noticed_us=now_us))
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        await keeper.look()
        assert keeper.closed == 0
        monkeypatch.setattr(gap_keeper, "OPEN_GRACE", timedelta())
        await keeper.look()
        assert keeper.closed == 1
        await saved(bus, EVENTS)
        assert await states(database) == [("1", "filled")]


async def test_what_is_no_hole_between_ids_stays(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper
) -> None:
    async with saving(bus, database):
        await feed.send(*numbered(*range(1, 10)))
        whole = [
            gap("gap_unfillable", 1, 5, missing=None),  # a new numbering, or ids that prove nothing
            gap("gap_unfillable", 2, 3, missing=0),  # neighbours
            gap("gap_unfillable", "x", "x"),  # a dead letter without an id
            gap("gap_unfillable", 3, 10**19 - 1, from_us=START_US),  # no id can be as large
            gap("gap_unfillable", "", 9),  # nobody knows where it begins
        ]
        for payload in whole:
            await feed.publish(SUBJECT, payload)
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        await keeper.look()
        assert keeper.closed == 0
        assert {state for _, state in await states(database)} == {"unfillable"}
        assert len(await states(database)) == len(whole)


async def test_ids_that_do_not_exist_keep_a_gap_as_its_finder_said(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper
) -> None:
    async with saving(bus, database):
        await feed.send(*numbered(1, 2, 5, 6))
        await feed.publish(SUBJECT, gap("gap_filled", 2, 5, missing=2))  # the venue lists neither
        await feed.publish(SUBJECT, gap("gap_unfillable", 1, 6, missing=2))
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        await keeper.look()
        assert await states(database) == [("1", "unfillable"), ("2", "filled")]
        assert keeper.closed == 0


async def test_a_long_gap_is_walked_on_from_where_the_last_turn_ended(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_keeper, "IDS_PER_TURN", 700)
    async with saving(bus, database):
        # Ids of three lengths, over two days; one in the middle comes last.
        late, ids = 1_000, range(90, 2_000)
        at_us = {each: START_US + (each > late) * DAY_S * 1_000_000 for each in ids}
        await feed.send(*(trade(each, time_us=at_us[each]) for each in ids if each != late))
        long = gap("gap_unfillable", 90, 1_999, from_us=at_us[90], to_us=at_us[1_999])
        await feed.publish(SUBJECT, long)
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        for _ in range(4):
            await keeper.look()
        assert keeper.closed == 0
        await feed.send(trade(late))
        await saved(bus, RAW)
        turns = 0
        while not keeper.closed and turns < 10:
            await keeper.look()
            turns += 1
        assert turns == 2  # a thousand ids of which seven hundred are looked up in a turn


async def test_many_gaps_get_their_turns_and_the_newest_is_always_seen(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_keeper, "GAPS_PER_TURN", 3)
    async with saving(bus, database):
        for number in range(10, 300, 10):
            await feed.publish(SUBJECT, gap("gap_unfillable", number, number + 2))
        await feed.send(*numbered(11))  # of the oldest
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        await keeper.look()
        await feed.send(*numbered(291))  # of the newest, whose turn is over
        await saved(bus, RAW)
        await keeper.look()
        assert [event.after_id for event in await told(bus)] == ["290"]
        await saved(bus, EVENTS)
        for _ in range(9):
            await keeper.look()
        assert [event.after_id for event in await told(bus)] == ["290", "10"]


async def test_a_gap_for_which_no_time_was_left_is_the_next_ones_first(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_keeper, "GAPS_PER_TURN", 3)
    monkeypatch.setattr(gap_keeper, "IDS_PER_TURN", 4)  # the newest three, and one other
    async with saving(bus, database):
        for number in range(10, 110, 10):
            await feed.publish(SUBJECT, gap("gap_unfillable", number, number + 2))
        await feed.send(*numbered(61))
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        for _ in range(3):  # after the newest: 70, then 60
            await keeper.look()
        assert [event.after_id for event in await told(bus)] == ["60"]


async def test_gaps_over_dropped_trades_are_left_alone(
    bus: Bus, database: Database, feed: Feed, keeper: GapKeeper
) -> None:
    short = GapKeeper(database, keeper._publisher, reach_s=10 * DAY_S)  # noqa: SLF001 - shares its bus
    now_us = time.time_ns() // 1_000
    async with saving(bus, database):
        for first, age_days in ((1, 12), (11, 8)):
            at_us = now_us - age_days * DAY_S * 1_000_000
            await feed.send(*(trade(first + each, time_us=at_us) for each in range(3)))
            await feed.publish(SUBJECT, gap("gap_unfillable", first, first + 2, from_us=at_us))
        await saved(bus, EVENTS)
        await saved(bus, RAW)
        await short.look()
        assert [event.after_id for event in await told(bus)] == ["11"]


async def test_two_savers_do_it_once_between_them(
    bus: Bus, database: Database, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_keeper, "INTERVAL_S", 0.05)
    now_us = time.time_ns() // 1_000

    async def is_filled() -> bool:
        return await states(database) == [("1", "filled")]

    async with saving(bus, database), saving(bus, database):
        await feed.publish(SUBJECT, gap("gap_unfillable", 1, 3, from_us=now_us))
        await feed.send(*(trade(each, time_us=now_us) for each in (1, 2, 3)))
        await until(is_filled)
        await saved(bus, EVENTS)
    assert len(await told(bus)) == 1
