"""The klines role as the process sees it: lives, one after another. SHELL.

A stream that is deleted and made again voids everything known of it. So that life ends, and the
next begins with the resume records like one in a new process: there is one way to begin.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import KlinesSettings
from market_ingestor.errors import StreamRecreatedError
from market_ingestor.klines.corrections import Corrections
from market_ingestor.klines.dead import ROLE
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.life import Life
from market_ingestor.klines.ports import CandleStore
from market_ingestor.model import decimals
from market_ingestor.runtime.role import Health

_log = structlog.get_logger(__name__)

STOP_WAIT_S: Final = 5.0  # for draining; the process has 10 s
PAUSE_S: Final = 1.0  # between lives, should streams be made anew again and again


def owns_all(_: int) -> bool:
    """Own every slot: the only processor, or one of two side by side."""
    return True


class KlineProcessor:
    """Makes candles of trades (`runtime.role.Role`).

    Args:
        bus: Connected; may break off and come back.
        store: What is committed; may be away.
        settings: Periods and times.
        owns: Which hash slots this process works on.

    Attributes:
        lives: How many were begun.
    """

    name = ROLE

    def __init__(
        self,
        bus: Bus,
        store: CandleStore,
        settings: KlinesSettings,
        *,
        owns: Callable[[int], bool] = owns_all,
    ) -> None:
        self._bus = bus
        self._store = store
        self._settings = settings
        self._owns = owns
        self._stop = asyncio.Event()
        self.lives = 0
        self._life = self._begin()

    def _begin(self) -> Life:
        self.lives += 1
        return Life(self._bus, self._store, self._settings, owns=self._owns, stop=self._stop)

    @property
    def intake(self) -> Intake:
        """Return the state of every symbol."""
        return self._life.intake

    @property
    def corrections(self) -> Corrections:
        """Return what is being corrected."""
        return self._life.corrections

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    def health(self) -> Health:
        """Return how this role is."""
        return self._life.health()

    async def run(self) -> None:
        """Work until `stop`, then publish what is under way and write the resume records."""
        decimals.install()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._live(), name="klines")
            stop = group.create_task(self._stop.wait(), name="klines-stop")
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not work.done():
                await self._finish(work)

    async def _finish(self, work: "asyncio.Task[None]") -> None:
        """Give the work time to end by itself, then end it: everything can be replayed."""
        await asyncio.wait((work,), timeout=STOP_WAIT_S)
        work.cancel()

    async def _live(self) -> None:
        while not self._stop.is_set():
            try:
                await self._life.run()
            except* StreamRecreatedError:
                self._life = self._begin()
            if not self._stop.is_set():
                await asyncio.sleep(PAUSE_S)
