"""When a durable may be moved behind what is saved, and what must be saved before."""

from collections.abc import Sequence

import pytest

from market_ingestor.bus.jetstream import ConsumerState, StreamState
from market_ingestor.storage.leaving import MISSING_MAX, PASSED_MAX, move_for
from market_ingestor.storage.saved import Saved

FAR = PASSED_MAX + 1_000


def saved(*, since: int, through: int) -> Saved:
    return Saved(stream="S", created="then", since=since, through=through, stored_us=1)


def stream(*, is_dated: bool = True, first: int = 1, last: int = FAR) -> StreamState:
    return StreamState(
        name="S",
        created="then",
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
        ([saved(since=0, through=FAR), END], stream(), consumer(), []),
        ([START, END], stream(), consumer(delivered=FAR - PASSED_MAX), None),  # the end is near
        ([saved(since=MISSING_MAX + 11, through=2 * FAR)], stream(last=2 * FAR), consumer(), None),
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
    found = move_for(known, state, durable)
    if missing is None:
        assert found is None
    else:
        assert found is not None
        assert found.end.through == FAR
        assert list(found.missing) == list(missing)
