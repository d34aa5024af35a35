"""What stands before every request: tokens, rates, time. SHELL.

Answers in time or not at all: a request that takes too long is ended with 504, an error of ours
with 500 and a line in the log.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from market_ingestor.access import AccessPolicy, client_address, is_token, presented_token
from market_ingestor.api.body import BODY_BYTES_MAX
from market_ingestor.api.errors import (
    BAD_REQUEST,
    INTERNAL,
    TIMED_OUT,
    TOO_LARGE,
    TOO_MANY,
    UNAUTHORIZED,
    ApiProblemError,
)

_log = structlog.get_logger(__name__)

ADDRESSES_MAX: Final = 10_000  # remembered for the rate limit; then all begin afresh
URL_BYTES_MAX: Final = 8 * 1024  # path and query; the longest of ours are cursors of some hundred
LENGTH_DIGITS_MAX: Final = 9  # of a Content-Length; more are too many bytes anyhow
BURST_S: Final = 2.0  # of the rate may be used at once


_TIME: Final = "market_ingestor.time"  # of the request, in its scope


def allow_time(scope: Scope, timeout_s: float) -> None:
    """Let this request take longer than others, counted from now."""
    timeout: asyncio.Timeout | None = scope.get(_TIME)
    if timeout is not None:
        timeout.reschedule(asyncio.get_running_loop().time() + timeout_s)


class RateLimit:
    """Requests a second of each address. Pure but for its name for time: pass ``now`` in.

    Args:
        rps: Sustained; 0 allows any.
    """

    def __init__(self, rps: float) -> None:
        self._rps = rps
        self._full = max(rps * BURST_S, 1.0)
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, address: str, now: float) -> float:
        """Count a request; return how long to wait before it would be allowed, 0 when it is."""
        if not self._rps:
            return 0.0
        if len(self._left) >= ADDRESSES_MAX and address not in self._left:
            self._left.clear()
        left, at = self._left.get(address, (self._full, now))
        left = min(left + (now - at) * self._rps, self._full)
        if left < 1.0:
            self._left[address] = (left, now)
            return (1.0 - left) / self._rps
        self._left[address] = (left - 1.0, now)
        return 0.0


class Guard:
    """ASGI middleware; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: AccessPolicy,
        timeout_s: float,
        rate_limit_rps: float,
        refuse: Callable[[Scope, ApiProblemError], Response],
    ) -> None:
        self._app = app
        self._access = access
        self._timeout_s = timeout_s
        self._rates = RateLimit(rate_limit_rps)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            await send(message)  # waits, if at all, before it writes
            has_begun = True

        try:
            self._check(Request(scope))
            async with asyncio.timeout(self._timeout_s) as scope[_TIME]:
                await self._app(scope, receive, watched)
        except ApiProblemError as problem:
            await self._refuse(scope, problem)(scope, receive, send)
        except TimeoutError:
            if not has_begun:
                late = ApiProblemError(TIMED_OUT, "timeout", "the answer took too long")
                await self._refuse(scope, late)(scope, receive, send)
        except Exception:  # noqa: BLE001 - the last line: nothing may reach the server's own 500
            _log.exception("request_failed", path=scope["path"])
            if not has_begun:
                ours = ApiProblemError(INTERNAL, "internal", "something went wrong here")
                await self._refuse(scope, ours)(scope, receive, send)

    def _check(self, request: Request) -> None:
        """Raise `ApiProblemError` unless the caller may ask now."""
        path: str = request.scope["path"]
        _check_size(request)
        if path == "/health" or path.startswith("/health/"):
            return
        tokens = self._access.tokens
        if tokens:
            token = presented_token(request.headers)
            if token is None or not is_token(token, (*tokens, *self._access.control_tokens)):
                raise ApiProblemError(UNAUTHORIZED, "unauthorized", "a valid token is needed")
        peer = request.client.host if request.client else ""
        forwarded = request.headers.get("x-forwarded-for")
        address = client_address(peer, forwarded, self._access.trusted_proxies)
        wait_s = self._rates.wait_s(address, time.monotonic())
        if wait_s:
            raise ApiProblemError(
                TOO_MANY, "rate_limited", "too many requests", retry_after_s=math.ceil(wait_s)
            )


def _check_size(request: Request) -> None:
    """Raise `ApiProblemError` for a URL or a body that is too large for anything here."""
    if len(request.scope["raw_path"]) + len(request.scope["query_string"]) > URL_BYTES_MAX:
        raise ApiProblemError(BAD_REQUEST, "url_too_long", f"at most {URL_BYTES_MAX} bytes")
    length = request.headers.get("content-length", "0")
    if len(length) > LENGTH_DIGITS_MAX or (length.isdigit() and int(length) > BODY_BYTES_MAX):
        raise ApiProblemError(TOO_LARGE, "too_large", f"at most {BODY_BYTES_MAX} bytes")
