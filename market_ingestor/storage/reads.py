"""What the API asks of the database. SHELL: plain functions over a `Database`, no state.

Owns the paging: a page of trades goes on behind the last row of the one before by (time, length of
id, id), so it skips and repeats nothing of what was there, however many rows come in meanwhile.

Every function raises `StoreUnavailableError` when the database cannot answer now.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import Side
from market_ingestor.storage.candle_store import kline_of
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.rows import GapState
from market_ingestor.storage.times import FAR_FUTURE, FAR_PAST, at, at_ms, microseconds
from market_ingestor.storage.timescale import Database, Record

Order = Literal["asc", "desc"]

_ID_BEHIND_ALL: Final = ("", 99)  # an id text and a length no id reaches: the page starts anywhere


class StoredKline(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A candle and when this version of it was stored."""

    kline: Kline
    updated_at: datetime


class StoredTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trade as stored; numbers digit for digit as the venue sent them."""

    exchange: str
    symbol: str
    id: str
    price: str
    amount: str
    side: Side | None
    time_us: int
    received_us: int


class DecidingTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trade that decides at least one of a candle's prices."""

    trade: StoredTrade
    is_open: bool
    is_high: bool
    is_low: bool
    is_close: bool


class TradeCursor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last trade of a page; the next page begins behind it."""

    time_us: int
    trade_id: str
    exchange: str


class TradeAggregate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Trades of a range summed up; sums and prices are None without trades."""

    trade_count: int
    volume: str | None
    quote_volume: str | None
    low: str | None
    high: str | None


class StoredGap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A hole in the trades. ``after_id`` and ``before_id`` are empty when unknown."""

    exchange: str
    symbol: str
    detected_at: datetime
    after_id: str
    before_id: str
    from_time: datetime | None
    to_time: datetime | None
    missing: int | None
    state: GapState
    filled_at: datetime | None


class StoredSymbol(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An instrument and what is stored of it; counts are some seconds old."""

    exchange: str
    symbol: str
    venue_symbol: str | None
    base: str | None
    quote: str | None
    price_step: str | None
    amount_step: str | None
    volume_kind: str | None
    trade_count: int
    first_trade_at: datetime | None
    last_trade_at: datetime | None
    state: str
    updated_at: datetime


async def klines(
    database: Database,
    exchange: str,
    symbol: str,
    period: str,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int,
    order: Order = "asc",
) -> list[StoredKline]:
    """Return at most ``limit`` candles that open in ``[from_ms, to_ms)``, newest versions.

    Without ``from_ms`` the newest ones of the range are chosen, with it the oldest, or with
    order ``desc`` the newest; the result is in ``order``.
    """
    newest = from_ms is None or order == "desc"
    rows = await database.fetch(
        QUERIES["window_klines_newest" if newest else "window_klines"],
        exchange,
        symbol,
        period,
        FAR_PAST if from_ms is None else at_ms(from_ms),
        FAR_FUTURE if to_ms is None else at_ms(to_ms),
        limit,
    )
    found = [StoredKline(kline=kline_of(row), updated_at=row["updated_at"]) for row in rows]
    return found if newest == (order == "desc") else found[::-1]


async def kline_revisions(
    database: Database, exchange: str, symbol: str, period: str, open_time: int
) -> list[StoredKline]:
    """Return every stored version of one candle, first to last."""
    rows = await database.fetch(
        QUERIES["kline_revisions"], exchange, symbol, period, at_ms(open_time)
    )
    return [StoredKline(kline=kline_of(row), updated_at=row["updated_at"]) for row in rows]


async def deciding_trades(
    database: Database, exchange: str, symbol: str, from_ms: int, to_ms: int
) -> list[DecidingTrade]:
    """Return the trades that decide open, high, low and close of ``[from_ms, to_ms)``."""
    rows = await database.fetch(
        QUERIES["deciding_trades"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
    )
    return [
        DecidingTrade(
            trade=_trade(row),
            is_open=row["is_open"],
            is_high=row["is_high"],
            is_low=row["is_low"],
            is_close=row["is_close"],
        )
        for row in rows
    ]


async def trades(
    database: Database,
    symbol: str,
    *,
    exchanges: Sequence[str],
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int,
    after: TradeCursor | None = None,
) -> list[StoredTrade]:
    """Return at most ``limit`` trades with ``from_ms <= time < to_ms``, newest first.

    Args:
        exchanges: At least one.
        after: The last trade of the page before, None for the first page.
    """
    low = FAR_PAST if from_ms is None else at_ms(from_ms)
    high = FAR_FUTURE if to_ms is None else at_ms(to_ms)
    if after is None:
        time, trade_id, length, last_exchange = high, *_ID_BEHIND_ALL, ""
    else:
        time, trade_id, length = at(after.time_us), after.trade_id, len(after.trade_id)
        last_exchange = after.exchange
    if len(exchanges) == 1:
        rows = await database.fetch(
            QUERIES["trades_page"],
            exchanges[0], symbol, low, high, time, length, trade_id, limit,
        )  # fmt: skip
    else:
        rows = await database.fetch(
            QUERIES["trades_page_any"],
            list(exchanges), symbol, low, high, time, length, trade_id, limit, last_exchange,
        )  # fmt: skip
    return [_trade(row) for row in rows]


async def latest_trade(
    database: Database, symbol: str, *, exchanges: Sequence[str]
) -> StoredTrade | None:
    """Return the trade with the greatest (time, id), None when there is none."""
    found = await trades(database, symbol, exchanges=exchanges, limit=1)
    return found[0] if found else None


async def trade_aggregate(
    database: Database, exchange: str, symbol: str, after_us: int, to_us: int
) -> TradeAggregate:
    """Sum up the trades with ``after_us < time <= to_us``."""
    (row,) = await database.fetch(
        QUERIES["trade_aggregate"], exchange, symbol, at(after_us), at(to_us)
    )
    return TradeAggregate(
        trade_count=row["trade_count"],
        volume=row["volume"],
        quote_volume=row["quote_volume"],
        low=row["low"],
        high=row["high"],
    )


async def gaps(
    database: Database,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    state: GapState | None = None,
    limit: int,
) -> list[StoredGap]:
    """Return at most ``limit`` gaps that touch ``[from_ms, to_ms)``, newest first."""
    rows = await database.fetch(
        QUERIES["gaps"],
        exchange,
        symbol,
        FAR_PAST if from_ms is None else at_ms(from_ms),
        FAR_FUTURE if to_ms is None else at_ms(to_ms),
        state,
        limit,
    )
    return [StoredGap(**dict(row)) for row in rows]


async def symbols(database: Database) -> list[StoredSymbol]:
    """Return every instrument ever seen, by exchange and symbol."""
    return [StoredSymbol(**dict(row)) for row in await database.fetch(QUERIES["symbols"])]


def _trade(row: Record) -> StoredTrade:
    return StoredTrade(
        exchange=row["exchange"],
        symbol=row["symbol"],
        id=row["trade_id"],
        price=row["price"],
        amount=row["amount"],
        side=row["side"],
        time_us=microseconds(row["time"]),
        received_us=microseconds(row["received_at"]),
    )
