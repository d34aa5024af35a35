"""What the record of what was saved says of a message."""

import pytest

from market_ingestor.bus.jetstream import ConsumerState, StreamState
from market_ingestor.bus.reader import Delivery
from market_ingestor.storage.saved import PASSED_MAX, Saved, all_saved, has_lost, news, watched

STORED_US = 1_000_000
FAR = PASSED_MAX + 1_000


def saved(*, created: str = "then", since: int = 10, through: int = 20) -> Saved:
    return Saved(stream="S", created=created, since=since, through=through, stored_us=STORED_US)


def delivery(sequence: int, stored_us: int) -> Delivery:
    return Delivery(
        subject="s",
        payload=b"",
        sequence=sequence,
        consumer_sequence=1,
        stored_us=stored_us,
        pending=0,
        reply="r",
    )


@pytest.mark.parametrize(
    ("sequence", "stored_us", "is_covered"),
    [
        (10, 1, False),  # before the record was begun
        (11, 1, True),
        (20, STORED_US, True),
        (20, STORED_US + 1, False),  # the sequence was given out a second time
        (21, STORED_US, False),
    ],
)
def test_a_message_is_covered_by_its_sequence_and_its_time(
    sequence: int, stored_us: int, is_covered: bool
) -> None:
    assert saved().covers(delivery(sequence, stored_us)) is is_covered


@pytest.mark.parametrize(
    ("before", "seen", "found"),
    [
        (None, saved(since=5, through=30), None),  # who has just come knows nothing
        (saved(through=20), saved(through=20), None),
        (saved(through=20), saved(created="now", through=30), None),
        (saved(through=20), saved(through=30), saved(since=10, through=30)),
        (saved(through=15), saved(through=30), saved(since=10, through=30)),
        (saved(through=15), saved(through=18), None),  # another saver was faster
        (saved(through=21), saved(through=30), saved(since=21, through=30)),  # but for one
        (saved(through=9), saved(through=30), saved(since=9, through=30)),
    ],
)
def test_a_stretch_goes_on_only_from_where_it_was_watched(
    before: Saved | None, seen: Saved, found: Saved | None
) -> None:
    assert news(seen, before, [saved(created="once", since=0, through=99), saved()]) == found


def test_watching_begins_behind_what_was_given_out_and_never_goes_back() -> None:
    """The floor may wait for a message while later ones went into another database."""
    begun = watched(saved(since=8, through=5), None)
    assert begun.through == 8
    assert watched(saved(since=9, through=7), begun).through == 8
    assert watched(saved(since=9, through=9), begun).through == 9
    assert watched(saved(created="now", since=2, through=1), begun).through == 2


def test_a_database_that_knows_less_than_it_did_is_another_one() -> None:
    older, newer = saved(since=0, through=5), saved()
    assert not has_lost([older, newer], [newer])
    assert not has_lost([newer, older], [older, newer])
    assert has_lost([older], [newer])
    assert has_lost([], [newer])
    assert has_lost([saved(created="now")], [newer])


def stream(
    *, created: str = "then", is_dated: bool = True, first: int = 1, last: int = FAR
) -> StreamState:
    return StreamState(
        name="S",
        created=created,
        is_dated=is_dated,
        first_sequence=first,
        last_sequence=last,
        messages=last,
        bytes=0,
        bytes_max=1,
    )


def consumer(*, delivered: int = 500, ack_floor: int = 10, has_all: bool = True) -> ConsumerState:
    return ConsumerState(
        delivered=delivered, ack_floor=ack_floor, pending=0, unacknowledged=0, has_all=has_all
    )


@pytest.mark.parametrize(
    ("state", "durable", "is_left_out"),
    [
        (stream(), consumer(), True),
        (stream(), consumer(ack_floor=9), False),  # message 10 may be in no table
        (stream(first=11), consumer(ack_floor=0), True),  # it is gone anyway
        (stream(first=10), consumer(ack_floor=0), False),
        (stream(), consumer(delivered=FAR - PASSED_MAX), False),  # the end is near
        (stream(created="now"), consumer(), False),
        (stream(is_dated=False), consumer(), False),  # a restart may change what the server says
        (stream(last=FAR - 1), consumer(), False),  # it lost its end
        (stream(), consumer(has_all=False), False),  # made by hand: its floor tells nothing
        (stream(), None, False),
    ],
)
def test_only_what_was_saved_is_left_out(
    state: StreamState, durable: ConsumerState | None, is_left_out: bool
) -> None:
    stretch = saved(since=10, through=FAR)
    known = [saved(created="once", since=0, through=2 * FAR), stretch]
    found = all_saved(known, delivery(100, 1), state, durable)
    assert found == (stretch if is_left_out else None)
