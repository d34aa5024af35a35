"""The endpoints of data: parameters in, `Queries` asked, a response out. SHELL."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from market_ingestor import __version__
from market_ingestor.api import cursors, schema
from market_ingestor.api.candles import KlineQueries, KlineQuery
from market_ingestor.api.errors import bad_parameter
from market_ingestor.api.openapi import JSON, document
from market_ingestor.api.params import (
    CURSOR_SEPARATOR,
    TIME_MS_MAX,
    Params,
    decode_cursor,
    exchange_name,
    parse_time_ms,
)
from market_ingestor.api.prices import Kind, PriceQueries
from market_ingestor.api.queries import (
    CompletenessQuery,
    GapQuery,
    Queries,
    TradeQuery,
)
from market_ingestor.api.span import SPAN_DEFAULT
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS

_ORDERS: Final = frozenset({"asc", "desc"})
_FORMATS: Final = frozenset({"json", "csv"})
_STATES: Final = frozenset({"open", "filled", "unfillable"})


class DataHandlers:
    """One method per endpoint: parameters in, `Queries` asked, a response out."""

    def __init__(
        self,
        queries: Queries,
        klines: KlineQueries,
        prices: PriceQueries,
        addresses: Mapping[str, str],
        is_test_mode: Callable[[], bool],
    ) -> None:
        self._queries = queries
        self._klines = klines
        self._prices = prices
        self._addresses = addresses
        self._is_test_mode = is_test_mode

    async def klines(self, request: Request) -> Response:
        params = params_of(request)
        exchange, symbol = _instrument_of(params)
        page, note = await self._klines.klines(
            KlineQuery(
                exchange=exchange,
                symbol=symbol,
                period=params.period(),
                from_ms=params.time_ms("from"),
                to_ms=params.time_ms("to"),
                limit=params.limit(),
                is_descending=params.choice("order", _ORDERS, "asc") == "desc",
                cursor=params.cursor(cursors.KLINES),
                with_open=params.flag("open"),
                fill=params.flag("fill"),
            )
        )
        if params.choice("format", _FORMATS, "json") == "csv":
            return _csv(page)
        return json_response(schema.success(page, note))

    async def kline(self, request: Request) -> Response:
        params = params_of(request)
        named = request.path_params
        period = named["period"]
        if period not in PERIOD_MS:
            raise bad_parameter("period", "one of " + " ".join(PERIOD_MS))
        listed = (params.cursor(cursors.TRADES), params.limit()) if params.flag("trades") else None
        found = await self._klines.one(
            exchange_name(named["exchange"]),
            named["symbol"],
            period,
            parse_time_ms("open_time", named["open_time"]),
            listed,
        )
        return json_response(schema.success(found))

    async def completeness(self, request: Request) -> Response:
        params = params_of(request)
        exchange, symbol = _instrument_of(params)
        page = await self._queries.completeness(
            CompletenessQuery(
                exchange=exchange,
                symbol=symbol,
                from_ms=params.time_ms("from"),
                to_ms=params.time_ms("to"),
                cursor=params.cursor(cursors.STRETCHES),
                limit=params.limit(),
            )
        )
        return json_response(schema.success(page))

    async def trades(self, request: Request) -> Response:
        params = params_of(request)
        before = params.cursor(cursors.TRADES)
        to_ms = params.time_ms("to")
        older_than = params.text("before")
        if older_than is not None and CURSOR_SEPARATOR not in older_than:
            to_ms = min(parse_time_ms("before", older_than), to_ms or TIME_MS_MAX)
        elif older_than is not None:
            before = decode_cursor("before", older_than, cursors.TRADES)
        page = await self._queries.trades(
            TradeQuery(
                symbol=request.path_params["symbol"],
                exchange=params.exchange(),
                from_ms=params.time_ms("from"),
                to_ms=to_ms,
                before=before,
                limit=params.limit(),
            )
        )
        return json_response(schema.success(page))

    async def symbols(self, request: Request) -> Response:
        params_of(request)
        return json_response(schema.success(await self._queries.symbols()))

    async def gaps(self, request: Request) -> Response:
        params = params_of(request)
        state = params.text("state")
        if state is not None and state not in _STATES:
            raise bad_parameter("state", "one of " + ", ".join(sorted(_STATES)))
        page = await self._queries.gaps(
            GapQuery(
                exchange=params.exchange(),
                symbol=params.text("symbol"),
                state=state,
                from_ms=params.time_ms("from"),
                to_ms=params.time_ms("to"),
                before=params.cursor(cursors.GAPS),
                limit=params.limit(),
            )
        )
        return json_response(schema.success(page))

    async def stats(self, request: Request) -> Response:
        params_of(request)
        exchange = exchange_name(request.path_params["exchange"])
        symbol = request.path_params["symbol"]
        return json_response(schema.success(await self._queries.stats(exchange, symbol)))

    async def info(self, request: Request) -> Response:
        params_of(request)
        info = schema.Info(
            name="market-ingestor",
            version=__version__,
            mode="test" if self._is_test_mode() else "live",
            addresses=dict(self._addresses),
        )
        return json_response(schema.success(info))

    async def latest_price(self, request: Request) -> Response:
        symbol, exchange, period = _price_of(request)
        return json_response(schema.encode(await self._prices.latest(symbol, exchange, period)))

    async def highest_price(self, request: Request) -> Response:
        return await self._price(request, "highest")

    async def lowest_price(self, request: Request) -> Response:
        return await self._price(request, "lowest")

    async def average_price(self, request: Request) -> Response:
        return await self._price(request, "average")

    async def aggregate_price(self, request: Request) -> Response:
        symbol, exchange, period = _price_of(request)
        found = await self._prices.aggregate(symbol, exchange, period or SPAN_DEFAULT)
        return json_response(schema.encode(found))

    async def _price(self, request: Request, kind: Kind) -> Response:
        symbol, exchange, period = _price_of(request)
        found = await self._prices.over(kind, symbol, exchange, period or SPAN_DEFAULT)
        return json_response(schema.encode(found))

    async def openapi(self, request: Request) -> Response:
        params_of(request)
        return json_response(msgspec.json.format(schema.encode(document()), indent=2))


def params_of(request: Request) -> Params:
    """Return the parameters of a request, checked against what its route has."""
    return Params(request.query_params.multi_items(), request.scope["known_parameters"])


def _instrument_of(params: Params) -> tuple[str, str]:
    """Return exchange and spelling of the symbol where both must be given."""
    symbol, exchange = params.text("symbol"), params.exchange()
    if symbol is None or exchange is None:
        raise bad_parameter("exchange" if exchange is None else "symbol", "is missing")
    return exchange, symbol


def _price_of(request: Request) -> tuple[str, str | None, str | None]:
    """Return spelling of the symbol, exchange and period of a question for a price."""
    params = params_of(request)
    named = request.path_params.get("exchange")
    exchange = params.exchange() if named is None else exchange_name(named)
    return request.path_params["symbol"], exchange, params.text("period")


def json_response(body: bytes) -> Response:
    """Return a success whose body is JSON already."""
    return Response(body, media_type=JSON)


def _csv(page: schema.KlineList) -> Response:
    """Return candles as a table; where it goes on stands in a header."""
    text = io.StringIO()
    writer = csv.writer(text)
    fields = [field for field in Kline.__struct_fields__ if field != "v"]
    writer.writerow(fields)
    for each in page.data:
        row = [getattr(each, field) for field in fields]
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row])
    cursor = page.pagination.next_cursor
    return Response(
        text.getvalue(),
        media_type="text/csv",
        headers={"X-Next-Cursor": cursor} if cursor else None,
    )
