"""A role says when what it works on has waited for long."""

import pytest

from market_ingestor.runtime.role import LAG_MAX_S, lag_problems

NOW_US = 1_763_676_000_000_000


@pytest.mark.parametrize(
    ("late_s", "rests_s", "expected"),
    [
        (-3.0, 0.0, ()),  # clocks differ
        (LAG_MAX_S, 0.0, ()),
        (LAG_MAX_S + 1, 0.0, ("MARKET_RAW is 11 s behind",)),
        (LAG_MAX_S + 1, 60.0, ()),
        (LAG_MAX_S + 61, 60.0, ("MARKET_RAW is 71 s behind",)),
    ],
)
def test_only_what_waits_longer_than_it_should_is_a_problem(
    late_s: float, rests_s: float, expected: tuple[str, ...]
) -> None:
    oldest_us = NOW_US - int(late_s * 1e6)
    assert lag_problems("MARKET_RAW", oldest_us, NOW_US, rests_s=rests_s) == expected


def test_nothing_that_waits_is_no_problem() -> None:
    assert lag_problems("MARKET_RAW", None, NOW_US) == ()
