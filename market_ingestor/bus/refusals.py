"""What the server refuses our user: it says so on the side and never answers. SHELL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from market_ingestor.errors import NotPermittedError

_MARK: Final = "permissions violation"


class Refusals:
    """Ends requests at once that are not permitted, instead of when their time is up."""

    def __init__(self) -> None:
        self._newest = ""
        self._under_way: dict[asyncio.Timeout, str] = {}

    def note(self, trouble: str) -> None:
        """Take in what the server complains of."""
        said = trouble.lower()
        if _MARK not in said:
            return
        self._newest = trouble
        for limit, subject in self._under_way.items():
            if subject in said:
                limit.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def watch(self, subject: str) -> AsyncIterator[None]:
        """Wait for the answer to what is published on ``subject``.

        Raises:
            NotPermittedError: Our user may not publish there.
        """
        limit = asyncio.timeout(None)
        self._under_way[limit] = subject.lower()
        try:
            async with limit:
                yield
        except TimeoutError as problem:
            if limit.expired():
                raise NotPermittedError(self._newest) from problem
            raise
        finally:
            del self._under_way[limit]
