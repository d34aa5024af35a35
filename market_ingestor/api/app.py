"""REST over HTTP: routes, errors and what stands before them. SHELL."""

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
from starlette.types import Scope

from market_ingestor.access import AccessPolicy
from market_ingestor.api import schema
from market_ingestor.api.control_door import ControlDoor
from market_ingestor.api.endpoints import Endpoint
from market_ingestor.api.errors import UNAUTHORIZED, UNAVAILABLE, ApiProblemError
from market_ingestor.api.guard import Guard, allow_time
from market_ingestor.api.lanes import Lanes
from market_ingestor.api.openapi import JSON
from market_ingestor.api.table import ALL_ENDPOINTS
from market_ingestor.errors import StoreUnavailableError

_log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 2  # the database is asked again that soon

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
FailureShape: TypeAlias = Callable[[ApiProblemError], Response]


class ApiOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose.

    Attributes:
        host: Address to bind.
        port: 0 lets the system choose.
        request_timeout_s: A request that takes longer is answered with 504.
        rate_limit_rps: Requests a second of one address, with bursts of twice that; 0: any.
        access: Who may ask.
        addresses: Where else this service is, by name, for ``/api/v1/info``.
        exchanges: Those configured, which are known before anything is heard of them.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    request_timeout_s: float = 5.0
    rate_limit_rps: float = 0.0
    access: AccessPolicy = AccessPolicy()
    addresses: Mapping[str, str] = {}
    exchanges: frozenset[str] = frozenset()


def failure_response(problem: ApiProblemError) -> Response:
    """Return an error in the shape of our own API."""
    body = schema.failure(problem.code, str(problem), problem.members)
    return Response(body, problem.status, failure_headers(problem), JSON)


def failure_headers(problem: ApiProblemError) -> dict[str, str]:
    """Return the headers of a failure, whatever the shape of its body."""
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == UNAUTHORIZED:
        # HTTP demands it with this one; by the second kind browsers ask their people.
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="market-ingestor", charset="UTF-8"'
    return headers


class _Failures:
    """Answers failures in the shape their path has.

    Args:
        shapes: By beginning of the path; the others have our own.
    """

    def __init__(self, shapes: Mapping[str, FailureShape]) -> None:
        self._shapes = shapes

    def answer(self, scope: Scope, problem: ApiProblemError) -> Response:
        path: str = scope["path"]
        for beginning, shape in self._shapes.items():
            if path.startswith(beginning):
                return shape(problem)
        return failure_response(problem)

    async def on_problem(self, request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ApiProblemError)  # noqa: S101 - registered for that class
        return self.answer(request.scope, problem)

    async def on_http_error(self, request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)  # noqa: S101 - registered for that class
        code = _HTTP_CODES.get(problem.status_code, "bad_request")
        ours = ApiProblemError(
            problem.status_code, code, problem.detail, headers=problem.headers or {}
        )
        return self.answer(request.scope, ours)

    async def on_store_away(self, request: Request, problem: Exception) -> Response:
        _log.info("database_away", error=str(problem))
        ours = ApiProblemError(
            UNAVAILABLE,
            "database_unavailable",
            "the database cannot answer now",
            retry_after_s=RETRY_AFTER_S,
        )
        return self.answer(request.scope, ours)


_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def _routes(handlers: Sequence[object], door: ControlDoor) -> list[Route]:
    """Return one route per path, so that a wrong method is told every right one."""
    by_path: dict[str, dict[str, tuple[Endpoint, Handler]]] = {}
    for each in ALL_ENDPOINTS:
        (handler,) = [getattr(one, each.handler) for one in handlers if hasattr(one, each.handler)]
        by_path.setdefault(each.path, {})[each.method] = (each, handler)
    lanes = Lanes()
    return [_route(path, methods, lanes, door) for path, methods in by_path.items()]


def _route(
    path: str, methods: Mapping[str, tuple[Endpoint, Handler]], lanes: Lanes, door: ControlDoor
) -> Route:
    async def endpoint(request: Request) -> Response:
        asked = "GET" if request.method == "HEAD" else request.method
        described, handler = methods[asked]
        request.scope["known_parameters"] = described.parameters
        if described.method != "GET":
            door.check(request.client.host if request.client else "", request.headers)
        if described.timeout_s is not None:
            allow_time(request.scope, described.timeout_s)
        async with lanes.enter(described.weight):
            return await handler(request)

    return Route(path, endpoint, methods=list(methods))


def make_app(
    options: ApiOptions,
    handlers: Sequence[object],
    more_routes: Sequence[BaseRoute] = (),
    failure_shapes: Mapping[str, FailureShape] | None = None,
) -> Starlette:
    """Return the application.

    Args:
        handlers: Objects whose methods `ALL_ENDPOINTS` names; each name is found on one of them.
        more_routes: Answered as they are: health, metrics, the dashboard.
        failure_shapes: How failures look under paths that begin so; ours elsewhere.
    """
    failures = _Failures(failure_shapes or {})
    middleware = []
    if options.access.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(options.access.origins),
                allow_methods=["GET", "POST", "PUT", "DELETE"],
                allow_headers=["Authorization", "Content-Type"],
                expose_headers=["X-Next-Cursor", "Retry-After"],
            )
        )
    middleware.append(
        Middleware(
            Guard,
            access=options.access,
            timeout_s=options.request_timeout_s,
            rate_limit_rps=options.rate_limit_rps,
            refuse=failures.answer,
        )
    )
    app = Starlette(
        routes=[*_routes(handlers, ControlDoor(options.access, {options.host})), *more_routes],
        middleware=middleware,
        exception_handlers={
            HTTPException: failures.on_http_error,
            ApiProblemError: failures.on_problem,
            StoreUnavailableError: failures.on_store_away,
        },
    )
    # A path with a slash too many is no path of ours: 404 in its shape, not a redirect.
    app.router.redirect_slashes = False
    return app
