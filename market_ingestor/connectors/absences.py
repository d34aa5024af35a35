"""Whether the ids of one instrument have holes by nature. Pure.

A hole that the venue's own history does not list costs a request and proves nothing lost. A few
are busts and cancelled trades; a venue that makes them all the time would starve real losses.
"""

from collections import deque
from typing import Final

HOLES_MAX: Final = 500  # an hour; at the slowest venue a sixth of all requests
HOUR_S: Final = 3_600.0


class Absences:
    """Holes of the last hour that the venue itself does not list."""

    def __init__(self, holes_max: int = HOLES_MAX) -> None:
        self._holes_max = holes_max
        self._times: deque[float] = deque(maxlen=holes_max + 1)

    def note(self, holes: int, now: float) -> bool:
        """Add holes proved absent; return whether there are too many to go on asking.

        Args:
            holes: How many, not ids.
            now: Monotonic seconds.
        """
        self._times.extend([now] * min(holes, self._holes_max + 1))
        while self._times and self._times[0] <= now - HOUR_S:
            self._times.popleft()
        return len(self._times) > self._holes_max
