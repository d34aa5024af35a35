"""Windows open on the UTC grid, weeks on Monday."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.model.period import PERIOD_MS, close_time, open_time


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("period", "opened"),
    [
        ("1m", "2026-11-20T13:47:00"),
        ("5m", "2026-11-20T13:45:00"),
        ("8h", "2026-11-20T08:00:00"),
        ("1d", "2026-11-20T00:00:00"),
        ("1w", "2026-11-16T00:00:00"),
    ],
)
def test_windows_open_on_the_grid(period: str, opened: str) -> None:
    assert open_time(ms("2026-11-20T13:47:59.999"), period) == ms(opened)


@given(st.integers(0, 4_102_444_800_000), st.sampled_from(sorted(PERIOD_MS)))
def test_every_instant_lies_in_exactly_one_window(time_ms: int, period: str) -> None:
    opened = open_time(time_ms, period)
    assert opened <= time_ms <= close_time(opened, period)
    assert open_time(opened, period) == opened
    assert open_time(close_time(opened, period) + 1, period) == opened + PERIOD_MS[period]
