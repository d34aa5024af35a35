"""Trades forward from an id or a time, oldest first. SHELL.

Trades lie in the table by time, not by id; the candles say at which time an id was. So the search
for an id reads a few dozen candles, however many trades there are.
"""

from collections.abc import Sequence
from typing import Final

from market_ingestor.api.ports import ReadStore
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS, PERIOD_MS
from market_ingestor.model.stored import StoredTrade, TradeStart

STEPS: Final = ("1w", "1d", "1h", BASE_PERIOD)  # each holds at most 60 of the next
STEP_KLINES_MAX: Final = 1_000  # 19 years of weeks


class TradeHistory:
    """Reads stored trades forward."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store

    async def from_id(
        self, exchange: str, symbol: str, first_id: int, limit: int
    ) -> Sequence[StoredTrade]:
        """Return trades from an id on, the id included.

        In the order of time and id, so that whoever goes on from the last id of an answer skips
        and repeats nothing but that one.

        Raises:
            StoreUnavailableError: The table cannot be read.
        """
        wanted = str(first_id)
        from_ms, to_ms = await self._around(exchange, symbol, first_id)
        found = await self._store.trade_by_id(
            exchange, symbol, wanted, from_ms - MINUTE_MS, to_ms + MINUTE_MS
        )
        if found is not None:
            start, min_id = TradeStart(found.time_us, found.id), ""
        else:
            start, min_id = TradeStart(from_ms * 1_000), wanted
        return await self._store.trades_from(
            exchange, symbol, start, to_ms=None, min_id=min_id, limit=limit
        )

    async def from_time(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int | None, limit: int
    ) -> Sequence[StoredTrade]:
        """Return trades of ``[from_ms, to_ms)``; raises as `from_id`."""
        start = TradeStart(from_ms * 1_000)
        return await self._store.trades_from(
            exchange, symbol, start, to_ms=to_ms, min_id="", limit=limit
        )

    async def _around(self, exchange: str, symbol: str, trade_id: int) -> tuple[int, int]:
        """Return a time, in milliseconds, in which the trade with an id or the next one lies.

        It begins behind the last candle whose ids all are below; it ends where the candle with the
        id ends, or late, if none has it yet.
        """
        from_ms, to_ms = 0, _END_MS
        for period in STEPS:
            stored = await self._store.klines(
                exchange,
                symbol,
                period,
                from_ms=from_ms,
                to_ms=to_ms,
                limit=STEP_KLINES_MAX,
                newest_first=False,
            )
            holder = next((each for each in stored if _reaches(each, trade_id)), None)
            if holder is not None:
                to_ms = holder.close_time + 1
                below = [each for each in stored if each.open_time < holder.open_time]
            else:
                below = list(stored)
            if below:
                from_ms = below[-1].close_time + 1
            elif holder is not None and period == BASE_PERIOD:
                from_ms = holder.open_time
        return from_ms, to_ms


def _reaches(kline: Kline, trade_id: int) -> bool:
    return kline.last_trade_id is not None and int(kline.last_trade_id) >= trade_id


_END_MS: Final = 253_402_300_800_000 - 10 * PERIOD_MS["1w"]  # well within what the table can hold
