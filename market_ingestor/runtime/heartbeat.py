"""Shows systemd that the event loop turns, and measures how late it is. SHELL.

Beats from the loop itself: when something blocks it, the beats stop, and systemd ends the process
(``WatchdogSec``).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from market_ingestor import metrics
from market_ingestor.runtime.systemd import notify

BEAT_S: Final = 1.0  # systemd's deadline (WatchdogSec) must be several times this
# A start waits for NATS as long as it takes: each beat asks for so much more of TimeoutStartSec.
START_EXTENSION_US: Final = 30_000_000


async def beat(interval_s: float = BEAT_S) -> None:
    """Beat until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        notify(f"WATCHDOG=1\nEXTEND_TIMEOUT_USEC={START_EXTENSION_US}")
        before = loop.time()
        await asyncio.sleep(interval_s)
        metrics.event_loop_lag_seconds.set(max(loop.time() - before - interval_s, 0))


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Beat for the length of the block."""
    task = asyncio.create_task(beat(), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
