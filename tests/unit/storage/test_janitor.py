"""What may be purged from MARKET_RAW: never what somebody still needs."""

import pytest

from market_ingestor.bus.jetstream import StreamState
from market_ingestor.storage.janitor import purge_below, unneeded_below, unread_share


def state(
    *, first: int = 1, last: int = 1_000, size: int = 900, size_max: int = 1_000
) -> StreamState:
    return StreamState(
        name="MARKET_RAW",
        created="2026-01-01T00:00:00Z",
        is_dated=True,
        first_sequence=first,
        last_sequence=last,
        messages=last - first + 1,
        bytes=size,
        bytes_max=size_max,
    )


@pytest.mark.parametrize(
    ("floors", "positions", "limit"),
    [
        ([100, 50], [70], 51),
        ([100], [30, 70], 30),
        ([], [70], 0),
        ([100], [], 0),
        ([100], [0], 0),
    ],
)
def test_the_slowest_reader_decides(floors: list[int], positions: list[int], limit: int) -> None:
    assert unneeded_below(floors, positions) == limit


def test_nothing_is_purged_while_there_is_room() -> None:
    assert purge_below(state(size=500), 1_000) == 0


def test_the_oldest_go_until_enough_room_is_left() -> None:
    limit = purge_below(state(size=900), 1_001)
    assert 500 < limit < 600


def test_what_is_needed_stays_however_full_the_stream_is() -> None:
    assert purge_below(state(size=1_000), 40) == 40
    assert purge_below(state(first=41, size=1_000), 40) == 0


def test_the_unread_share_is_of_the_whole_room() -> None:
    assert unread_share(state(size=900), 501) == pytest.approx(0.45)
    assert unread_share(state(size=900), 1_001) == 0
    assert unread_share(state(size=900), 0) == pytest.approx(0.9)
