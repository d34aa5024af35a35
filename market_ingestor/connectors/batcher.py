"""When what is gathered per symbol goes out, by a budget of messages. Pure.

Messages, not trades, are what every later hop costs. So a flush of k messages is followed by a
pause of k / budget: a quiet process sends at once, a busy one gathers while it waits. Many messages
a flush mean many symbols with a trade each, which a pause as long as that would hardly change: they
wait as many times longer as there are `MANY`. While sockets hold more than we read, thin messages
wait a little longer still: what is behind us in there waits too.
Must never know what a message holds.
"""

from collections.abc import Sequence
from typing import Final

from market_ingestor.connectors.feed import Lane
from market_ingestor.model.trade import TextTrade

MANY: Final = 10  # at 10,000 trades/s over 100 symbols 4,300 messages a second instead of 9,000
THICK: Final = 16  # trades a message on average: what sending costs is then under 1 us a trade
MORE_S: Final = 0.001  # in which a socket is read that has something to read
BEHIND_S_MAX: Final = 0.1  # that thin messages wait beyond the pause


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
        self._is_behind = False
        self.trades = 0

    def put(self, lane: Lane, trades: Sequence[TextTrade], received_us: int) -> None:
        """Let trades of one symbol wait for the next flush."""
        if not lane.waiting:
            self._ready.append(lane)
        lane.put(trades, received_us)
        self.trades += len(trades)

    def wait_s(self, now: float) -> float:
        """Return how long to wait until asking again, 0 when the next flush may start."""
        if now < self._next_at:
            return self._next_at - now
        is_behind, self._is_behind = self._is_behind, False
        is_thin = self.trades < THICK * len(self._ready)
        return MORE_S if is_behind and is_thin and now < self._next_at + BEHIND_S_MAX else 0.0

    def fell_behind(self) -> None:
        """Note that a socket had so much to read that it probably has more."""
        self._is_behind = True

    def take(self) -> list[Lane]:
        """Return the lanes with something to send, in the order they got it."""
        ready, self._ready = self._ready, []
        return ready

    def took(self, trades: int) -> None:
        """Note that so many trades left their lane."""
        self.trades -= trades

    def spent(self, messages: int, now: float) -> None:
        """Note a flush of so many messages that ended at ``now``, monotonic seconds."""
        pause_s = messages / self._messages_per_s * max(1.0, messages / MANY)
        self._next_at = now + min(pause_s, self._linger_max_s)
