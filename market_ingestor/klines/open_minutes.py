"""The open minutes of one symbol, and those far ahead that are left to the database. Pure."""

from typing import Final

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.watermark import JUMP_US
from market_ingestor.klines.window import Window
from market_ingestor.model.period import MINUTE_MS

# Minutes ahead of the watermark that are folded: two hours, twice what one trade alone may jump.
# A trade further ahead is left to the database, or a wrong clock could fill the memory.
OPEN_MAX: Final = 128
DEFERRED_MAX: Final = 1_024


class OpenMinutes:
    """What was read for minutes that have not closed.

    Attributes:
        windows: By open time.
        deferred: Minutes far ahead of the watermark, left to the database, with their newest
            sequence.
        deferred_dropped: How many of these the bound has cost.
        changed: Minutes with new trades since they were last taken from here.
    """

    def __init__(self) -> None:
        self.windows: dict[int, Window] = {}
        self.deferred: dict[int, int] = {}
        self.deferred_dropped = 0
        self.changed: set[int] = set()

    def window(self, opened: int, sequence: int) -> Window:
        """Return a minute's window, made when it is new."""
        window = self.windows.get(opened)
        if window is None:
            window = self.windows[opened] = Window(opened, sequence)
        return window

    def take(self, opened: int, columns: Columns, sequence: int) -> Columns | None:
        """Fold trades of one minute and return those that were not in, None without any."""
        if opened in self.deferred:
            self.deferred[opened] = sequence
            return None
        folded = self.window(opened, sequence).take(columns, sequence)
        if folded is not None:
            self.changed.add(opened)
        return folded

    def bound(self) -> None:
        """Give up folding what lies too far ahead."""
        while len(self.windows) > OPEN_MAX:
            farthest = max(self.windows)
            self.changed.discard(farthest)
            self.deferred[farthest] = self.windows.pop(farthest).last_sequence
        while len(self.deferred) > DEFERRED_MAX:
            del self.deferred[max(self.deferred)]
            self.deferred_dropped += 1

    def close(self, opened: int, sequence: int) -> Window:
        """Return a minute's window, empty when nothing was read for it, and forget it."""
        self.changed.discard(opened)
        return self.windows.pop(opened, None) or Window(opened, sequence)

    def take_deferred(self, through: int) -> list[tuple[int, int]]:
        """Return the deferred minutes before ``through`` with their sequences and forget them."""
        passed = [opened for opened in self.deferred if opened < through]
        return [(opened, self.deferred.pop(opened)) for opened in passed]

    def doubt(self, minute: int, sequence: int) -> bool:
        """Let what is stored up to ``sequence`` decide on a minute; False when it is not here."""
        window = self.windows.get(minute)
        if window is not None:
            window.is_doubtful = True
            window.last_sequence = max(window.last_sequence, sequence)
        elif minute in self.deferred:
            self.deferred[minute] = sequence
        else:
            return False
        return True

    def holders(self, trade_id: int) -> list[int]:
        """Return the minutes that have counted an id."""
        return [at for at, window in self.windows.items() if trade_id in window.ids]

    def take_changed(self) -> set[int]:
        """Return the minutes with new trades and forget that."""
        changed, self.changed = self.changed, set()
        return changed

    def touch_from(self, minute: int) -> None:
        """Let the open candles from a minute on be told again."""
        self.changed.update(opened for opened in self.windows if opened >= minute)

    def has_ended(self, through: int) -> bool:
        """Return whether a minute ends by ``through``."""
        return any(
            opened + MINUTE_MS <= through
            for each in (self.windows, self.deferred)
            for opened in each
        )

    def far(self, newest_us: int) -> dict[int, int]:
        """Return open minutes too far ahead to wait for, with their newest sequence."""
        return {
            opened: window.last_sequence
            for opened, window in self.windows.items()
            if opened * 1_000 > newest_us + JUMP_US
        }
