"""The longer open windows of one symbol: merges of their closed minutes. Pure.

Owns what is known of the minutes of each: in, corrected, left to the database, or not loaded
since a restart. A window that is not whole when it ends is recomputed instead of published.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from market_ingestor.klines.dirty import WindowKey
from market_ingestor.klines.window import Fold, Window
from market_ingestor.model.period import PERIOD_MS, closes, open_time


class Accumulator:
    """The closed minutes of a longer open window.

    Attributes:
        fold: What was absorbed, None when nothing was.
        is_loaded: Every minute before those folded here is in, or there was none.
        is_tainted: A minute of it is dirty or was corrected.
        is_unsure: What it holds of a minute is not what was published of it.
        lacking: Closed minutes left to the database, which are not in yet.
    """

    __slots__ = ("fold", "is_loaded", "is_tainted", "is_unsure", "lacking")

    def __init__(self, *, is_loaded: bool) -> None:
        self.fold: Fold | None = None
        self.is_loaded = is_loaded
        self.is_tainted = False
        self.is_unsure = False
        self.lacking: set[int] = set()

    @property
    def is_whole(self) -> bool:
        """Return whether every closed minute is in, as it was published."""
        return self.is_loaded and not self.is_unsure and not self.lacking

    def exchange(self, minute: int, old: Fold | None, new: Fold) -> None:
        """Replace a minute by its next version, as far as the former one is in."""
        self.is_tainted = True
        if not self.is_loaded:
            self.is_unsure = True  # whichever version gets loaded
        elif minute in self.lacking or old is None or self.fold is None:
            self.lacking.discard(minute)
            self.absorb(new)
        else:
            self.fold.exchange_part(old, new)

    def absorb(self, fold: Fold) -> None:
        """Add a minute."""
        if self.fold is None:
            self.fold = fold.copy()
        else:
            self.fold.absorb(fold)


class LongerWindows:
    """The open windows of all periods above a minute.

    Attributes:
        periods: Those above a minute.
        windows: By period and open time.
        known_since: Minutes from here on were all folded by this process.
        is_loaded: Those before were given back, as far as windows are open.
    """

    def __init__(self, periods: tuple[str, ...]) -> None:
        self.periods: Final = periods
        self.windows: dict[WindowKey, Accumulator] = {}
        self.known_since = 0
        self.is_loaded = True

    def absorb(self, minute: int, fold: Fold) -> None:
        """Add a minute that closed."""
        for period in self.periods:
            self._window(period, minute).absorb(fold)

    def lack(self, minute: int) -> None:
        """Note a minute that closed and was left to the database."""
        for period in self.periods:
            self._window(period, minute).lacking.add(minute)

    def taint(self, minute: int, closed_through: int) -> None:
        """Note in the windows that are still open that a minute of theirs is dirty."""
        for period in self.periods:
            opened = open_time(minute, period)
            if closes(period, opened) > closed_through or (period, opened) in self.windows:
                self._window(period, minute).is_tainted = True

    def exchange(self, minute: int, old: Fold | None, new: Fold) -> None:
        """Replace a minute by its next version."""
        for window in self._holding(minute):
            window.exchange(minute, old, new)

    def doubt(self, minute: int) -> None:
        """Note that other content of a minute is held than was published."""
        for window in self._holding(minute):
            window.is_unsure = True

    def _holding(self, minute: int) -> Iterator[Accumulator]:
        for period in self.periods:
            window = self.windows.get((period, open_time(minute, period)))
            if window is not None:
                yield window

    def _window(self, period: str, minute: int) -> Accumulator:
        opened = open_time(minute, period)
        found = self.windows.get((period, opened))
        if found is None:
            found = Accumulator(is_loaded=opened >= self.known_since)
            self.windows[period, opened] = found
        return found

    def has_ended(self, through: int) -> bool:
        """Return whether a window ends by ``through``."""
        return any(closes(*key) <= through for key in self.windows)

    def take_ended(self, through: int) -> list[tuple[str, int, Accumulator]]:
        """Return the windows that end by ``through`` and forget them, shorter periods first."""
        ended = [key for key in self.windows if closes(*key) <= through]
        ended.sort(key=lambda key: (PERIOD_MS[key[0]], key[1]))
        return [(*key, self.windows.pop(key)) for key in ended]

    def fold(self, period: str, opened: int, minutes: Mapping[int, Window]) -> Fold | None:
        """Return an open window with the open minutes in it, None when it cannot be told."""
        window = self.windows.get((period, opened))
        if window is None:
            if opened < self.known_since:
                return None  # its earlier minutes are not here
            window = Accumulator(is_loaded=True)
        if not window.is_loaded:
            return None
        fold = window.fold.copy() if window.fold is not None else None
        for minute, open_minute in minutes.items():
            if opened <= minute < closes(period, opened) and open_minute.fold is not None:
                if fold is None:
                    fold = open_minute.fold.copy()
                else:
                    fold.absorb(open_minute.fold)
        return fold

    # -- after a restart

    def resume(self, closed_through: int) -> None:
        """Begin at this minute: what is open may hold minutes from before it."""
        self.known_since = closed_through
        self.is_loaded = False
        for period in self.periods:
            if open_time(closed_through, period) < closed_through:
                self._window(period, closed_through)

    def load(
        self,
        before: int,
        minutes: Iterable[tuple[int, Fold]],
        is_closed: Callable[[str, int], bool],
    ) -> None:
        """Give the windows their minutes from before this process began to fold.

        Args:
            before: Every minute that opens earlier, from the longest window's start on, is among
                ``minutes``.
            is_closed: Whether a window, by period and open time, is open no longer.
        """
        if before != self.known_since:
            return  # begun anew meanwhile
        self.is_loaded = True
        waiting = {
            (period, open_time(before, period)): Accumulator(is_loaded=True)
            for period in self.periods
            if open_time(before, period) < before
        }
        for minute, fold in minutes:
            for period in self.periods:
                key = (period, open_time(minute, period))
                present = self.windows.get(key)
                if key in waiting and (present is None or minute not in present.lacking):
                    waiting[key].absorb(fold)
        for key, loaded in waiting.items():
            if not is_closed(*key):
                self._complete(key, loaded)

    def _complete(self, key: WindowKey, loaded: Accumulator) -> None:
        """Add what was folded since to what was loaded."""
        present = self.windows.get(key)
        if present is not None and present.is_loaded:
            return
        if present is not None:
            loaded.is_tainted = present.is_tainted
            loaded.is_unsure = present.is_unsure
            loaded.lacking = present.lacking
            if present.fold is not None:
                loaded.absorb(present.fold)
        self.windows[key] = loaded
