"""A deadline for other processes that a busy machine puts off."""

import time
from pathlib import Path
from typing import Final

NS_PER_S: Final = 1_000_000_000


def held_up_s(pid: int) -> float:
    """Return how long a process was ready to run and got no core, in seconds.

    0 where the system keeps no such record, or the process is gone.
    """
    try:
        _, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    except OSError:
        return 0.0
    return int(waited_ns) / NS_PER_S


class Patience:
    """So many seconds, in which time that a process waited for a core does not count."""

    def __init__(self, pid: int, wait_s: float) -> None:
        self._pid = pid
        self._wait_s = wait_s
        self._began = time.monotonic()
        self._held_up_s = self._held_up_before_s = held_up_s(pid)

    @property
    def is_over(self) -> bool:
        self._held_up_s = max(self._held_up_s, held_up_s(self._pid))
        waited_s = time.monotonic() - self._began
        return waited_s - (self._held_up_s - self._held_up_before_s) > self._wait_s
