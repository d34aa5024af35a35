"""What is stored of one symbol, asked for a few questions at a time. SHELL.

Every question may raise StoreUnavailableError or TimeoutError: the database cannot answer now.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Final

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.recall import recall
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, DAY_MS, MINUTE_MS
from market_ingestor.model.trade import DecimalTrade

QUERIES_MAX: Final = 4  # at the same time; corrections must not crowd out the savers
QUERY_TIMEOUT_S: Final = 30.0
FLAT_BACK_MS: Final = 8 * DAY_MS  # how far back a flat candle looks for a price


class Floors:
    """How far the savers have come, as last asked."""

    __slots__ = ("kline", "raw")

    def __init__(self) -> None:
        self.raw = -1
        self.kline = -1


class Stored:
    """The questions of corrections to a `CandleStore`."""

    def __init__(self, store: CandleStore) -> None:
        self._store = store
        self._queries = asyncio.Semaphore(QUERIES_MAX)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._queries, asyncio.timeout(QUERY_TIMEOUT_S):
            yield

    async def trades(self, aggregator: Aggregator, minute: int) -> Sequence[DecimalTrade]:
        """Return the trades of a minute."""
        async with self._turn():
            return await self._store.trades(
                aggregator.exchange, aggregator.symbol, minute, minute + MINUTE_MS
            )

    async def klines(
        self, aggregator: Aggregator, from_ms: int, to_ms: int, period: str = BASE_PERIOD
    ) -> Sequence[Kline]:
        """Return the newest versions of the candles of a span, ascending."""
        async with self._turn():
            return await self._store.klines(
                aggregator.exchange, aggregator.symbol, period, from_ms, to_ms
            )

    async def minutes(self, aggregator: Aggregator, from_ms: int, to_ms: int) -> set[int]:
        """Return the minutes of a span that have trades or a candle."""
        async with self._turn():
            return set(
                await self._store.minutes(aggregator.exchange, aggregator.symbol, from_ms, to_ms)
            )

    async def traded(self, aggregator: Aggregator, from_ms: int, to_ms: int) -> set[int]:
        """Return the minutes of a span that have trades."""
        async with self._turn():
            return set(
                await self._store.traded(aggregator.exchange, aggregator.symbol, from_ms, to_ms)
            )

    async def price_before(self, aggregator: Aggregator, minute: int) -> Decimal | None:
        """Return the price a flat candle of a minute has, None when there is none."""
        async with self._turn():
            return await self._store.price_before(
                aggregator.exchange, aggregator.symbol, minute - FLAT_BACK_MS, minute
            )

    async def unlike(
        self, aggregator: Aggregator, minute: int, price: Decimal
    ) -> Sequence[tuple[int, bool]]:
        """Return the closed minutes behind one that say another price; see `CandleStore`."""
        end = min(aggregator.closed.through or 0, minute + FLAT_BACK_MS)
        async with self._turn():
            return await self._store.unlike(
                aggregator.exchange, aggregator.symbol, minute + MINUTE_MS, end, price
            )

    async def recall(self, aggregator: Aggregator, raw_floor: int) -> None:
        """Look for forgotten holes; see `recall`."""
        async with self._queries:
            await recall(aggregator, self._store, raw_floor)
