"""What the endpoints answer, from the table and from memory. SHELL.

One method per endpoint; the web framework stays outside.
"""

import time
from collections.abc import Callable

import msgspec

from market_ingestor.api import schema
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.completeness import RANGE_MS_MAX, SETTLED_MS, Stretch, stretches
from market_ingestor.api.cursors import gap_cursor
from market_ingestor.api.errors import no_data
from market_ingestor.api.memory import Memory
from market_ingestor.api.params import encode_cursor
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.schema import Pagination
from market_ingestor.api.tail import FEED_SILENCE_US
from market_ingestor.model.event import WHOLE_FEED
from market_ingestor.model.period import DAY_MS, MINUTE_MS
from market_ingestor.model.stats import Stats
from market_ingestor.model.stored import GapKey, MinuteMark, TradeKey


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


class CompletenessQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which stretches are wanted; without times those of the last day."""

    exchange: str
    symbol: str
    from_ms: int | None
    to_ms: int | None
    cursor: int | None
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
        return schema.trade_list(found, query.limit)

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
            cursor = gap_cursor(
                GapKey(last.detected_at, last.exchange, last.symbol, last.after_id, last.before_id)
            )
        return schema.GapList(
            data=[schema.gap_item(each) for each in found],
            pagination=Pagination(next_cursor=cursor),
        )

    async def completeness(self, query: CompletenessQuery) -> schema.CompletenessList:
        """Return which stretches of an instrument's recording are whole, oldest first.

        Minutes that are not settled yet are left away; what lies behind seven days is for the
        next page.

        Raises:
            ApiProblemError: The instrument is not known.
            StoreUnavailableError: The table cannot be read.
        """
        settled = (self._now_us() // 1_000 - SETTLED_MS) // MINUTE_MS * MINUTE_MS
        to_ms = settled
        if query.to_ms is not None:
            to_ms = min(-(-query.to_ms // MINUTE_MS) * MINUTE_MS, settled)
        from_ms = max(to_ms - DAY_MS, 0) if query.from_ms is None else query.from_ms
        start = max(from_ms // MINUTE_MS * MINUTE_MS, query.cursor or 0)
        end = min(to_ms, start + RANGE_MS_MAX)
        (exchange,), symbol = await self._catalog.instruments(query.exchange, query.symbol)
        found: list[Stretch] = []
        if start < end:
            found = await self._stretches(exchange, symbol, start, end)
        goes_on = found[query.limit].start if len(found) > query.limit else end
        cursor = encode_cursor(goes_on) if goes_on < to_ms else None
        return schema.CompletenessList(
            exchange=exchange,
            symbol=symbol,
            data=[
                schema.CompletenessItem(from_=each.start, to=each.end, state=each.state)
                for each in found[: query.limit]
            ],
            pagination=Pagination(next_cursor=cursor),
        )

    async def _stretches(self, exchange: str, symbol: str, start: int, end: int) -> list[Stretch]:
        where = (exchange, symbol, start, end)
        stored = await self._store.minute_marks(*where)
        windows = await self._store.complete_windows(*where)
        gaps = await self._store.gap_spans(*where)
        marks = {each.open_time: each for each in stored}
        for each in self._memory.tail.klines((exchange, symbol, "1m"), start, end):
            marks[each.open_time] = MinuteMark(
                open_time=each.open_time,
                complete=each.complete,
                is_repaired=each.reason == "repair",
                first_id=each.first_trade_id,
                last_id=each.last_trade_id,
            )
        return stretches(start, end, [marks[opened] for opened in sorted(marks)], windows, gaps)

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
