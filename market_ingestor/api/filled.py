"""Candles with a flat one for every watched window in which nothing was traded. SHELL."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from market_ingestor.api.candles import KlineQueries, KlineQuery
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.memory import Memory
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.quiet import Evidence, Span, filled, is_watched, needs_evidence
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS, open_time

PROOFS: Final = ("1h", "1d", "1w")  # longer candles that tell whether a time was watched
PROOFS_MAX: Final = 1_000  # of each; what lies beyond is not proved


class FilledQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which candles are wanted: those that open in ``[from_ms, to_ms)``.

    Attributes:
        from_ms: None: the newest ones.
        limit: Most of them, flat ones included.
    """

    exchange: str
    symbol: str
    period: str
    from_ms: int | None
    to_ms: int | None
    limit: int


class FilledKlines:
    """Answers candles, open ones included, as a venue itself would."""

    def __init__(
        self,
        candles: KlineQueries,
        store: ReadStore,
        memory: Memory,
        catalog: Catalog,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._candles = candles
        self._store = store
        self._memory = memory
        self._catalog = catalog
        self._now_us = now_us

    async def klines(self, query: FilledQuery) -> list[Kline]:
        """Return candles, ascending.

        Raises:
            ApiProblemError: The instrument is not known.
            StoreUnavailableError: The table cannot be read.
        """
        length = PERIOD_MS[query.period]
        now_ms = self._now_us() // 1_000
        end = open_time(now_ms, query.period) + length
        if query.to_ms is not None and query.to_ms < end:
            # The window of the last moment belongs to the range although it ends behind it.
            end = open_time(max(query.to_ms - 1, 0), query.period) + length
        found = await self._some(query, query.from_ms, query.to_ms, query.limit)
        newest = query.from_ms is None
        start = query.from_ms or 0
        if len(found) == query.limit and newest:
            start = found[0].open_time
        elif len(found) == query.limit:
            end = found[-1].open_time + length
        around = list(found)
        if not newest and start and (not found or found[0].open_time >= start + length):
            around = await self._some(query, None, start, 1) + around
        last = around[-1] if around else None
        if last is not None and last.close_time + 1 < end <= open_time(now_ms, query.period):
            around += await self._some(query, end, None, 1)
        around = [each for each in around if is_watched(each)]
        evidence = await self._evidence(around, end)
        return filled(around, evidence, start=start, end=end, limit=query.limit, newest=newest)

    async def _some(
        self, query: FilledQuery, from_ms: int | None, to_ms: int | None, limit: int
    ) -> list[Kline]:
        page, _ = await self._candles.klines(
            KlineQuery(
                exchange=query.exchange,
                symbol=query.symbol,
                period=query.period,
                from_ms=from_ms,
                to_ms=to_ms,
                limit=limit,
                is_descending=False,
                cursor=None,
                with_open=True,
                fill=False,
            )
        )
        return page.data

    async def _evidence(self, klines: list[Kline], end: int) -> Evidence:
        """Return what is known of the time in which there are no candles."""
        space = needs_evidence(klines, end)
        if space is None:
            return Evidence()
        exchange, symbol = klines[0].exchange, klines[0].symbol
        up_us = self._memory.feeds.up_since(exchange, symbol, self._now_us())
        newest = self._memory.prices.get(exchange, symbol)
        if newest is None:
            await self._memory.recall(exchange, symbol)
            newest = self._memory.prices.get(exchange, symbol)
        return Evidence(
            gaps=await self._store.gap_spans(exchange, symbol, space.start, space.end),
            complete=await self._complete(klines[0], space),
            up=None if up_us is None else Span(up_us // 1_000 + 1, end),
            is_traded_since=newest is not None and newest.time_us // 1_000 > klines[-1].close_time,
        )

    async def _complete(self, model: Kline, space: Span) -> list[Span]:
        """Return the longer candles in a time to which nothing is missing."""
        spans: list[Span] = []
        for period in PROOFS:
            if PERIOD_MS[period] <= PERIOD_MS[model.period]:
                continue
            stored = await self._store.klines(
                model.exchange,
                model.symbol,
                period,
                from_ms=open_time(space.start, period),
                to_ms=space.end,
                limit=PROOFS_MAX,
                newest_first=True,
            )
            spans += [Span(each.open_time, each.close_time + 1) for each in stored if each.complete]
        return spans
