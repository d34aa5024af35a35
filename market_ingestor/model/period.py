"""Candle periods and the UTC grid they open on.

All times here are integer Unix milliseconds. Windows are half open, ``[open_time, open_time +
length)``; weeks open on Monday 00:00 UTC, everything else on a multiple of its length.
"""

from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS
_FIRST_MONDAY_MS: Final = 4 * DAY_MS  # 1970-01-05; the epoch itself was a Thursday

PERIOD_MS: Final[dict[str, int]] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "1w": WEEK_MS,
}
BASE_PERIOD: Final = "1m"  # every longer candle is a merge of these


def open_time(time_ms: int, period: str) -> int:
    """Return the opening of the window of ``period`` that holds ``time_ms``."""
    length = PERIOD_MS[period]
    offset = _FIRST_MONDAY_MS if period == "1w" else 0
    return time_ms - (time_ms - offset) % length


def close_time(opened: int, period: str) -> int:
    """Return the last millisecond of the window that opened at ``opened``."""
    return opened + PERIOD_MS[period] - 1


def closes(period: str, opened: int) -> int:
    """Return the first millisecond behind the window that opened at ``opened``."""
    return opened + PERIOD_MS[period]
