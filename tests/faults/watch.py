"""What must stay bounded while everything else goes wrong: memory, and lines of log."""

import asyncio
from pathlib import Path
from typing import Final

from tests.faults.world import World
from tests.support.services import Service

SAMPLE_S: Final = 1.0
PAGE_BYTES: Final = 4_096
MIB: Final = 1024**2
MEMORY_MAX_BYTES: Final = 400 * MIB  # of any role
LINES_PER_FAULT: Final = 40  # that a process may write about one episode
LINES_AT_REST: Final = 300  # beside: its starts, and what goes on without faults


class MemoryWatch:
    """Samples the resident memory of every role.

    Attributes:
        most: Bytes, by role.
    """

    def __init__(self, world: World) -> None:
        self.most: dict[str, int] = {}
        self._world = world

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            for service in self._world.running:
                used = resident(service)
                self.most[service.role] = max(self.most.get(service.role, 0), used)
            await asyncio.sleep(SAMPLE_S)


def resident(service: Service) -> int:
    """Return the resident bytes of a process, 0 when it is gone."""
    try:
        text = Path(f"/proc/{service.pid}/statm").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.split()[1]) * PAGE_BYTES


def log_lines(service: Service) -> int:
    """Return how many lines all lives of a service have written."""
    return sum(path.read_bytes().count(b"\n") for path in service.logs)
