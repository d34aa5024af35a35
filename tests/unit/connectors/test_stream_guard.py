"""The raw stream is never written to its very end."""

import pytest

from market_ingestor.connectors.stream_guard import is_full


@pytest.mark.parametrize(
    ("now", "before", "full"),
    [
        (0, 0, False),
        (960, 960, False),
        (970, 970, True),
        (700, 500, True),  # two more such seconds would not fit
        (700, 600, False),
        (990, 2_000, True),  # it shrank, and is full all the same
        (500, 2_000, False),
    ],
)
def test_the_bound_and_the_growth_decide(now: int, before: int, full: bool) -> None:
    assert is_full(now, before, 1_000) is full


def test_a_stream_without_bound_is_never_full() -> None:
    assert not is_full(10**12, 0, -1)
