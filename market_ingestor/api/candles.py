"""Answers for candles: lists of them, and one with all there is to know. SHELL.

The table overlaid with memory. While the database is away memory alone answers for the newest
candles, as far back as it has every one of them.
"""

import asyncio
from typing import Final

import msgspec

from market_ingestor.api import schema
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.cursors import KlineCursor, kline_cursor
from market_ingestor.api.errors import no_data
from market_ingestor.api.flat import filled
from market_ingestor.api.memory import Memory
from market_ingestor.api.params import TIME_MS_MAX
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.schema import Pagination
from market_ingestor.api.tail import Key, overlay
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS, open_time
from market_ingestor.model.stored import TradeKey

FROM_MEMORY: Final = "the database cannot answer now: these are the newest candles, from memory"


class KlineQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which candles are wanted.

    Attributes:
        from_ms: First opening time, None: the newest candles.
        is_descending: Order of the answer.
        cursor: Goes on with an earlier answer.
        with_open: Also candles that are still open.
        fill: A flat candle for every window without trades between candles.
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
    fill: bool


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A page of candles: its key, the range it lies in, and from which end it counts."""

    key: Key
    from_ms: int
    to_ms: int
    limit: int
    newest_first: bool
    with_open: bool


class KlineQueries:
    """Answers from committed candles, overlaid with what the bus brought since.

    Args:
        store_wait_s: A list that has not come from the table by then comes from memory.
    """

    def __init__(
        self, store: ReadStore, memory: Memory, catalog: Catalog, *, store_wait_s: float
    ) -> None:
        self._store = store
        self._memory = memory
        self._catalog = catalog
        self._store_wait_s = store_wait_s

    async def klines(self, query: KlineQuery) -> tuple[schema.KlineList, str | None]:
        """Return candles in their newest versions, and a word on them where one is due.

        Raises:
            ApiProblemError: The instrument is not known.
            StoreUnavailableError: The table cannot be read, and memory has not what is asked.
            TimeoutError: The table is too slow, likewise.
        """
        wanted = self._wanted(query)
        note = None
        try:
            async with asyncio.timeout(self._store_wait_s):
                read = self._filled if query.fill else self._page
                windows, goes_on = await read(wanted)
        except (StoreUnavailableError, TimeoutError):
            found = None if query.fill else self._remembered(wanted)
            if found is None:
                raise
            (windows, goes_on), note = found, FROM_MEMORY
        if not windows:
            await self._catalog.require(wanted.key[0], wanted.key[1])
        cursor = None
        if goes_on is not None:
            cursor = kline_cursor(goes_on, newest_first=wanted.newest_first)
        page = sorted(windows, key=lambda each: each.open_time, reverse=query.is_descending)
        return schema.KlineList(data=page, pagination=Pagination(next_cursor=cursor)), note

    def _wanted(self, query: KlineQuery) -> _Wanted:
        newest_first = query.is_descending or query.from_ms is None
        from_ms = query.from_ms or 0
        to_ms = TIME_MS_MAX if query.to_ms is None else query.to_ms
        if query.cursor is not None:
            newest_first = query.cursor.newest_first
            if newest_first:
                to_ms = min(to_ms, query.cursor.open_time)
            else:
                from_ms = max(from_ms, query.cursor.open_time + 1)
        exchange = self._catalog.meant(query.exchange)
        symbol = self._catalog.meant_symbol(exchange, query.symbol)
        return _Wanted(
            key=(exchange, symbol, query.period),
            from_ms=from_ms,
            to_ms=to_ms,
            limit=query.limit,
            newest_first=newest_first,
            with_open=query.with_open,
        )

    async def _page(self, wanted: _Wanted) -> tuple[list[Kline], int | None]:
        """Return a page of candles, and the opening time it ended with if it may go on."""
        # The table first: what was committed and forgotten by memory in between is in neither
        # the other way round.
        stored = await self._store.klines(
            *wanted.key,
            from_ms=wanted.from_ms,
            to_ms=wanted.to_ms,
            limit=wanted.limit,
            newest_first=wanted.newest_first,
        )
        merged = overlay(stored, self._in_memory(wanted))
        windows = sorted(merged, reverse=wanted.newest_first)[: wanted.limit]
        goes_on = windows[-1] if len(windows) == wanted.limit else None
        return [merged[opened] for opened in windows], goes_on

    def _in_memory(self, wanted: _Wanted) -> list[Kline]:
        span = (wanted.key, wanted.from_ms, wanted.to_ms)
        newer = self._memory.open_klines(*span) if wanted.with_open else []
        return newer + self._memory.tail.klines(*span)

    def _remembered(self, wanted: _Wanted) -> tuple[list[Kline], int | None] | None:
        """Return a page as far as memory has every candle of it, None where it has not."""
        span = (wanted.key, 0, TIME_MS_MAX)
        known = overlay(self._memory.open_klines(*span), self._memory.tail.klines(*span))
        length = PERIOD_MS[wanted.key[2]]
        windows = sorted(known, reverse=True)
        # A late version of an old candle may be here without those between.
        last = next((n for n, each in enumerate(windows) if each - length not in known), None)
        if last is None:
            return None
        since = windows[last]
        if not wanted.newest_first and wanted.from_ms < since:
            return None
        inside = [
            each
            for each in windows[: last + 1]
            if wanted.from_ms <= each < wanted.to_ms and (wanted.with_open or known[each].closed)
        ]
        if not inside:
            return None
        if not wanted.newest_first:
            inside.reverse()
        page = inside[: wanted.limit]
        is_all = len(page) == len(inside) and (not wanted.newest_first or wanted.from_ms >= since)
        return [known[each] for each in page], None if is_all else page[-1]

    async def _first(self, wanted: _Wanted, *, newest_first: bool) -> Kline | None:
        """Return the candle of a range that comes first, counted from either end."""
        one = msgspec.structs.replace(wanted, limit=1, newest_first=newest_first)
        found, _ = await self._page(one)
        return found[0] if found else None

    async def _filled(self, wanted: _Wanted) -> tuple[list[Kline], int | None]:
        """Return a page as `_page` does, without holes between the candles there are."""
        period = wanted.key[2]
        length = PERIOD_MS[period]
        replace = msgspec.structs.replace
        newest = await self._first(replace(wanted, from_ms=0, to_ms=TIME_MS_MAX), newest_first=True)
        if newest is None or wanted.from_ms >= wanted.to_ms:
            return [], None
        start = open_time(wanted.from_ms + length - 1, period)
        end = min(open_time(wanted.to_ms - 1, period), newest.open_time) + length
        before = await self._first(replace(wanted, from_ms=0, to_ms=start), newest_first=True)
        if before is None:
            oldest = await self._first(
                replace(wanted, from_ms=start, to_ms=end), newest_first=False
            )
            start = end if oldest is None else oldest.open_time
        goes_on = None
        if end - start > wanted.limit * length:
            if wanted.newest_first:
                start = goes_on = end - wanted.limit * length
            else:
                end = start + wanted.limit * length
                goes_on = end - length
            before = await self._first(replace(wanted, from_ms=0, to_ms=start), newest_first=True)
        if start >= end:
            return [], None
        klines, _ = await self._page(replace(wanted, from_ms=start, to_ms=end, newest_first=False))
        behind = await self._first(
            replace(wanted, from_ms=end, to_ms=TIME_MS_MAX), newest_first=False
        )
        return filled(klines, before, behind, start, end), goes_on

    async def one(
        self,
        exchange: str,
        spelling: str,
        period: str,
        opened: int,
        trades: tuple[TradeKey | None, int] | None,
    ) -> schema.KlineDetail:
        """Return one candle, its versions, and the trades behind it.

        Args:
            trades: Where a list of all its trades begins and how many, None for no list.

        Raises:
            ApiProblemError: The instrument is not known, or has no such candle.
            StoreUnavailableError: The table cannot be read.
        """
        (exchange,), symbol = await self._catalog.instruments(exchange, spelling)
        key = (exchange, symbol, period)
        versions = list(await self._store.kline_revisions(*key, opened))
        newest = versions[-1].revision if versions else 0
        span = (key, opened, opened + 1)
        versions += [each for each in self._memory.tail.klines(*span) if each.revision > newest]
        shown = versions[-1:] or self._memory.open_klines(*span)
        if not shown:  # its versions may have been dropped before it
            shown = list(
                await self._store.klines(
                    *key, from_ms=opened, to_ms=opened + 1, limit=1, newest_first=False
                )
            )
        if not shown:
            raise no_data(f"no candle {period} of {symbol} on {exchange} opens at {opened}")
        (kline,) = shown
        decided = await self._store.deciding_trades(kline)
        listed = None
        if trades is not None:
            listed = await self._trades_of(kline, *trades)
        return schema.KlineDetail(
            kline=kline,
            revisions=versions,
            deciding={
                name: schema.trade_item(decided[name]) if name in decided else None
                for name in ("open", "high", "low", "close")
            },
            trades=listed,
        )

    async def _trades_of(
        self, kline: Kline, before: TradeKey | None, limit: int
    ) -> schema.TradeList:
        found = await self._store.trades(
            kline.symbol,
            [kline.exchange],
            from_ms=kline.open_time,
            to_ms=kline.close_time + 1,
            before=before,
            limit=limit,
        )
        return schema.trade_list(found, limit)
