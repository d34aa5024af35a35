"""When a stream that changed may be told of again: at once, then once per interval. Pure."""

import heapq
import math
from typing import Final

from market_ingestor.push.subscriptions import Topic

REMEMBERED: Final = 10_000  # instants kept before those that are over are forgotten, or twice
# as many as are not over: so looking at them costs little per stream


class Cadence:
    """Paces streams.

    Args:
        interval_s: Least time between two events of a stream, in seconds of the caller's clock.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._noted: dict[Topic, None] = {}
        self._told: dict[Topic, None] = {}
        self._not_before: dict[Topic, float] = {}
        self._remembered_max = REMEMBERED
        self._queue: list[tuple[float, Topic]] = []
        self._queued: dict[Topic, float] = {}

    @property
    def due_at(self) -> float | None:
        """Return when `due` has something to give if nothing else is noted, None for never."""
        return self._queue[0][0] if self._queue else None

    def note(self, topic: Topic) -> None:
        """Note that a stream changed."""
        self._noted[topic] = None

    def tell(self, topic: Topic) -> None:
        """Note that an event of a stream goes out in any case; the next one keeps its distance."""
        self._told[topic] = None

    def due(self, now: float) -> list[Topic]:
        """Return the streams noted whose time has come; whoever tells them calls `told`."""
        for topic in self._told:
            self.told(topic, now)
        self._told.clear()
        while self._queue and self._queue[0][0] <= now:
            at, topic = heapq.heappop(self._queue)
            if self._queued.get(topic) == at:  # else it was put forward
                del self._queued[topic]
                self._noted[topic] = None
        ready: list[Topic] = []
        for topic in self._noted:
            at = self._not_before.get(topic, now)
            if at <= now:
                ready.append(topic)
            else:
                self.defer(topic, at)
        self._noted.clear()
        if len(self._not_before) > self._remembered_max:
            self._not_before = {each: at for each, at in self._not_before.items() if at > now}
            self._remembered_max = max(REMEMBERED, 2 * len(self._not_before))
        return ready

    def told(self, topic: Topic, now: float) -> None:
        """Note that a stream is told of now."""
        self._not_before[topic] = now + self._interval_s

    def defer(self, topic: Topic, until: float) -> None:
        """Let a stream that was noted wait until an instant, or until an earlier one it has."""
        if until < self._queued.get(topic, math.inf):
            self._queued[topic] = until
            heapq.heappush(self._queue, (until, topic))
