"""When what is gathered per symbol goes out, by a budget of messages. Pure.

Messages, not trades, are what every later hop costs. So a flush of k messages is followed by a
pause of k / budget: a quiet process sends at once, a busy one gathers while it waits. Must never
know what a message holds.
"""

from collections.abc import Sequence

from market_ingestor.connectors.feed import Lane
from market_ingestor.model.trade import TextTrade


class Batcher:
    """Lanes with something to send, and the instant from which they may.

    Args:
        messages_per_s: Budget of the process.
        linger_max_s: Longest pause between two flushes.

    Attributes:
        trades: How many trades wait in lanes.
    """

    def __init__(self, *, messages_per_s: float, linger_max_s: float) -> None:
        self._messages_per_s = messages_per_s
        self._linger_max_s = linger_max_s
        self._ready: list[Lane] = []
        self._next_at = 0.0
        self.trades = 0

    def put(self, lane: Lane, trades: Sequence[TextTrade], received_us: int) -> None:
        """Let trades of one symbol wait for the next flush."""
        if not lane.waiting:
            self._ready.append(lane)
        lane.put(trades, received_us)
        self.trades += len(trades)

    def wait_s(self, now: float) -> float:
        """Return how long the next flush must still wait, 0 when it may start."""
        return max(self._next_at - now, 0.0)

    def take(self) -> list[Lane]:
        """Return the lanes with something to send, in the order they got it."""
        ready, self._ready = self._ready, []
        return ready

    def took(self, trades: int) -> None:
        """Note that so many trades left their lane."""
        self.trades -= trades

    def spent(self, messages: int, now: float) -> None:
        """Note a flush of so many messages that ended at ``now``, monotonic seconds."""
        self._next_at = now + min(messages / self._messages_per_s, self._linger_max_s)
