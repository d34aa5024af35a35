"""How far the time of one symbol has come, judged from the stream alone. Pure.

Watermark = newest trade time + time a feed has shown to have passed since it brought that trade
- lateness. Nothing here reads a clock: replay, a stopped process and a backlog change nothing.
It never goes back.
"""

from collections.abc import Sequence
from typing import Final

ANCHORS_MAX: Final = 16  # as many feeds as are remembered otherwise
JUMP_US: Final = 3_600_000_000  # one wrong timestamp must not close every window of the day


class Watermark:
    """The watermark of one symbol. All times are UTC microseconds.

    Attributes:
        value_us: No earlier trade is expected; None before the first trade.
        newest_us: Time of the newest trade that counts, with ``newest_id``.
        brought_us: When its batch was received.
        anchors: When each feed that delivered it did so.
        elapsed_us: Time shown to have passed since.
        suspect: Time and id of a trade too far ahead, until another confirms it.
    """

    __slots__ = (
        "anchors",
        "brought_us",
        "elapsed_us",
        "lateness_us",
        "newest_id",
        "newest_us",
        "suspect",
        "value_us",
    )

    def __init__(self, lateness_us: int) -> None:
        self.lateness_us = lateness_us
        self.value_us: int | None = None
        self.newest_us: int | None = None
        self.newest_id = -1
        self.brought_us = 0
        self.anchors: dict[str, int] = {}
        self.elapsed_us = 0
        self.suspect: tuple[int, int] | None = None

    def trades(self, feed: str, received_us: int, times: Sequence[int], ids: Sequence[int]) -> None:
        """Take in the trades of one batch."""
        newest = max(times) if len(times) > 1 else times[0]
        if self._is_far_ahead(newest, received_us):
            for time_us, trade_id in sorted(zip(times, ids, strict=True)):
                self._trade(feed, received_us, time_us, trade_id)
        elif self.newest_us is None or newest > self.newest_us:
            self._advance(feed, received_us, newest, ids[times.index(newest)])
            return
        elif newest == self.newest_us:
            self._anchor(feed, received_us)
        anchor = self.anchors.get(feed)
        if anchor is not None:
            self.elapse(received_us - anchor)

    def _anchor(self, feed: str, received_us: int) -> None:
        """Note a further feed that brought the newest trade; the oldest makes room."""
        self.anchors.setdefault(feed, received_us)
        if len(self.anchors) > ANCHORS_MAX:
            del self.anchors[min(self.anchors, key=self.anchors.__getitem__)]

    def _is_far_ahead(self, time_us: int, received_us: int) -> bool:
        if self.newest_us is None or time_us <= self.newest_us + JUMP_US:
            return False
        explained = max(received_us - self.brought_us, 0)
        return time_us > self.newest_us + explained + JUMP_US

    def _trade(self, feed: str, received_us: int, time_us: int, trade_id: int) -> None:
        if self._is_far_ahead(time_us, received_us):
            if self.suspect is None or self.suspect[1] == trade_id:  # a copy confirms nothing
                self.suspect = (time_us, trade_id)
                return
            nearer, farther = sorted((self.suspect, (time_us, trade_id)))
            self._advance(feed, received_us, *nearer)
            self.suspect = None
            self._trade(feed, received_us, *farther)
        elif self.newest_us is None or time_us > self.newest_us:
            self._advance(feed, received_us, time_us, trade_id)
        elif time_us == self.newest_us:
            self._anchor(feed, received_us)

    def _advance(self, feed: str, received_us: int, time_us: int, trade_id: int) -> None:
        self.newest_us = time_us
        self.newest_id = trade_id
        self.brought_us = received_us
        self.anchors = {feed: received_us}
        self.elapsed_us = 0
        if self.suspect is not None and self.suspect[0] <= time_us:
            self.suspect = None
        self.raise_to(time_us - self.lateness_us)

    def elapse(self, elapsed_us: int) -> None:
        """Note that at least ``elapsed_us`` have passed since the newest trade was brought."""
        if self.newest_us is not None and elapsed_us > self.elapsed_us:
            self.elapsed_us = elapsed_us
            self.raise_to(self.newest_us + elapsed_us - self.lateness_us)

    def raise_to(self, value_us: int) -> None:
        """Move the watermark to ``value_us`` unless it is there already."""
        if self.value_us is None or value_us > self.value_us:
            self.value_us = value_us

    def restore(self, newest_us: int) -> None:
        """Take up a trade that is stored and was never read, unless newer ones were."""
        if self.newest_us is None or newest_us > self.newest_us:
            self._advance("", newest_us, newest_us, -1)
            self.anchors.clear()

    @property
    def seen_us(self) -> int | None:
        """Return the time up to which a feed has been heard."""
        return None if self.newest_us is None else self.newest_us + self.elapsed_us
