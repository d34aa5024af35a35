"""Gives longer open windows their closed minutes back after a restart. SHELL.

From the database, overlaid with what it has not got yet. Nobody waits for it: a longer window
that is not loaded when it closes is recomputed instead of published.
"""

import asyncio
from typing import Final

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.asking import ask
from market_ingestor.klines.candle import fold_of
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.publication import Publication
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.window import Fold
from market_ingestor.model.period import BASE_PERIOD, open_time

_log = structlog.get_logger(__name__)

RETRY_S: Final = 1.0
QUERY_TIMEOUT_S: Final = 30.0


class Loader:
    """The task that loads symbol after symbol and then ends.

    Attributes:
        waiting: Symbols not loaded yet.
    """

    def __init__(self, bus: Bus, store: CandleStore, tail: Tail, publication: Publication) -> None:
        self._bus = bus
        self._store = store
        self._tail = tail
        self._publication = publication
        self.waiting = 0

    async def run(self, aggregators: list[Aggregator]) -> None:
        """Load these symbols, each as of the minute it resumed at."""
        todo = [
            (each, each.longer.known_since) for each in aggregators if each.longer.known_since > 0
        ]
        self.waiting = len(todo)
        for aggregator, before in todo:
            while not aggregator.has_lost:
                try:
                    minutes = await self._minutes(aggregator, before)
                except (StoreUnavailableError, *TROUBLE) as problem:
                    _log.info("long_windows_wait", error=str(problem))
                    await ask(asyncio.sleep(RETRY_S))
                else:
                    aggregator.load_minutes(before, sorted(minutes.items()))
                    break
            self.waiting -= 1

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
