"""REST over HTTP: routes, parameters, errors, access; and the role ``api``. SHELL."""

import asyncio
import contextlib
import csv
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market_ingestor import __version__
from market_ingestor.access import AccessPolicy
from market_ingestor.api import schema
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.errors import UNAVAILABLE, ApiProblemError, bad_parameter
from market_ingestor.api.guard import Guard
from market_ingestor.api.memory import Memory
from market_ingestor.api.openapi import ENDPOINTS, document
from market_ingestor.api.params import (
    TIME_MS_MAX,
    Params,
    decode_cursor,
    exchange_name,
    parse_time_ms,
    symbol_name,
)
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.queries import GapQuery, KlineCursor, KlineQuery, Queries, TradeQuery
from market_ingestor.bus.jetstream import Bus
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import GapKey, TradeKey
from market_ingestor.runtime.role import Health
from market_ingestor.runtime.web import WebServer, listen

_log = structlog.get_logger(__name__)

JSON: Final = "application/json"
RETRY_AFTER_S: Final = 2  # the database is asked again that soon
WARM_UP_S: Final = 10.0  # to read what memory needs; then requests are answered all the same
TAIL_BYTES: Final = 64 * 1024 * 1024  # of candles kept while the database lags

_ORDERS: Final = frozenset({"asc", "desc"})
_FORMATS: Final = frozenset({"json", "csv"})
_STATES: Final = frozenset({"open", "filled", "unfillable"})

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class ApiOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose.

    Attributes:
        host: Address to bind.
        port: 0 lets the system choose.
        request_timeout_s: A request that takes longer is answered with 504.
        rate_limit_rps: Requests a second of one address, with bursts of twice that; 0: any.
        access: Who may ask.
        addresses: Where else this service is, by name, for ``/api/v1/info``.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    request_timeout_s: float = 5.0
    rate_limit_rps: float = 0.0
    access: AccessPolicy = AccessPolicy()
    addresses: Mapping[str, str] = {}


class _Handlers:
    """One method per endpoint: parameters in, `Queries` asked, a response out."""

    def __init__(
        self, queries: Queries, options: ApiOptions, is_test_mode: Callable[[], bool]
    ) -> None:
        self._queries = queries
        self._options = options
        self._is_test_mode = is_test_mode

    async def klines(self, request: Request) -> Response:
        params = _params(request)
        symbol, exchange = params.symbol(), params.exchange()
        if symbol is None or exchange is None:
            raise bad_parameter("exchange" if exchange is None else "symbol", "is missing")
        page = await self._queries.klines(
            KlineQuery(
                exchange=exchange,
                symbol=symbol,
                period=params.period(),
                from_ms=params.time_ms("from"),
                to_ms=params.time_ms("to"),
                limit=params.limit(),
                is_descending=params.choice("order", _ORDERS, "asc") == "desc",
                cursor=params.cursor(KlineCursor),
                with_open=params.flag("open"),
            )
        )
        if params.choice("format", _FORMATS, "json") == "csv":
            return _csv(page)
        return _json(schema.success(page))

    async def trades(self, request: Request) -> Response:
        params = _params(request)
        before = params.cursor(TradeKey)
        to_ms = params.time_ms("to")
        older_than = params.text("before")
        if older_than is not None and older_than[0].isdigit():
            to_ms = min(parse_time_ms("before", older_than), to_ms or TIME_MS_MAX)
        elif older_than is not None:
            before = decode_cursor("before", older_than, TradeKey)
        page = await self._queries.trades(
            TradeQuery(
                symbol=symbol_name(request.path_params["symbol"]),
                exchange=params.exchange(),
                from_ms=params.time_ms("from"),
                to_ms=to_ms,
                before=before,
                limit=params.limit(),
            )
        )
        return _json(schema.success(page))

    async def symbols(self, request: Request) -> Response:
        _params(request)
        return _json(schema.success(await self._queries.symbols()))

    async def gaps(self, request: Request) -> Response:
        params = _params(request)
        state = params.text("state")
        if state is not None and state not in _STATES:
            raise bad_parameter("state", "one of " + ", ".join(sorted(_STATES)))
        page = await self._queries.gaps(
            GapQuery(
                exchange=params.exchange(),
                symbol=params.symbol(),
                state=state,
                from_ms=params.time_ms("from"),
                to_ms=params.time_ms("to"),
                before=params.cursor(GapKey),
                limit=params.limit(),
            )
        )
        return _json(schema.success(page))

    async def stats(self, request: Request) -> Response:
        _params(request)
        exchange = exchange_name(request.path_params["exchange"])
        symbol = symbol_name(request.path_params["symbol"])
        return _json(schema.success(await self._queries.stats(exchange, symbol)))

    async def info(self, request: Request) -> Response:
        _params(request)
        info = schema.Info(
            name="market-ingestor",
            version=__version__,
            mode="test" if self._is_test_mode() else "live",
            addresses=dict(self._options.addresses),
        )
        return _json(schema.success(info))

    async def latest_price(self, request: Request) -> Response:
        params = _params(request)
        named = request.path_params.get("exchange")
        exchange = params.exchange() if named is None else exchange_name(named)
        symbol = symbol_name(request.path_params["symbol"])
        return _json(schema.encode(await self._queries.latest_price(symbol, exchange)))

    async def openapi(self, request: Request) -> Response:
        _params(request)
        return _json(msgspec.json.format(schema.encode(document()), indent=2))


