"""Binance's endpoints: parameters in, our own queries asked, Binance's shapes out. SHELL."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from market_ingestor.api.binance import rows
from market_ingestor.api.binance.days import Days
from market_ingestor.api.binance.params import BinanceParams
from market_ingestor.api.binance.problems import (
    BinanceProblemError,
    bad_symbol,
    failure,
    unknown_exchange,
)
from market_ingestor.api.candles import KlineQueries, KlineQuery
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.errors import ApiProblemError
from market_ingestor.api.filled import FilledKlines, FilledQuery
from market_ingestor.api.handlers import json_response
from market_ingestor.api.history import TradeHistory
from market_ingestor.api.memory import Memory
from market_ingestor.api.openapi import JSON
from market_ingestor.api.prices import PriceQueries
from market_ingestor.api.queries import Queries, TradeQuery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model.exchange import is_exchange_name
from market_ingestor.model.listing import Listing
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS
from market_ingestor.model.stored import StoredTrade

UNPREFIXED: Final = "binance"  # the exchange of paths that name none
AVERAGE_MINUTES: Final = 5  # Binance's own
RECALLED_MAX: Final = 100  # prices of a list that memory lacks and the table is asked for

_TYPES: Final = frozenset({"FULL", "MINI"})
_FLAGS: Final = frozenset({"true", "false"})
_STATUSES: Final = frozenset({"TRADING", "HALT", "BREAK"})
_encoder: Final = msgspec.json.Encoder()


def failure_response(problem: ApiProblemError, headers: dict[str, str]) -> Response:
    """Return a failure in Binance's shape."""
    status, body = failure(problem)
    return Response(_encoder.encode(body), status, headers, JSON)


