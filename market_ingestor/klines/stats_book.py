"""The rolling statistics of all symbols, and their closed minutes after a restart. SHELL.

Minutes come from three sides: what closes here, at once; every version on the candles' own
stream, whoever published it, so corrections arrive too; and, once per symbol and in the
background, what was stored in the 24 hours before.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from market_ingestor.bus.asking import ask
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.candle import fold_of
from market_ingestor.klines.facts import Closing
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.stats import DAY_MINUTES, RollingStats
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS
from market_ingestor.model.stats import Stats

_log = structlog.get_logger(__name__)

RETRY_S: Final = 1.0
QUERY_TIMEOUT_S: Final = 30.0
YIELD_AFTER: Final = 100  # stored minutes taken in before other tasks get their turn


class StatsBook:
    """Keeps the statistics of every symbol that is folded here.

    Args:
        store: Asked once per symbol; nobody waits for its answer.
        aggregators: By exchange and symbol.
    """

    def __init__(
        self, store: CandleStore, aggregators: Mapping[tuple[str, str], Aggregator]
    ) -> None:
        self._store = store
        self._aggregators = aggregators
        self._stats: dict[Aggregator, RollingStats] = {}
        self._cold: deque[RollingStats] = deque()
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Return how many symbols still lack what was stored before."""
        return len(self._cold)

    def _of(self, aggregator: Aggregator) -> RollingStats:
        found = self._stats.get(aggregator)
        if found is None:
            found = self._stats[aggregator] = RollingStats(aggregator.exchange, aggregator.symbol)
        return found

    def follow(self, aggregator: Aggregator, closings: Sequence[Closing]) -> bool:
        """Take in what one message did to a symbol; return whether there is news to tell."""
        now_us = aggregator.watermark.seen_us
        if now_us is None:
            return False
        stats = self._stats.get(aggregator) or self._of(aggregator)
        if stats.now_us is None:
            self._cold.append(stats)
            self._wake.set()
        if aggregator.fresh:
            fresh, aggregator.fresh = aggregator.fresh, []
            stats.take(fresh, now_us)
        else:
            stats.advance(now_us)
        for closing in closings:
            if closing.period == BASE_PERIOD:
                stats.close(closing.open_time, closing.fold)
        return stats.has_changed

    def candle(self, kline: Kline) -> None:
        """Take in a version of a candle from the stream."""
        if kline.period != BASE_PERIOD:
            return
        aggregator = self._aggregators.get((kline.exchange, kline.symbol))
        if aggregator is not None:
            self._of(aggregator).correct(kline.open_time, fold_of(kline))

    def changed(self, aggregator: Aggregator) -> Stats | None:
        """Return the statistics of a symbol, None when there is nothing new."""
        stats = self._stats.get(aggregator)
        if stats is None or not stats.has_changed:
            return None
        return stats.stats(
            (opened, window.fold)
            for opened, window in aggregator.open.windows.items()
            if window.fold is not None
        )

    # -- what was before

    async def run(self) -> None:
        """Load the stored minutes of symbol after symbol, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._cold:
                try:
                    await self._load(self._cold[0])
                except (StoreUnavailableError, TimeoutError) as problem:
                    _log.info("statistics_wait", symbols=len(self._cold), error=str(problem))
                    await ask(asyncio.sleep(RETRY_S))
                else:
                    self._cold.popleft()

    async def _load(self, stats: RollingStats) -> None:
        now_ms = (stats.now_us or 0) // 1_000
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            rows = await ask(
                self._store.klines(
                    stats.exchange,
                    stats.symbol,
                    BASE_PERIOD,
                    max(now_ms - DAY_MINUTES * MINUTE_MS, 0),
                    now_ms,
                )
            )
        for number, row in enumerate(rows, start=1):
            stats.close(row.open_time, fold_of(row))
            if number % YIELD_AFTER == 0:
                await asyncio.sleep(0)
