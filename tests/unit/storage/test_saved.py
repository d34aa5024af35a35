"""What the record of what was saved says of a message."""

from collections.abc import Sequence

import pytest

from market_ingestor.bus.jetstream import ConsumerState, StreamState
from market_ingestor.bus.reader import Delivery
from market_ingestor.storage.saved import (
    MISSING_MAX,
    PASSED_MAX,
    Saved,
    left_out,
    stretches,
)

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


def test_what_follows_upon_another_is_one_stretch() -> None:
    taken = [delivery(each, 10 * each) for each in (7, 3, 4, 5, 4, 9)]
    assert [
        (each.since, each.through, each.stored_us) for each in stretches("S", "then", taken)
    ] == [
        (2, 5, 50),
        (6, 7, 70),
        (8, 9, 90),
    ]
    assert stretches("S", "then", []) == []


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


END = saved(since=200, through=FAR)
START = saved(since=0, through=150)


@pytest.mark.parametrize(
    ("known", "state", "durable", "missing"),
    [
        ([START, END], stream(), consumer(), range(151, 201)),
        ([START, END], stream(), consumer(ack_floor=170), range(171, 201)),
        ([START, END], stream(), consumer(ack_floor=300), []),
        ([START, END], stream(first=181), consumer(ack_floor=0), range(181, 201)),
        ([END], stream(), consumer(ack_floor=0), range(1, 201)),
        (
            [saved(created="once", since=0, through=2 * FAR), END],
            stream(),
            consumer(),
            range(11, 201),
        ),
        ([saved(since=0, through=FAR), END], stream(), consumer(), []),
        ([START, END], stream(), consumer(delivered=FAR - PASSED_MAX), None),  # the end is near
        ([saved(since=MISSING_MAX + 11, through=2 * FAR)], stream(last=2 * FAR), consumer(), None),
        ([START, END], stream(created="now"), consumer(), None),
        ([START, END], stream(is_dated=False), consumer(), None),  # a restart may change it
        ([START, END], stream(last=FAR - 1), consumer(), None),  # it lost its end
        ([START, END], stream(), consumer(has_all=False), None),  # made by hand
        ([START, END], stream(), None, None),
        ([], stream(), consumer(), None),
    ],
)
def test_what_is_left_out_and_what_must_be_saved_before(
    known: list[Saved],
    state: StreamState,
    durable: ConsumerState | None,
    missing: Sequence[int] | None,
) -> None:
    found = left_out(known, state, durable)
    if missing is None:
        assert found is None
    else:
        assert found is not None
        assert found.behind.through == FAR
        assert list(found.missing) == list(missing)
