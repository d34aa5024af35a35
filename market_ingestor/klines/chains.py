"""Work that must be serial per key and may overlap across keys, with a fixed number of tasks."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

WORKERS: Final = 128  # publications waiting for their acknowledgement at the same time

Job = Callable[[], Awaitable[None]]


class Chains:
    """Queues of jobs by key. A job that raises ends `run`.

    The queues are bounded by whoever submits: `wait_below` before taking more upstream.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        self._workers = workers
        self._jobs: dict[str, deque[Job]] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._count = 0
        self._fewer = asyncio.Event()

    def __len__(self) -> int:
        """Return how many jobs are waiting or under way."""
        return self._count

    def submit(self, key: str, job: Job) -> None:
        """Do ``job`` after all earlier ones of its key."""
        self._count += 1
        queue = self._jobs.get(key)
        if queue is None:
            self._jobs[key] = deque((job,))
            self._ready.put_nowait(key)
        else:
            queue.append(job)

    async def wait_below(self, count: int) -> None:
        """Wait until fewer than ``count`` jobs are left."""
        while self._count >= count:
            self._fewer.clear()
            await self._fewer.wait()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"chain-{number}")

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            queue = self._jobs[key]
            while queue:
                await queue[0]()
                queue.popleft()
                self._count -= 1
                self._fewer.set()
            del self._jobs[key]
