"""What the API asks of the database, without knowing which one it is. Pure.

`storage` reads it; `runtime` hands it over. Every call may be slow, and raises
`StoreUnavailableError` while the database cannot answer.
"""

from collections.abc import Sequence
from typing import Protocol

from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import GapKey, StoredGap, StoredSymbol, StoredTrade, TradeKey


class ReadStore(Protocol):
    """Committed data."""

    async def klines(
        self,
        exchange: str,
        symbol: str,
        period: str,
        *,
        from_ms: int,
        to_ms: int,
        limit: int,
        newest_first: bool,
    ) -> Sequence[Kline]:
        """Return the newest version of up to ``limit`` candles that open in the range."""

    async def trades(
        self,
        symbol: str,
        exchanges: Sequence[str],
        *,
        from_ms: int | None,
        to_ms: int | None,
        before: TradeKey | None,
        limit: int,
    ) -> Sequence[StoredTrade]:
        """Return trades newest first: ``from_ms <= time < to_ms``, strictly behind ``before``."""

    async def latest_trade(self, exchange: str, symbol: str) -> StoredTrade | None:
        """Return the trade with the greatest (time, id)."""

    async def symbols(self) -> Sequence[StoredSymbol]:
        """Return every instrument stored, by exchange and symbol."""

    async def gaps(
        self,
        *,
        exchange: str | None,
        symbol: str | None,
        state: str | None,
        from_ms: int | None,
        to_ms: int | None,
        before: GapKey | None,
        limit: int,
    ) -> Sequence[StoredGap]:
        """Return holes newest first, strictly behind ``before``, that touch the time range."""
