"""What was done to the system when, and how it took it."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Disturbance(NamedTuple):
    """From the first fault of an episode until everything worked again, Unix microseconds.

    Attributes:
        kinds: The faults in it.
        spared: From when to when two ingest processes ran and nothing but them was hurt.
    """

    start_us: int
    end_us: int
    kinds: frozenset[str]
    spared: tuple[int, int] | None = None


class Journal:
    """Writes lines of ``journal.jsonl``, and tells them on standard output if wanted.

    Attributes:
        disturbances: The episodes so far.
        survived: How many faults of each kind there were.
        problems: What went wrong while faults were injected.
    """

    def __init__(self, path: Path, *, tells: bool = False) -> None:
        self.path = path
        self.disturbances: list[Disturbance] = []
        self.survived: dict[str, int] = {}
        self.recovery_s: dict[str, float] = {}
        self.problems: list[str] = []
        self._file = path.open("ab", buffering=0)
        self._tells = tells
        self._began = time.monotonic()
        self._spared_since: int | None = None
        self._spared: tuple[int, int] | None = None

    def note(self, what: str, **details: Any) -> None:
        """Write one line."""
        line = {"at_us": now_us(), "what": what, **details}
        self._file.write(msgspec.json.encode(line) + b"\n")
        if self._tells:
            told = " ".join(f"{name}={value}" for name, value in details.items())
            print(f"{time.monotonic() - self._began:8.1f} {what} {told}", flush=True)  # noqa: T201 - the suite's own voice

    def spare(self) -> None:
        """Say that from now on a second reader of every venue lives."""
        self._spared_since = now_us()

    def spare_no_more(self) -> None:
        """Say that the second reader is about to end."""
        if self._spared_since is not None:
            self._spared, self._spared_since = (self._spared_since, now_us()), None

    def disturbed(self, start_us: int, kinds: frozenset[str]) -> None:
        """Note that an episode is over and everything works again."""
        self.disturbances.append(Disturbance(start_us, now_us(), kinds, self._spared))
        self._spared = None

    def counted(self, kind: str) -> None:
        """Count a fault that has ended."""
        self.survived[kind] = self.survived.get(kind, 0) + 1

    def recovered(self, part: str, seconds: float) -> None:
        """Remember the longest recovery of a part."""
        self.recovery_s[part] = max(self.recovery_s.get(part, 0.0), seconds)

    def problem(self, text: str) -> None:
        """Remember what must not have happened; the run fails at its end."""
        self.problems.append(text)
        self.note("problem", text=text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def now_us() -> int:
    """Return the wall clock, Unix microseconds."""
    return time.time_ns() // 1_000
