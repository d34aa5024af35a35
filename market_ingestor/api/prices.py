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
    SPAN_DEFAULT,
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

COUNT_S_MAX: Final = 0.5  # for what only goes with the latest price
KLINES_MAX: Final = 20_000  # of one level and span; a year of hours, should no day be configured

Kind: TypeAlias = Literal["highest", "lowest", "average"]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Times ``(after_us, to_us]``, and what the caller called their length."""

    text: str
    after_us: int
    to_us: int


class Newest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest trade of a symbol, and where it was."""

    exchange: str
    price: str
    time_us: int


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

    async def newest(self, symbol: str, exchange: str | None) -> Newest:
        """Return the trade with the greatest (time, id), however old.

        Raises:
            ApiProblemError: The symbol is not known, or has no trade.
            StoreUnavailableError: Memory knows none, and the table cannot be read.
        """
        exchanges, symbol = await self._catalog.instruments(exchange, symbol)
        return await self._newest(exchanges, symbol)

    async def _newest(self, exchanges: Sequence[str], symbol: str) -> Newest:
        await asyncio.gather(*(self._recall(each, symbol) for each in exchanges))
        newest = max(
            (
                (trade, each)
                for each in exchanges
                if (trade := self._memory.prices.get(each, symbol)) is not None
            ),
            default=None,
        )
        if newest is None:
            raise no_data(f"no trade of {symbol} yet")
        trade, found_on = newest
        return Newest(exchange=found_on, price=trade.price, time_us=trade.time_us)

    async def latest(self, symbol: str, exchange: str | None, period: str | None) -> schema.Price:
        """Return the price of the trade with the greatest (time, id), and what goes with it.

        Args:
            period: How old it may be; None for any age, and a minute is what is counted.

        Raises:
            ApiProblemError: The symbol is not known, or has no trade.
            StoreUnavailableError: Memory knows none, and the table cannot be read; or a period
                was asked for and cannot be counted.
        """
        span = self.span(period or SPAN_DEFAULT)
        exchanges, symbol = await self._catalog.instruments(exchange, symbol)
        newest = await self._newest(exchanges, symbol)
        if period is not None and newest.time_us <= span.after_us:
            raise no_data(f"no trade of {symbol} in {period}")
        total = await self._counted(exchanges, symbol, span, is_needed=period is not None)
        return schema.Price(
            symbol=symbol,
            exchange=newest.exchange,
            price=newest.price,
            time=newest.time_us // 1_000,
            period=span.text,
            from_=span.after_us // 1_000,
            to=span.to_us // 1_000,
            trade_count=None if total is None else total.trade_count,
            complete=None if total is None else total.is_complete,
            simulated=is_simulated(newest.exchange),
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

    async def _counted(
        self, exchanges: Sequence[str], symbol: str, span: Span, *, is_needed: bool
    ) -> Total | None:
        """Sum up a span; None, unless it is needed, when the tables do not answer soon.

        The price itself is in memory, and must not wait for them.
        """
        try:
            async with asyncio.timeout(None if is_needed else COUNT_S_MAX):
                return _sum(await self._totals(exchanges, symbol, span))
        except (StoreUnavailableError, TimeoutError):
            if is_needed:
                raise
            return None

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
