"""What the API asks of the database, without knowing which one it is. Pure.

`storage` reads it; `runtime` hands it over. Every call may be slow, and raises
`StoreUnavailableError` while the database cannot answer.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import (
    GapKey,
    GapSpan,
    MinuteMark,
    StoredGap,
    StoredSymbol,
    StoredTrade,
    TradeKey,
    TradeStart,
    TradeSum,
)
from market_ingestor.model.trade import TextTrade


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

    async def trades_from(
        self,
        exchange: str,
        symbol: str,
        start: TradeStart,
        *,
        to_ms: int | None,
        min_id: str,
        limit: int,
    ) -> Sequence[StoredTrade]:
        """Return trades oldest first, from ``start`` on, with ids not below ``min_id``."""

    async def trade_by_id(
        self, exchange: str, symbol: str, trade_id: str, from_ms: int, to_ms: int
    ) -> StoredTrade | None:
        """Return the trade with an id among those of ``[from_ms, to_ms)``."""

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

    async def kline_revisions(
        self, exchange: str, symbol: str, period: str, open_time: int
    ) -> Sequence[Kline]:
        """Return every stored version of one candle, first to last."""

    async def deciding_trades(self, kline: Kline) -> Mapping[str, StoredTrade]:
        """Return the stored trades that decide ``open``, ``high``, ``low`` and ``close``."""

    async def range_klines(
        self,
        exchange: str,
        symbol: str,
        period: str,
        ranges: Sequence[tuple[int, int]],
        limit: int,
    ) -> Sequence[Kline]:
        """Return candles that open in any of some half-open ranges of Unix milliseconds."""

    async def range_trades(
        self,
        exchange: str,
        symbol: str,
        ranges: Sequence[tuple[int, int]],
        held: Sequence[TextTrade],
    ) -> TradeSum:
        """Sum up trades with ``start < time <= end``, microseconds, and the unsaved of ``held``."""

    async def minute_marks(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[MinuteMark]:
        """Return what tells of 1m candles whether anything is missing, oldest first."""

    async def complete_windows(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[tuple[str, int]]:
        """Return period and opening time of complete longer candles that may touch a range."""

    async def gap_spans(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[GapSpan]:
        """Return where holes touch a range, the earliest first."""
