"""Which feeds of a symbol were up, since when and until when. Pure.

A feed is one connection of one process. All times are its own receive times, UTC microseconds.
"""

from typing import Final

FEEDS_MAX: Final = 16  # two processes with two sockets each, and what they replaced
STEP_MAX_US: Final = 3_000_000  # marks come every second; three missing ones are an interruption


class FeedState:
    """What is known of one feed.

    Attributes:
        since_us: Start of the stretch it has been up without interruption.
        heard_us: When it was last heard.
        n: Number of its newest batch of this symbol, None when none was read yet.
        behind_since_us: Since when its marks have announced batches that were not read.
        is_ended: It said so itself.
    """

    __slots__ = ("behind_since_us", "heard_us", "is_ended", "n", "since_us")

    def __init__(self, since_us: int, heard_us: int, *, is_ended: bool = False) -> None:
        self.since_us = since_us
        self.heard_us = heard_us
        self.n: int | None = None
        self.behind_since_us: int | None = None
        self.is_ended = is_ended


class Feeds:
    """The feeds of one symbol, bounded by forgetting the one not heard for longest."""

    __slots__ = ("_feeds",)

    def __init__(self) -> None:
        self._feeds: dict[str, FeedState] = {}

    def heard(self, feed: str, received_us: int) -> FeedState:
        """Note a sign of life and return the feed's state."""
        state = self._feeds.get(feed)
        if state is None:
            state = self._feeds[feed] = FeedState(received_us, received_us)
            if len(self._feeds) > FEEDS_MAX:
                others = (name for name in self._feeds if name != feed)
                del self._feeds[min(others, key=lambda name: self._feeds[name].heard_us)]
        elif received_us > state.heard_us:
            if received_us - state.heard_us > STEP_MAX_US:
                state.since_us = received_us
            state.heard_us = received_us
        return state

    def end(self, feed: str) -> None:
        """Note that a feed has stopped or was lost."""
        state = self._feeds.get(feed)
        if state is not None:
            state.is_ended = True

    def is_gone(self, feed: str, now_us: int, silence_us: int) -> bool:
        """Return whether a feed ended or was silent for ``silence_us`` at ``now_us``."""
        state = self._feeds.get(feed)
        return state is None or state.is_ended or now_us - state.heard_us >= silence_us

    def cover(self, from_us: int, to_us: int) -> bool:
        """Return whether one feed was up through ``[from_us, to_us)``."""
        return any(
            state.since_us <= from_us and state.heard_us >= to_us for state in self._feeds.values()
        )

    def dump(self) -> list[tuple[str, int, int, bool]]:
        """Return what a resume record keeps: name, since, heard, ended."""
        return [
            (name, state.since_us, state.heard_us, state.is_ended)
            for name, state in self._feeds.items()
        ]

    def load(self, rows: list[tuple[str, int, int, bool]]) -> None:
        """Take up what `dump` returned."""
        self._feeds = {
            name: FeedState(since_us, heard_us, is_ended=is_ended)
            for name, since_us, heard_us, is_ended in rows
        }
