"""Rows of the tables as values, for whoever reads them. Pure."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from market_ingestor.model.trade import Side


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
    """A row of ``market_symbols``; what the venue lists is None until it was told."""

    exchange: str
    symbol: str
    trade_count: int
    first_trade_at: datetime | None
    last_trade_at: datetime | None
    volume_kind: str | None
    venue_symbol: str | None = None
    base: str | None = None
    quote: str | None = None
    price_step: str | None = None
    amount_step: str | None = None
    state: str = "active"


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


class TradeSum(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Trades summed up; ``low`` and ``high`` and the two ids are None without any."""

    trade_count: int
    first_id: int | None
    last_id: int | None
    volume: Decimal
    quote_volume: Decimal
    low: Decimal | None
    high: Decimal | None
    price_sum: Decimal


class MinuteMark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """As much of a 1m candle as tells whether anything is missing."""

    open_time: int
    complete: bool
    is_repaired: bool
    first_id: str | None
    last_id: str | None


class GapSpan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a hole is, Unix milliseconds, both ends inclusive; and whether it was filled."""

    from_ms: int
    to_ms: int
    is_filled: bool


class TradeKey(NamedTuple):
    """Place of a trade in the order newest first: by time, then id, then exchange."""

    time_us: int
    id: str
    exchange: str


class TradeStart(NamedTuple):
    """Where to begin in the order oldest first: by time, then id; an empty id is before all."""

    time_us: int
    id: str = ""


class GapKey(NamedTuple):
    """Place of a gap in the order newest first: by detection, then by its key."""

    detected_at: datetime
    exchange: str
    symbol: str
    after_id: str
    before_id: str
