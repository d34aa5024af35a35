"""How long to wait before the next attempt, and how often one may try at all. Pure."""

import random
from typing import Final

FIRST_S: Final = 1.0
FACTOR: Final = 2.0
JITTER_MIN: Final = 0.5  # of the delay; clients cut together must not come back together


class Backoff:
    """Exponential delays with jitter.

    Reset by what proves that attempts work (a valid trade, half a minute of a healthy session),
    never by a connection alone: against a server that accepts and closes that would be a storm.

    Args:
        max_s: Longest delay.
        rng: Source of the jitter.
        first_s: Longest first delay.
    """

    def __init__(self, *, max_s: float, rng: random.Random, first_s: float = FIRST_S) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self._base_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait now, and make the next wait longer."""
        delay = min(self._base_s, self._max_s)
        self._base_s = min(self._base_s * FACTOR, self._max_s)
        return delay * self._rng.uniform(JITTER_MIN, 1.0)

    def reset(self) -> None:
        """Begin anew: an attempt has proved itself."""
        self._base_s = self._first_s


class Turnstile:
    """Lets one through per interval; may be closed for a while. For connects, REST, messages.

    Args:
        interval_s: Least time between two passes.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._free_at = 0.0
        self._closed_until = 0.0

    def wait_s(self, now: float) -> float:
        """Reserve the next pass; return the seconds until it. The caller waits that long."""
        at = max(self._free_at, now)
        self._free_at = at + self._interval_s
        return max(at - now, self._closed_until - now)

    def close(self, until: float) -> None:
        """Let nobody through before ``until``: the venue told us to stay away."""
        self._closed_until = max(self._closed_until, until)
        self._free_at = max(self._free_at, until)  # who waits then does not come all at once

    def closed_s(self, now: float) -> float:
        """Return for how long it is still closed."""
        return max(self._closed_until - now, 0.0)
