"""Prices over any span: from candles where they fit, from trades at the ends. SHELL."""

import asyncio
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import msgspec

from market_ingestor.api import schema
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.errors import bad_parameter, no_data
from market_ingestor.api.memory import Memory
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.proof import SpanProof, traded
from market_ingestor.api.span import (
    LEVELS,
    Range,
    Total,
    parse_span_us,
    rest_of,
    whole_minutes,
    windows_in,
)
from market_ingestor.api.tail import overlay
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model import decimals
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import TradeSum

KLINES_MAX: Final = 20_000  # of one level and span; a year of hours, should no day be configured

Kind: TypeAlias = Literal["highest", "lowest", "average"]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Times ``(after_us, to_us]``, and what the caller called their length."""

    text: str
    after_us: int
    to_us: int


class PriceQueries:
    """Answers what the prices of a symbol were, on one exchange or over those of the mode."""

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
        self._proof = SpanProof(store, memory, catalog, now_us=now_us)

    def span(self, text: str) -> Span:
        """Return the span of a length that ends now.

        Raises:
            ApiProblemError: The text names no length.
        """
        to_us = self._now_us() // 1_000 * 1_000
        return Span(text=text, after_us=max(to_us - parse_span_us(text), 0), to_us=to_us)

    def known(self, exchange: str, symbol: str) -> str | None:
        """Return the price of the newest trade if memory knows one; names as a caller means."""
        trade = self._memory.prices.get(self._catalog.meant(exchange), symbol)
        return None if trade is None else trade.price

    async def latest(self, symbol: str, exchange: str | None, period: str | None) -> schema.Price:
        """Return the price of the trade with the greatest (time, id).

        Args:
            period: How old it may be, None for any age.

        Raises:
            ApiProblemError: The symbol is not known, or has no trade.
            StoreUnavailableError: Memory knows none, and the table cannot be read.
        """
        span = None if period is None else self.span(period)
        exchanges, symbol = await self._catalog.instruments(exchange, symbol)
        await asyncio.gather(*(self._recall(each, symbol) for each in exchanges))
        newest = max(
            (
                (trade, each)
                for each in exchanges
                if (trade := self._memory.prices.get(each, symbol)) is not None
            ),
            default=None,
        )
        if newest is None or (span is not None and newest[0].time_us <= span.after_us):
            raise no_data(f"no trade of {symbol}" + (f" in {period}" if period else " yet"))
        trade, found_on = newest
        total = None if span is None else await self._total_over(exchanges, symbol, span)
        return schema.Price(
            symbol=symbol,
            exchange=found_on,
            price=trade.price,
            time=trade.time_us // 1_000,
            period=period,
            from_=None if span is None else span.after_us // 1_000,
            to=None if span is None else span.to_us // 1_000,
            trade_count=None if total is None else total.trade_count,
            complete=None if total is None else total.is_complete,
            simulated=is_simulated(found_on),
        )

    async def over(
        self, kind: Kind, symbol: str, exchange: str | None, period: str
    ) -> schema.Price:
        """Return the highest, lowest or volume-weighted average price of a span.

        Raises:
            ApiProblemError: The symbol is not known, or was not traded then.
            StoreUnavailableError: The tables cannot be read.
        """
        span = self.span(period)
        exchanges, symbol = await self._catalog.instruments(exchange, symbol)
        totals = await self._totals(exchanges, symbol, span)
        total = _sum(totals)
        if total.low is None or total.high is None:
            raise no_data(f"no trade of {symbol} in {period}")
        if kind == "average":
            found_on = _only(exchanges, totals)
            price = await self._average(exchanges, symbol, span, total)
        else:
            wanted = total.high if kind == "highest" else total.low
            attribute = "high" if kind == "highest" else "low"
            pairs = zip(exchanges, totals, strict=True)
            found_on = next(name for name, each in pairs if getattr(each, attribute) == wanted)
            price = decimals.canonical(wanted)
        return schema.Price(
            symbol=symbol,
            exchange=found_on,
            price=price,
            time=span.to_us // 1_000,
            period=span.text,
            from_=span.after_us // 1_000,
            to=span.to_us // 1_000,
            trade_count=total.trade_count,
            complete=total.is_complete,
            simulated=is_simulated(exchanges[0]),
        )

    async def aggregate(
        self, symbol: str, exchange: str | None, period: str
    ) -> schema.PriceAggregate:
        """Return average, lowest and highest price of a span together; raises as `over`."""
        span = self.span(period)
        exchanges, symbol = await self._catalog.instruments(exchange, symbol)
        totals = await self._totals(exchanges, symbol, span)
        total = _sum(totals)
        if total.low is None or total.high is None:
            raise no_data(f"no trade of {symbol} in {period}")
        price = await self._average(exchanges, symbol, span, total)
        return schema.PriceAggregate(
            symbol=symbol,
            exchange=_only(exchanges, totals),
            price=price,
            average_price=price,
            min_price=decimals.canonical(total.low),
            max_price=decimals.canonical(total.high),
            volume=decimals.canonical(total.volume),
            trade_count=total.trade_count,
            time=span.to_us // 1_000,
            period=span.text,
            from_=span.after_us // 1_000,
            to=span.to_us // 1_000,
            complete=total.is_complete,
            simulated=is_simulated(exchanges[0]),
        )

    async def _average(
        self, exchanges: Sequence[str], symbol: str, span: Span, total: Total
    ) -> str:
        """Return the average by volume; without volume the plain mean, which only trades know."""
        if total.volume:
            price = decimals.average(total.quote_volume, total.volume)
        else:
            sums = [
                await self._trades(each, symbol, [(span.after_us, span.to_us)])
                for each in exchanges
            ]
            count = sum(each.trade_count for each in sums)
            price = decimals.average(
                sum((each.price_sum for each in sums), decimals.ZERO), Decimal(count)
            )
        if price is None:  # candles outlive trades where retention says so
            raise no_data(f"no volume of {symbol} in {span.text}")
        return price

    async def _total_over(self, exchanges: Sequence[str], symbol: str, span: Span) -> Total:
        return _sum(await self._totals(exchanges, symbol, span))

    async def _totals(self, exchanges: Sequence[str], symbol: str, span: Span) -> list[Total]:
        return [await self._total(each, symbol, span) for each in exchanges]

    async def _total(self, exchange: str, symbol: str, span: Span) -> Total:
        """Sum up one exchange's trades in a span."""
        minutes = whole_minutes(span.after_us, span.to_us)
        # Proved before it is read: what comes meanwhile is counted and spoils no proof.
        is_whole = await self._proof.is_whole(exchange, symbol, span.after_us, span.to_us)
        klines = await self._candles(exchange, symbol, minutes)
        # Where the newest candles end trades go on: the next is not closed yet.
        closed_to = max((each.close_time + 1 for each in klines), default=minutes.start)
        closed_to = min(closed_to, minutes.end)
        ends = [(span.after_us, span.to_us)]
        if closed_to > minutes.start:
            before, behind = minutes.start * 1_000 - 1, closed_to * 1_000 - 1
            ends = [(span.after_us, before), (behind, span.to_us)]
        total = Total(is_complete=is_whole)
        for each in klines:
            total.add(Total.of(each))
        found = await self._trades(exchange, symbol, ends)
        total.add(
            Total(
                trade_count=found.trade_count,
                volume=found.volume,
                quote_volume=found.quote_volume,
                low=found.low,
                high=found.high,
            )
        )
        return total

    async def _trades(
        self, exchange: str, symbol: str, ranges: Sequence[tuple[int, int]]
    ) -> TradeSum:
        return await traded(self._store, self._memory, exchange, symbol, ranges)

    async def _candles(self, exchange: str, symbol: str, minutes: Range) -> list[Kline]:
        """Return closed candles of a range, without overlap, the longest that fit.

        What they leave had no trades, up to where the newest of them ends.
        """
        left = [minutes] if minutes.end > minutes.start else []
        taken: list[Kline] = []
        for period in LEVELS:
            wanted = [inner for each in left if (inner := windows_in(each, period))[0] < inner[1]]
            if not wanted:
                continue
            stored = await self._store.range_klines(exchange, symbol, period, wanted, KLINES_MAX)
            if len(stored) >= KLINES_MAX:
                raise bad_parameter("period", "too long for the candles that are kept")
            key = (exchange, symbol, period)
            newer = [k for each in wanted for k in self._memory.tail.klines(key, *each)]
            found = list(overlay(stored, newer).values())
            taken += found
            left = rest_of(left, found)
        return taken

    async def _recall(self, exchange: str, symbol: str) -> None:
        """Make memory know an instrument's newest trade, if there is any."""
        if self._memory.prices.get(exchange, symbol) is not None:
            return
        await self._memory.recall(exchange, symbol)
        try:
            stored = await self._store.latest_trade(exchange, symbol)
        except StoreUnavailableError:
            if self._memory.prices.get(exchange, symbol) is None:
                raise
            return
        if stored is not None:
            self._memory.prices.put(exchange, symbol, stored.time_us, stored.id, stored.price)


def _sum(totals: Sequence[Total]) -> Total:
    total = Total()
    for each in totals:
        total.add(each)
    return total


def _only(exchanges: Sequence[str], totals: Sequence[Total]) -> str | None:
    """Return the one exchange all trades were on, None when they were on several."""
    found = [name for name, each in zip(exchanges, totals, strict=True) if each.trade_count]
    return found[0] if len(found) == 1 else None
