"""Gives longer open windows the closed minutes that this process did not fold. SHELL.

From the database, overlaid with what it has not got yet. Nobody waits for it: a longer window
that is not loaded when it closes is recomputed instead of published.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import ask
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.candle import fold_of
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.publication import Publication
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.window import Fold
from market_ingestor.model.period import BASE_PERIOD, open_time

_log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
QUERY_TIMEOUT_S: Final = 30.0


class Loader:
    """The task that loads symbol after symbol.

    Attributes:
        waiting: Symbols not loaded yet, at the last look.
    """

    def __init__(self, bus: Bus, store: CandleStore, tail: Tail, publication: Publication) -> None:
        self._bus = bus
        self._store = store
        self._tail = tail
        self._publication = publication
        self.waiting = 0

    async def run(self, aggregators: Mapping[tuple[str, str], Aggregator]) -> None:
        """Load what needs it until cancelled."""
        while True:
            todo = [each for each in aggregators.values() if each.needs_loading]
            self.waiting = len(todo)
            for aggregator in todo:
                if not await self._load(aggregator):
                    break
                self.waiting -= 1
            await ask(asyncio.sleep(POLL_S))

    async def _load(self, aggregator: Aggregator) -> bool:
        """Load one symbol; return whether the answers could be had."""
        before = aggregator.longer.known_since
        try:
            minutes = await self._minutes(aggregator, before)
        except (StoreUnavailableError, *TROUBLE) as problem:
            _log.info("long_windows_wait", symbols=self.waiting, error=str(problem))
            return False
        aggregator.load_minutes(before, sorted(minutes.items()))
        return True

    async def _minutes(self, aggregator: Aggregator, before: int) -> dict[int, Fold]:
        begin = min(
            (open_time(before, period) for period in aggregator.longer.periods), default=before
        )
        if begin >= before:
            return {}
        state = await ask(self._bus.consumer_state(subjects.KLINE_STREAM, subjects.SAVE_DURABLE))
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            rows = await self._store.klines(
                aggregator.exchange, aggregator.symbol, BASE_PERIOD, begin, before
            )
        minutes = {row.open_time: fold_of(row) for row in rows}
        subject = self._publication.subject(aggregator, BASE_PERIOD)
        unsaved = self._tail.versions.behind(subject, 0 if state is None else state.ack_floor)
        for opened, version in list(unsaved):
            if begin <= opened < before:
                stored = await ask(self._bus.message_at(subjects.KLINE_STREAM, version.sequence))
                if stored is not None:
                    minutes[opened] = fold_of(codec.kline(stored.subject, stored.payload))
        return minutes
