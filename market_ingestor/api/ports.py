"""What the API asks of the database, without knowing which one it is. Pure.

`storage` reads it; `runtime` hands it over. Every call may be slow, and raises
`StoreUnavailableError` while the database cannot answer.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, NamedTuple, Protocol

import msgspec

from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import Side

TIME_US_MAX: Final = 253_402_300_799_999_999  # the end of the year 9999


class StoredTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``market_trades``; numbers are plain decimal text."""

    exchange: str
    symbol: str
    id: str
    price: str
    amount: str
    side: Side | None
    time_us: int


class StoredSymbol(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``market_symbols``."""

    exchange: str
    symbol: str
    trade_count: int
    first_trade_at: datetime | None
    last_trade_at: datetime | None
    volume_kind: str | None


class StoredGap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``market_gaps``; ``from_time`` and ``to_time`` are Unix milliseconds."""

    exchange: str
    symbol: str
    detected_at: datetime
    after_id: str
    before_id: str
    from_time: int | None
    to_time: int | None
    missing: int | None
    state: str
    filled_at: datetime | None


class TradeKey(NamedTuple):
    """Place of a trade in the order newest first: by time, then id, then exchange.

    Comes back from clients in cursors, hence the bounds.
    """

    time_us: Annotated[int, msgspec.Meta(ge=0, le=TIME_US_MAX)]
    id: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}$")]
    exchange: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,24}$")]


class GapKey(NamedTuple):
    """Place of a gap in the order newest first: by detection, then by its key."""

    detected_at: datetime
    exchange: str
    symbol: str
    after_id: str
    before_id: str


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
