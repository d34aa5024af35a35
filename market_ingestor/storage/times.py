"""Between integer Unix times and the timestamps of the database, exactly. Pure."""

import functools
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_10000_MS: Final = 253_402_300_800_000  # where `datetime` ends; far beyond any trade
FAR_PAST: Final = EPOCH
FAR_FUTURE: Final = datetime(9999, 12, 31, tzinfo=UTC)
PROBE_US: Final = 3_600_000_000  # how far apart two times of one id may lie; as in queries.sql

_MICROSECOND: Final = timedelta(microseconds=1)
_SECONDS_KEPT: Final = 4_096  # the trades of a batch share a few


def at(time_us: int) -> datetime:
    """Return the instant ``time_us`` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=time_us)


def at_ms(time_ms: int) -> datetime:
    """Return the instant ``time_ms`` milliseconds after 1970, kept within 1970 and 9999."""
    if time_ms >= YEAR_10000_MS:
        return FAR_FUTURE
    return EPOCH + timedelta(milliseconds=max(time_ms, 0))


def microseconds(instant: datetime) -> int:
    """Return how many microseconds after 1970 an instant is."""
    return (instant - EPOCH) // _MICROSECOND


def probe_bounds(times_us: Collection[int]) -> tuple[datetime, datetime]:
    """Return between which instants the ids of trades at these times are looked up."""
    first, last = min(times_us, default=0), max(times_us, default=0)
    return at(max(first - PROBE_US, 0)), at(last + PROBE_US)


def instant_text(time_us: int) -> str:
    """Return the instant ``time_us`` microseconds after 1970 as the database reads it.

    Args:
        time_us: Not before 1970 and before the year 10000.
    """
    second, fraction = divmod(time_us, 1_000_000)
    return f"{_second_text(second)}.{fraction:06d}+00"


@functools.lru_cache(maxsize=_SECONDS_KEPT)
def _second_text(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S")