def _params(request: Request) -> Params:
    """Return the parameters of a request, checked against what its route has."""
    return Params(request.query_params, request.scope["known_parameters"])


def _json(body: bytes) -> Response:
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


def failure_response(problem: ApiProblemError) -> Response:
    """Return an error in the shape all of them have."""
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:  # noqa: PLR2004 - HTTP demands the header with this one
        headers["WWW-Authenticate"] = "Bearer"
    body = schema.failure(problem.code, str(problem))
    return Response(body, status_code=problem.status, media_type=JSON, headers=headers)


_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


async def _on_http_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # noqa: S101 - registered for that class
    code = _HTTP_CODES.get(problem.status_code, "bad_request")
    response = failure_response(ApiProblemError(problem.status_code, code, problem.detail))
    response.headers.update(problem.headers or {})
    return response


async def _on_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiProblemError)  # noqa: S101 - registered for that class
    return failure_response(problem)


async def _on_store_away(_: Request, problem: Exception) -> Response:
    _log.info("database_away", error=str(problem))
    return failure_response(
        ApiProblemError(
            UNAVAILABLE,
            "database_unavailable",
            "the database cannot answer now",
            retry_after_s=RETRY_AFTER_S,
        )
    )


def _route(path: str, handler: Handler, known: frozenset[str]) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope["known_parameters"] = known
        return await handler(request)

    return Route(path, endpoint, methods=["GET"])


def make_app(
    queries: Queries,
    options: ApiOptions,
    is_test_mode: Callable[[], bool],
    more_routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application.

    Args:
        more_routes: Answered as they are: health, metrics, the dashboard.
    """
    handlers = _Handlers(queries, options, is_test_mode)
    routes: list[BaseRoute] = [
        _route(each.path, getattr(handlers, each.handler), each.parameters) for each in ENDPOINTS
    ]
    middleware = []
    if options.access.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(options.access.origins),
                allow_methods=["GET"],
                allow_headers=["Authorization"],
                expose_headers=["X-Next-Cursor", "Retry-After"],
            )
        )
    middleware.append(
        Middleware(
            Guard,
            access=options.access,
            timeout_s=options.request_timeout_s,
            rate_limit_rps=options.rate_limit_rps,
            refuse=failure_response,
        )
    )
    return Starlette(
        routes=[*routes, *more_routes],
        middleware=middleware,
        exception_handlers={
            HTTPException: _on_http_error,
            ApiProblemError: _on_problem,
            StoreUnavailableError: _on_store_away,
        },
    )


class ApiRole:
    """The role ``api``.

    Args:
        bus: A connection of its own.
        store: Committed data.
        options: What an operator may choose.
        is_test_mode: Whether exchanges mean their simulations now.
        is_store_up: Whether the database answered when it was last asked.
        more_routes: Of the process: health and metrics.

    Attributes:
        port: Where it is served, once it runs.
    """

    name = "api"

    def __init__(
        self,
        bus: Bus,
        store: ReadStore,
        options: ApiOptions,
        *,
        is_test_mode: Callable[[], bool] = lambda: False,
        is_store_up: Callable[[], bool] = lambda: False,
        more_routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._bus = bus
        self._is_store_up = is_store_up
        self._options = options
        self._memory = Memory(bus, tail_bytes=TAIL_BYTES)
        catalog = Catalog(store, self._memory, is_test_mode)
        queries = Queries(store, self._memory, catalog)
        self._app = make_app(queries, options, is_test_mode, more_routes)
        self._stopping = asyncio.Event()
        self._server: WebServer | None = None
        self.port = options.port

    def stop(self) -> None:
        """Take no new requests; those under way are answered."""
        self._stopping.set()

    def health(self) -> Health:
        """Return how it is: ready while it can answer from memory or from the database."""
        problems = []
        if not self._bus.is_connected:
            problems.append("nats is not connected")
        if not self._memory.is_warm:
            problems.append("memory is not read yet")
        if self._memory.tail.overflowed:
            problems.append("candles waited for the database too long and are not shown")
        can_answer = self._memory.is_warm or self._is_store_up()
        is_serving = self._server is not None and not self._stopping.is_set()
        return Health(
            is_ready=is_serving and can_answer,
            problems=tuple(problems),
            details={"tail_candles": len(self._memory.tail), "tail_bytes": self._memory.tail.size},
        )

    async def run(self) -> None:
        """Answer requests until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._memory.run())
            try:
                await self._serve()
            finally:
                following.cancel()

    async def _serve(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WARM_UP_S):
                await self._memory.warm()
        listener = listen("api.port", self._options.host, self._options.port)
        server = self._server = WebServer(self._app, listener)
        self.port = server.port
        _log.info("api_serving", host=self._options.host, port=self.port)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.run())
            await self._stopping.wait()
            server.stop()
            await serving
