"""What the endpoints answer, from the table and from memory. SHELL.

One method per endpoint; the web framework stays outside.
"""

import time
from collections.abc import Callable
from typing import Annotated

import msgspec

from market_ingestor.api import schema
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.errors import no_data
from market_ingestor.api.memory import Memory
from market_ingestor.api.params import TIME_MS_MAX, encode_cursor
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.schema import Pagination
from market_ingestor.api.tail import FEED_SILENCE_US, overlay
from market_ingestor.model.event import WHOLE_FEED
from market_ingestor.model.stats import Stats
from market_ingestor.model.stored import GapKey, TradeKey


class KlineCursor(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Where a page of candles ended, and which way it went."""

    open_time: Annotated[int, msgspec.Meta(ge=0, lt=TIME_MS_MAX)]
    newest_first: bool


class KlineQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which candles are wanted.

    Attributes:
        from_ms: First opening time, None: the newest candles.
        is_descending: Order of the answer.
        cursor: Goes on with an earlier answer.
        with_open: Also candles that are still open.
    """

    exchange: str
    symbol: str
    period: str
    from_ms: int | None
    to_ms: int | None
    limit: int
    is_descending: bool
    cursor: KlineCursor | None
    with_open: bool


class TradeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which trades are wanted; times are Unix milliseconds."""

    symbol: str
    exchange: str | None
    from_ms: int | None
    to_ms: int | None
    before: TradeKey | None
    limit: int


class GapQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which holes are wanted; times are Unix milliseconds."""

    exchange: str | None
    symbol: str | None
    state: str | None
    from_ms: int | None
    to_ms: int | None
    before: GapKey | None
    limit: int


class Queries:
    """Answers from committed data, overlaid with what the bus brought since."""

    def __init__(
        self,
        store: ReadStore,
        memory: Memory,
        catalog: Catalog,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._store = store
        self._memory = memory
        self._catalog = catalog
        self._now_us = now_us

    async def klines(self, query: KlineQuery) -> schema.KlineList:
        """Return candles in their newest versions.

        Raises:
            ApiProblemError: The instrument is not known.
            StoreUnavailableError: The table cannot be read.
        """
        newest_first = query.is_descending or query.from_ms is None
        from_ms, to_ms = query.from_ms or 0, query.to_ms or TIME_MS_MAX
        if query.cursor is not None:
            newest_first = query.cursor.newest_first
            if newest_first:
                to_ms = min(to_ms, query.cursor.open_time)
            else:
                from_ms = max(from_ms, query.cursor.open_time + 1)
        exchange = self._catalog.meant(query.exchange)
        symbol = self._catalog.meant_symbol(exchange, query.symbol)
        key = (exchange, symbol, query.period)
        # The table first: what was committed and forgotten by memory in between is in neither
        # the other way round.
        stored = await self._store.klines(
            *key, from_ms=from_ms, to_ms=to_ms, limit=query.limit, newest_first=newest_first
        )
        newer = self._memory.open.klines(key, from_ms, to_ms) if query.with_open else []
        newer += self._memory.tail.klines(key, from_ms, to_ms)
        merged = overlay(stored, newer)
        if not merged:
            await self._catalog.require(exchange, symbol)
        windows = sorted(merged, reverse=newest_first)[: query.limit]
        cursor = None
        if len(windows) == query.limit:
            cursor = encode_cursor(KlineCursor(open_time=windows[-1], newest_first=newest_first))
        page = [merged[opened] for opened in sorted(windows, reverse=query.is_descending)]
        return schema.KlineList(data=page, pagination=Pagination(next_cursor=cursor))

    async def trades(self, query: TradeQuery) -> schema.TradeList:
        """Return trades, newest first.

        Raises:
            ApiProblemError: The symbol is not known.
            StoreUnavailableError: The table cannot be read.
        """
        exchanges, symbol = await self._catalog.instruments(query.exchange, query.symbol)
        found = await self._store.trades(
            symbol,
            exchanges,
            from_ms=query.from_ms,
            to_ms=query.to_ms,
            before=query.before,
            limit=query.limit,
        )
        cursor = None
        if len(found) == query.limit:
            last = found[-1]
            cursor = encode_cursor(TradeKey(last.time_us, last.id, last.exchange))
        return schema.TradeList(
            data=[schema.trade_item(each) for each in found],
            pagination=Pagination(next_cursor=cursor),
        )

    async def symbols(self) -> schema.SymbolList:
        """Return what is recorded.

        Raises:
            StoreUnavailableError: The table cannot be read.
        """
        now_us = self._now_us()
        return schema.SymbolList(
            available=[
                schema.symbol_item(
                    each,
                    self._memory.feeds.state(each.exchange, each.symbol, now_us, FEED_SILENCE_US),
                )
                for each in await self._catalog.stored()
            ]
        )

    async def gaps(self, query: GapQuery) -> schema.GapList:
        """Return holes, the newest first.

        Raises:
            StoreUnavailableError: The table cannot be read.
        """
        exchange = None if query.exchange is None else self._catalog.meant(query.exchange)
        symbol = query.symbol
        if symbol is not None and symbol != WHOLE_FEED:
            symbol = self._catalog.meant_symbol(exchange or "", symbol)
        found = await self._store.gaps(
            exchange=exchange,
            symbol=symbol,
            state=query.state,
            from_ms=query.from_ms,
            to_ms=query.to_ms,
            before=query.before,
            limit=query.limit,
        )
        cursor = None
        if len(found) == query.limit:
            last = found[-1]
            cursor = encode_cursor(
                GapKey(last.detected_at, last.exchange, last.symbol, last.after_id, last.before_id)
            )
        return schema.GapList(
            data=[schema.gap_item(each) for each in found],
            pagination=Pagination(next_cursor=cursor),
        )

    async def stats(self, exchange: str, symbol: str) -> Stats:
        """Return the rolling statistics as they were last published.

        Raises:
            ApiProblemError: The instrument is not known, or nothing was published since this
                process began.
            StoreUnavailableError: Memory knows nothing of it, and the table cannot be read.
        """
        exchange = self._catalog.meant(exchange)
        symbol = self._catalog.meant_symbol(exchange, symbol)
        found = self._memory.stats.get(exchange, symbol)
        if found is None:
            await self._catalog.require(exchange, symbol)
            raise no_data(f"no statistics of {symbol} on {exchange} yet")
        return found
