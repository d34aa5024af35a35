"""The newest version of each recent candle, as read from MARKET_KLINE. Pure.

Owns the answer to "what is the last sequence of this subject, and which version of this window
is the newest". It says so when it cannot know: older windows are in the database.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

from market_ingestor.klines.candle import identity
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS

MEMORY_MS: Final = 2 * 3_600_000  # how far back versions are kept, at least
SPARE: Final = 8  # versions kept of periods longer than that


class Version(NamedTuple):
    """What is known of a published version.

    Attributes:
        sequence: In MARKET_KLINE; 0 when it was read from the database.
        kline: The candle itself, where it was at hand.
    """

    sequence: int
    revision: int
    identity: str
    complete: bool
    kline: Kline | None = None

    @classmethod
    def of(cls, kline: Kline, sequence: int = 0) -> "Version":
        """Return the version a candle is."""
        content = kline if sequence == 0 else None
        return cls(sequence, kline.revision, identity(kline), kline.complete, content)


class Unknown(Enum):
    """There may be a version, but not in memory."""

    UNKNOWN = "unknown"


Lookup: TypeAlias = Version | Literal[Unknown.UNKNOWN] | None


class _Subject:
    __slots__ = ("forgotten_through", "is_whole", "items_max", "last_sequence", "versions")

    def __init__(self, period: str, *, is_whole: bool) -> None:
        self.last_sequence = 0
        self.versions: dict[int, Version] = {}
        self.items_max = MEMORY_MS // PERIOD_MS[period] + SPARE
        self.forgotten_through = -1
        self.is_whole = is_whole


class Versions:
    """Versions by subject and open time, bounded per subject by forgetting the oldest windows.

    Args:
        since_ms: Everything stored from then on is read, Unix milliseconds.
        has_all: Everything ever stored is read.
    """

    def __init__(self, *, since_ms: int = 0, has_all: bool = True) -> None:
        self._since_ms = since_ms
        self._has_all = has_all
        self._subjects: dict[str, _Subject] = {}

    def begin(self, *, since_ms: int, has_all: bool) -> None:
        """Say what will be read; call it before the first `note`."""
        self._since_ms = since_ms
        self._has_all = has_all

    def note(self, subject: str, kline: Kline, sequence: int) -> None:
        """Take in a stored version; those of one subject come in the order of the stream."""
        known = self._subject(subject, kline.period)
        if sequence <= known.last_sequence:
            return  # our own, seen at its acknowledgement
        known.last_sequence = sequence
        known.versions[kline.open_time] = Version.of(kline, sequence)
        if len(known.versions) > known.items_max:
            oldest = min(known.versions)
            del known.versions[oldest]
            known.forgotten_through = max(known.forgotten_through, oldest)

    def note_unreadable(self, subject: str, period: str, sequence: int) -> None:
        """Take in a message that is no candle: it moves the fence and nothing else."""
        known = self._subject(subject, period)
        known.last_sequence = max(known.last_sequence, sequence)

    def _subject(self, subject: str, period: str) -> _Subject:
        known = self._subjects.get(subject)
        if known is None:
            known = self._subjects[subject] = _Subject(period, is_whole=self._has_all)
        return known

    def note_empty(self, subject: str, period: str) -> None:
        """Note that nothing is stored under a subject."""
        self._subject(subject, period)

    def last_sequence(self, subject: str) -> int | None:
        """Return the last sequence of a subject, 0 when it is empty, None when not known."""
        known = self._subjects.get(subject)
        return None if known is None else known.last_sequence

    def lookup(self, subject: str, open_time: int, period: str, *, is_new: bool) -> Lookup:
        """Return the newest version of a window.

        Args:
            is_new: No version of it can have been stored before what is read.
        """
        known = self._subjects.get(subject)
        if known is None:
            return None if is_new or self._has_all else Unknown.UNKNOWN
        found = known.versions.get(open_time)
        if found is not None:
            return found
        if open_time <= known.forgotten_through:
            return Unknown.UNKNOWN
        if known.is_whole or is_new or open_time + PERIOD_MS[period] > self._since_ms:
            return None
        return Unknown.UNKNOWN

    def behind(self, subject: str, sequence: int) -> Iterator[tuple[int, Version]]:
        """Yield open time and newest version of the windows published behind a sequence."""
        known = self._subjects.get(subject)
        if known is not None:
            for open_time, version in known.versions.items():
                if version.sequence > sequence:
                    yield open_time, version
