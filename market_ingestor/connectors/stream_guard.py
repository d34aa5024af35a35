"""Watches how full the raw stream is, so that it is never written to its very end. SHELL.

Servers before 2.10 check a new message without the bytes it costs on disk, store it, find the
stream too large and delete the oldest message, unread or not, whatever the policy says (seen with
2.9.10). So we stop a little earlier than the server would refuse.
"""

import asyncio
from typing import Final

import structlog

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus

_log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
SHARE_MAX: Final = 0.97  # of the stream's bytes; the rest is for marks of others and for the lag
LOOKS_AHEAD: Final = 2  # how many more looks' growth must still fit


def is_full(bytes_now: int, bytes_before: int, bytes_max: int) -> bool:
    """Return whether writing on at this rate would come too near to the end of the stream.

    Args:
        bytes_now: What the stream holds, ``bytes_before`` what it held a look ago.
        bytes_max: Its bound, none when not positive.
    """
    growth = max(bytes_now - bytes_before, 0)
    return 0 < bytes_max * SHARE_MAX <= bytes_now + LOOKS_AHEAD * growth


class StreamGuard:
    """Looks at MARKET_RAW once a second.

    Attributes:
        is_full: Whether nothing should be written for now.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._bytes: int | None = None
        self.is_full = False

    async def run(self) -> None:
        """Look until cancelled; while the bus does not answer, the last look counts."""
        while True:
            if self._bus.is_connected:
                await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        try:
            state = await self._bus.stream_state(subjects.RAW_STREAM)
        except Exception as problem:  # noqa: BLE001 - the bus has many ways not to answer
            _log.info("stream_not_seen", error=repr(problem))
            return
        before = state.bytes if self._bytes is None else self._bytes
        was_full, self.is_full = self.is_full, is_full(state.bytes, before, state.bytes_max)
        self._bytes = state.bytes
        if self.is_full and not was_full:
            _log.warning("raw_stream_full", bytes=state.bytes, bytes_max=state.bytes_max)
