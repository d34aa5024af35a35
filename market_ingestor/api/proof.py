"""Whether the trades of a span that ends now are all there: proved, or not claimed. SHELL.

Closed candles say it of themselves. What lies beside them is proved here: the first minute, cut by
the span's start, by the number of its trades; what came behind the newest candle by ids that run
on from its last one, or, where ids prove nothing, by a feed heard since then without a break.
"""

from collections.abc import Callable, Sequence
from typing import Final

from market_ingestor.api.catalog import Catalog
from market_ingestor.api.memory import Memory
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.tail import overlay
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, open_time
from market_ingestor.model.stored import TradeSum

FLAT_MAX: Final = 10  # candles without trades looked through for the newest trade


async def traded(
    store: ReadStore,
    memory: Memory,
    exchange: str,
    symbol: str,
    ranges: Sequence[tuple[int, int]],
) -> TradeSum:
    """Sum up the trades of ranges ``(start, end]``, in microseconds, stored or only read."""
    # Memory first: what it has forgotten by now is in the table by now.
    held = memory.trades.trades(exchange, symbol, ranges)
    return await store.range_trades(exchange, symbol, ranges, held)


class SpanProof:
    """Looks for a reason to believe that nothing of a span is missing."""

    def __init__(
        self, store: ReadStore, memory: Memory, catalog: Catalog, *, now_us: Callable[[], int]
    ) -> None:
        self._store = store
        self._memory = memory
        self._catalog = catalog
        self._now_us = now_us

    async def is_whole(self, exchange: str, symbol: str, after_us: int, to_us: int) -> bool:
        """Return whether everything of ``(after_us, to_us]`` outside whole minutes can be read now.

        The closed candles inside speak for themselves.

        Raises:
            StoreUnavailableError: The tables cannot be read.
        """
        return (
            self._is_followed(exchange, symbol, after_us, to_us)
            and await self._begins_whole(exchange, symbol, after_us)
            and await self._ends_whole(exchange, symbol, to_us)
            and await self._has_no_hole(exchange, symbol, after_us, to_us)
        )

    def _is_followed(self, exchange: str, symbol: str, after_us: int, to_us: int) -> bool:
        """Return whether the feed is heard, and nobody says that something is missing."""
        memory = self._memory
        first_minute = open_time(after_us // 1_000, BASE_PERIOD)
        at_the_ends = memory.open_klines(
            (exchange, symbol, BASE_PERIOD), first_minute, to_us // 1_000
        )
        return (
            memory.is_heard(exchange, symbol)
            and memory.trades.is_whole
            and all(each.complete for each in at_the_ends)
        )

    async def _begins_whole(self, exchange: str, symbol: str, after_us: int) -> bool:
        """Return whether nothing is missing around the start of a span."""
        first_us = await self._catalog.first_trade_us(exchange, symbol)
        if first_us is None or first_us > after_us:
            return False
        first_minute = open_time(after_us // 1_000, BASE_PERIOD)
        known = await self._newest(exchange, symbol, first_minute + 1)
        if known is None:
            return False
        if known.open_time < first_minute:
            return True  # what it says holds up to the next trade there is
        minute = (known.open_time * 1_000 - 1, (known.close_time + 1) * 1_000 - 1)
        found = await traded(self._store, self._memory, exchange, symbol, [minute])
        return found.trade_count == known.trade_count

    async def _ends_whole(self, exchange: str, symbol: str, to_us: int) -> bool:
        """Return whether nothing is missing behind the newest candle."""
        known = await self._newest(exchange, symbol, to_us // 1_000)
        if known is None or known.last_trade_id is None:
            return False
        since_us = (known.close_time + 1) * 1_000 - 1
        if (exchange, symbol) in self._memory.unnumbered:
            up_us = self._memory.feeds.up_since(exchange, symbol, self._now_us())
            return up_us is not None and up_us <= since_us
        found = await traded(self._store, self._memory, exchange, symbol, [(since_us, to_us)])
        if found.first_id is None or found.last_id is None:
            return True
        next_id = int(known.last_trade_id) + 1
        return found.first_id == next_id and found.last_id - next_id + 1 == found.trade_count

    async def _has_no_hole(self, exchange: str, symbol: str, after_us: int, to_us: int) -> bool:
        gaps = await self._store.gap_spans(exchange, symbol, after_us // 1_000, to_us // 1_000)
        return all(each.is_filled for each in gaps)

    async def _newest(self, exchange: str, symbol: str, before_ms: int) -> Kline | None:
        """Return the newest candle with trades that opens before a time; None when in doubt."""
        key = (exchange, symbol, BASE_PERIOD)
        stored = await self._store.klines(
            *key, from_ms=0, to_ms=before_ms, limit=FLAT_MAX, newest_first=True
        )
        found = overlay(stored, self._memory.tail.klines(key, 0, before_ms))
        for _, each in sorted(found.items(), reverse=True):
            if not each.complete:
                return None
            if each.trade_count:
                return each
        return None
