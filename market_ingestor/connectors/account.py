"""The loss account of one exchange in one process: where every trade read has gone. Pure.

received = published + duplicates + rejected + in flight, exactly and at every moment.
"""

from collections import Counter


class Account:
    """Counts of trades; a frame that could not be read counts as one received and rejected.

    Attributes:
        received: Trades read from the venue, over sockets and REST.
        published: Trades acknowledged by JetStream.
        duplicates: Trades dropped because the same feed had delivered them.
        rejected: Trades not fit to use, by reason.
        in_flight: Trades taken over and not acknowledged yet.
    """

    def __init__(self) -> None:
        self.received = 0
        self.published = 0
        self.duplicates = 0
        self.rejected: Counter[str] = Counter()
        self.in_flight = 0

    def reject(self, reason: str) -> None:
        """Count a trade or frame that was read and is not fit to use."""
        self.received += 1
        self.rejected[reason] += 1

    def drop(self, count: int = 1) -> None:
        """Count trades that were read and are copies."""
        self.received += count
        self.duplicates += count

    def take(self, count: int) -> None:
        """Count trades that were read and are on their way."""
        self.received += count
        self.in_flight += count

    def deliver(self, count: int) -> None:
        """Count trades that JetStream acknowledged."""
        self.in_flight -= count
        self.published += count

    def refuse(self, count: int) -> None:
        """Count trades that JetStream refused for good."""
        self.in_flight -= count
        self.rejected["unpublishable"] += count

    @property
    def balances(self) -> bool:
        """Return whether every trade read is accounted for."""
        left = self.received - self.published - self.duplicates - self.rejected.total()
        return left == self.in_flight and self.in_flight >= 0
