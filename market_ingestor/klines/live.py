"""Publishes open candles and statistics on core NATS, throttled per symbol. SHELL."""

import asyncio
import contextlib
from typing import Final

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.stats_book import StatsBook

YIELD_AFTER: Final = 20  # symbols published before other tasks get their turn


class LiveCandles:
    """The task that tells how a symbol is now: at once, then once per interval.

    Attributes:
        published: Candles sent so far.
        told: Statistics sent so far.
    """

    def __init__(self, bus: Bus, interval_s: float, book: StatsBook) -> None:
        self._bus = bus
        self._book = book
        self._interval_s = interval_s
        self._changed: dict[Aggregator, None] = {}
        self._next_at: dict[Aggregator, float] = {}
        self._subjects: dict[tuple[str, str, str], str] = {}
        self._wake = asyncio.Event()
        self._stats_subjects: dict[Aggregator, str] = {}
        self.published = 0
        self.told = 0

    def touch(self, aggregator: Aggregator) -> None:
        """Note that a symbol's open candles or statistics changed."""
        self._changed[aggregator] = None
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        loop = asyncio.get_running_loop()
        due_at: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._wake.wait()
            self._wake.clear()
            now = loop.time()
            due_at = None
            due = []
            for aggregator in self._changed:
                next_at = self._next_at.get(aggregator, now)
                if next_at <= now:
                    due.append(aggregator)
                else:
                    due_at = next_at if due_at is None else min(due_at, next_at)
            for number, aggregator in enumerate(due, start=1):
                del self._changed[aggregator]
                self._next_at[aggregator] = now + self._interval_s
                await self._publish(aggregator)
                if number % YIELD_AFTER == 0:
                    await asyncio.sleep(0)

    async def _publish(self, aggregator: Aggregator) -> None:
        for kline in aggregator.open_candles():
            key = (kline.exchange, kline.symbol, kline.period)
            subject = self._subjects.get(key)
            if subject is None:
                subject = self._subjects[key] = subjects.live(*key)
            await self._bus.publish_core(subject, codec.encode(kline))
            self.published += 1
        stats = self._book.changed(aggregator)
        if stats is not None:
            subject = self._stats_subjects.get(aggregator)
            if subject is None:
                subject = subjects.stats(aggregator.exchange, aggregator.symbol)
                self._stats_subjects[aggregator] = subject
            await self._bus.publish_core(subject, codec.encode(stats))
            self.told += 1
