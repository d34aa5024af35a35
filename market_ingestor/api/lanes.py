"""Keeps heavy requests from starving light ones. SHELL.

Requests are sorted by what they cost the database: of each sort so many run at once, so many more
wait, the rest are told to come back. There are as many connections as all lanes together need.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

from market_ingestor.api.endpoints import Weight
from market_ingestor.api.errors import UNAVAILABLE, ApiProblemError

AT_ONCE: Final[Mapping[Weight, int]] = {"light": 4, "list": 3, "scan": 1}
WAITING_MAX: Final = 64  # of each; more could not be answered in time
RETRY_AFTER_S: Final = 1
CONNECTIONS: Final = sum(AT_ONCE.values()) + 1  # the last one asks whether the database lives


class Lanes:
    """Lets requests through by their weight; those without any pass."""

    def __init__(self) -> None:
        self._free = {weight: asyncio.Semaphore(count) for weight, count in AT_ONCE.items()}
        self._waiting: dict[Weight, int] = dict.fromkeys(AT_ONCE, 0)

    @contextlib.asynccontextmanager
    async def enter(self, weight: Weight) -> AsyncIterator[None]:
        """Wait for a place and keep it for the length of the block.

        Raises:
            ApiProblemError: Too many wait already.
        """
        free = self._free.get(weight)
        if free is None:
            yield
            return
        if self._waiting[weight] >= WAITING_MAX:
            raise ApiProblemError(
                UNAVAILABLE,
                "busy",
                "too many such requests are waiting",
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting[weight] += 1
        try:
            await free.acquire()
        finally:
            self._waiting[weight] -= 1
        try:
            yield
        finally:
            free.release()
