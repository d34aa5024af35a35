"""Publishes open candles and statistics on core NATS, throttled per symbol. SHELL.

Twelve longer periods change with every trade that one minute does. Told as often, they were the
most of what klines, the bus and everybody behind it did, so they come at a fifth of its rate. And
telling never takes more than a share of the process's time: with many busy symbols everything is
told less often, while trades are still read as fast as before.
"""

import asyncio
import contextlib
from typing import Final

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.stats_book import StatsBook
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD

YIELD_AFTER: Final = 20  # symbols published before other tasks get their turn
SHARE: Final = 0.25  # of time that telling may take
REST_S_MAX: Final = 2.0  # a round that took longer waited for a server or was frozen itself
# In intervals: by default half a second, which whoever asks how far a candle is (API) allows for.
LONGER_EVERY: Final = 5


def rest_s(took_s: float) -> float:
    """Return how long to tell nothing after a round that took so many seconds. Pure."""
    return min(took_s * (1 / SHARE - 1), REST_S_MAX)


class _Longer:
    """The longer candles of a symbol that are not told yet, and when they may be."""

    __slots__ = ("minutes", "next_at")

    def __init__(self) -> None:
        self.minutes: set[int] = set()
        self.next_at = 0.0


class LiveCandles:
    """The task that tells how a symbol is now: at once, then once per interval.

    Periods above a minute come once in `LONGER_EVERY` intervals.

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
        self._longer: dict[Aggregator, _Longer] = {}
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
        rest_until = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(rest_until - loop.time())
            now = loop.time()
            due_at = None
            due = []
            for aggregator in self._changed:
                next_at = self._next_at.get(aggregator, now)
                if next_at <= now:
                    due.append(aggregator)
                else:
                    due_at = next_at if due_at is None else min(due_at, next_at)
            took_s = 0.0
            for number, aggregator in enumerate(due, start=1):
                del self._changed[aggregator]
                self._next_at[aggregator] = now + self._interval_s
                began_at = loop.time()
                await self._publish(aggregator, now)
                took_s += loop.time() - began_at
                if number % YIELD_AFTER == 0:
                    await asyncio.sleep(0)
            rest_until = loop.time() + rest_s(took_s)

    async def _publish(self, aggregator: Aggregator, now: float) -> None:
        messages: list[tuple[str, bytes]] = []
        for kline in self._due(aggregator, now):
            key = (kline.exchange, kline.symbol, kline.period)
            subject = self._subjects.get(key)
            if subject is None:
                subject = self._subjects[key] = subjects.live(*key)
            messages.append((subject, codec.encode(kline)))
        self.published += len(messages)
        stats = self._book.changed(aggregator)
        if stats is not None:
            subject = self._stats_subjects.get(aggregator)
            if subject is None:
                subject = subjects.stats(aggregator.exchange, aggregator.symbol)
                self._stats_subjects[aggregator] = subject
            messages.append((subject, codec.encode(stats)))
            self.told += 1
        if messages:
            await self._bus.publish_core(*messages)

    def _due(self, aggregator: Aggregator, now: float) -> list[Kline]:
        """Return the open candles to tell; a symbol with others waiting is looked at again."""
        longer = self._longer.get(aggregator)
        if longer is None:
            longer = self._longer[aggregator] = _Longer()
        minutes = aggregator.open.take_changed()
        longer.minutes |= minutes
        if longer.next_at <= now:
            minutes, longer.minutes = longer.minutes, set()
            if minutes:
                longer.next_at = now + LONGER_EVERY * self._interval_s
            return aggregator.open_candles(minutes)
        if longer.minutes:
            self._changed[aggregator] = None
            self._wake.set()
        return aggregator.open_candles(minutes, (BASE_PERIOD,))