class BinanceHandlers:
    """One method per endpoint, each for every exchange."""

    def __init__(
        self,
        queries: Queries,
        candles: KlineQueries,
        prices: PriceQueries,
        klines: FilledKlines,
        history: TradeHistory,
        memory: Memory,
        catalog: Catalog,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._queries = queries
        self._candles = candles
        self._prices = prices
        self._klines = klines
        self._history = history
        self._days = Days(candles, memory)
        self._catalog = catalog
        self._now_us = now_us

    async def binance_ping(self, request: Request) -> Response:
        _params(request)
        await self._require_exchange(_exchange(request))
        return _json({})

    async def binance_time(self, request: Request) -> Response:
        params = _params(request)
        await self._require_exchange(_exchange(request))
        return _json(
            rows.ServerTime(server_time=rows.time_in(self._now_us(), is_micro=params.is_micro))
        )

    async def binance_no_markets(self, request: Request) -> Response:
        _params(request)
        await self._require_exchange(_exchange(request))
        return _json(rows.NoMarkets(symbols=[]))

    async def binance_exchange_info(self, request: Request) -> Response:
        params = _params(request)
        exchange = _exchange(request)
        params.choice("showPermissionSets", _FLAGS, "true")
        listings = await self._listings(exchange, params)
        permissions = params.text("permissions")
        if permissions is not None and "SPOT" not in permissions:
            listings = []
        info = rows.ExchangeInfo(
            server_time=rows.time_in(self._now_us(), is_micro=params.is_micro),
            symbols=[rows.symbol_row(each) for each in listings],
        )
        return _json(info)

    async def binance_klines(self, request: Request) -> Response:
        params = _params(request)
        exchange, spelling, period = _exchange(request), params.symbol(), params.period()
        params.require_utc(period)
        start, end = params.time_range()
        if start is not None and end is not None and start > end:
            await self._catalog.instruments(exchange, spelling)
            return _json([])
        query = FilledQuery(
            exchange=exchange,
            symbol=spelling,
            period=period,
            from_ms=start,
            to_ms=None if end is None else end + 1,
            limit=params.limit(),
        )
        found = await self._klines.klines(query)
        return _json([rows.kline_row(each, is_micro=params.is_micro) for each in found])

    async def binance_trades(self, request: Request) -> Response:
        params = _params(request)
        found = await self._newest(_exchange(request), params.symbol(), None, params.limit())
        return _json([rows.trade_row(each, is_micro=params.is_micro) for each in found])

    async def binance_historical_trades(self, request: Request) -> Response:
        params = _params(request)
        exchange, spelling, first = _exchange(request), params.symbol(), params.from_id()
        found: Sequence[StoredTrade]
        if first is None:
            found = await self._newest(exchange, spelling, None, params.limit())
        else:
            found = await self._from_id(exchange, spelling, first, params.limit())
        return _json([rows.trade_row(each, is_micro=params.is_micro) for each in found])

    async def binance_aggregate_trades(self, request: Request) -> Response:
        params = _params(request)
        exchange, spelling, limit = _exchange(request), params.symbol(), params.limit()
        first, (start, end) = params.from_id(), params.time_range()
        to_ms = None if end is None else end + 1
        found: Sequence[StoredTrade]
        if first is not None and (start is not None or end is not None):
            raise BinanceProblemError(-1128, "Combination of optional parameters invalid.")
        if first is not None:
            found = await self._from_id(exchange, spelling, first, limit)
        elif start is not None:
            (meant,), symbol = await self._catalog.instruments(exchange, spelling)
            found = await self._history.from_time(meant, symbol, start, to_ms, limit)
        else:
            found = await self._newest(exchange, spelling, to_ms, limit)
        return _json([rows.aggregate_row(each, is_micro=params.is_micro) for each in found])

    async def binance_ticker_price(self, request: Request) -> Response:
        params = _params(request)
        exchange = _exchange(request)
        listings = await self._listings(exchange, params)
        asked = await self._last_prices(exchange, [each.symbol for each in listings])
        found = [
            rows.PriceRow(symbol=each.symbol, price=price)
            for each, price in zip(listings, asked, strict=True)
            if price is not None
        ]
        if params.is_list():
            return _json(found)
        if not found:
            raise bad_symbol()
        return _json(found[0])

    async def binance_ticker_day(self, request: Request) -> Response:
        params = _params(request)
        exchange = _exchange(request)
        kind = params.text("type") or "FULL"
        if kind not in _TYPES:
            raise BinanceProblemError(-1139, "Invalid ticker type.")
        listings = await self._listings(exchange, params)
        symbols = [each.symbol for each in listings]
        now_us = self._now_us()
        days = await self._days.of(self._catalog.meant(exchange), symbols, now_us)
        quiet = [
            symbol
            for symbol, day in zip(symbols, days, strict=True)
            if day is None or day.last is None
        ]
        last = dict(zip(quiet, await self._last_prices(exchange, quiet), strict=True))
        shaped = rows.ticker if kind == "FULL" else rows.short_ticker
        found = [
            shaped(symbol, rows.with_last(day, last.get(symbol)), now_us, is_micro=params.is_micro)
            for symbol, day in zip(symbols, days, strict=True)
        ]
        return _json(found if params.is_list() else found[0])

    async def binance_average_price(self, request: Request) -> Response:
        params = _params(request)
        exchange, spelling = _exchange(request), params.symbol()
        (meant,), symbol = await self._catalog.instruments(exchange, spelling)
        page, _ = await self._candles.klines(
            KlineQuery(
                exchange=meant,
                symbol=symbol,
                period=BASE_PERIOD,
                from_ms=self._now_us() // 1_000 - AVERAGE_MINUTES * MINUTE_MS,
                to_ms=None,
                limit=AVERAGE_MINUTES + 1,
                is_descending=False,
                cursor=None,
                with_open=True,
                fill=False,
            )
        )
        day = rows.day_of(page.data)
        newest = await self._prices.newest(symbol, meant)
        price = rows.weighted(day) or newest.price
        return _json(
            rows.AverageRow(
                mins=AVERAGE_MINUTES,
                price=price,
                close_time=rows.time_in(newest.time_us, is_micro=params.is_micro),
            )
        )

    # -- what several endpoints need

    async def _require_exchange(self, exchange: str) -> None:
        """Refuse an exchange of which nothing is recorded, as far as that can be known now."""
        with contextlib.suppress(StoreUnavailableError):
            if await self._catalog.has_exchange(self._catalog.meant(exchange)):
                return
            raise unknown_exchange()

    async def _listings(self, exchange: str, params: BinanceParams) -> list[Listing]:
        """Return the instruments a request names, all of the exchange where it names none."""
        status = params.text("symbolStatus")
        if status is not None and status not in _STATUSES:
            raise BinanceProblemError(-1122, "Invalid symbolStatus.")
        spellings = params.symbols()
        if spellings is None:
            found = await self._catalog.listings(self._catalog.meant(exchange))
            if not found:
                await self._require_exchange(exchange)
        else:
            found = []
            for each in spellings:
                (meant,), symbol = await self._catalog.instruments(exchange, each)
                found.append(await self._catalog.listing(meant, symbol))
        if status is None:
            return found
        return [each for each in found if (each.state == "active") == (status == "TRADING")]

    async def _last_prices(self, exchange: str, symbols: Sequence[str]) -> list[str | None]:
        """Return the newest price of each symbol, None of one that was never traded."""
        found = [self._prices.known(exchange, each) for each in symbols]
        for at in [at for at, price in enumerate(found) if price is None][:RECALLED_MAX]:
            with contextlib.suppress(ApiProblemError):  # it has no trade yet
                found[at] = (await self._prices.newest(symbols[at], exchange)).price
        return found

    async def _newest(
        self, exchange: str, spelling: str, to_ms: int | None, limit: int
    ) -> list[StoredTrade]:
        """Return the newest trades before a time, ascending."""
        page = await self._queries.trades(
            TradeQuery(
                symbol=spelling,
                exchange=exchange,
                from_ms=None,
                to_ms=to_ms,
                before=None,
                limit=limit,
            )
        )
        return [
            StoredTrade(
                exchange=each.exchange,
                symbol=each.symbol,
                id=each.id,
                price=each.price,
                amount=each.amount,
                side=each.side,
                time_us=each.time_us,
            )
            for each in reversed(page.data)
        ]

    async def _from_id(
        self, exchange: str, spelling: str, first: int, limit: int
    ) -> Sequence[StoredTrade]:
        (meant,), symbol = await self._catalog.instruments(exchange, spelling)
        return await self._history.from_id(meant, symbol, first, limit)


def _params(request: Request) -> BinanceParams:
    return BinanceParams(
        request.query_params.multi_items(),
        request.scope["known_parameters"] - {"timeUnit"},
        request.headers.get("X-MBX-TIME-UNIT"),
    )


def _exchange(request: Request) -> str:
    name: str = request.path_params.get("exchange", UNPREFIXED)
    if not is_exchange_name(name):
        raise unknown_exchange()
    return name


def _json(body: Any) -> Response:
    return json_response(_encoder.encode(body))
