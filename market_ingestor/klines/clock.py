"""How much time has passed for a stream, as far as its reader can vouch for it. Pure.

The clock of the last resort: windows of a silent symbol are closed by it. It advances with the
times at which the server stored messages, but never by more than a second from one message to
the next, and with time spent waiting at the end of the stream. So neither a stopped process nor
an outage of the bus, after which everything comes at once, looks like silence of a symbol.
"""

from typing import Final

STEP_MAX_US: Final = 1_000_000  # marks come every second wherever a feed is alive


class StreamClock:
    """Time spent reading one stream, in microseconds from an arbitrary start.

    Attributes:
        now_us: Never goes back.
    """

    __slots__ = ("_idle_us", "_stored_us", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self._stored_us: int | None = None
        self._idle_us = 0

    def delivered(self, stored_us: int) -> None:
        """Note a message the server stored at ``stored_us``."""
        if self._stored_us is not None and stored_us > self._stored_us:
            step_us = min(stored_us - self._stored_us, STEP_MAX_US)
            self.now_us += max(step_us - self._idle_us, 0)
        self._stored_us = max(stored_us, self._stored_us or 0)
        self._idle_us = 0

    def waited(self, elapsed_us: int) -> None:
        """Note time spent waiting with everything read and the server there."""
        step_us = min(max(elapsed_us, 0), STEP_MAX_US)
        self.now_us += step_us
        self._idle_us += step_us
