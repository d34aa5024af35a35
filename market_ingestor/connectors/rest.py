"""A venue's public REST interface: paced, bounded, honouring bans. SHELL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx2

from market_ingestor import __version__
from market_ingestor.connectors.backoff import Turnstile
from market_ingestor.connectors.venue import RestRequest, RestResponse
from market_ingestor.errors import VenueBannedError, VenueError, VenueProtocolError

TIMEOUT_S: Final = 15.0  # for a whole answer; the longest list of instruments takes a few seconds
BODY_BYTES_MAX: Final = 64 * 1024 * 1024  # the longest list of instruments is about 15 MB
# What a request, and reading its answer, may fail with: whoever asks waits and asks again.
REST_FAILURES: Final = (VenueError, httpx2.HTTPError, OSError)  # time-outs are the last
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class RestClient:
    """Makes GET requests to one exchange, no faster than it allows. An async context manager.

    Args:
        exchange: Named in errors.
        base_url: Configured or the venue's own.
        requests_per_s: Sustained rate.
    """

    def __init__(self, exchange: str, base_url: str, *, requests_per_s: float) -> None:
        self._exchange = exchange
        self._pace = Turnstile(1.0 / requests_per_s)  # no bursts: windows of limits are short
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            timeout=TIMEOUT_S,
            headers={"User-Agent": f"market-ingestor/{__version__}"},
            trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, problem, trace)

    def stay_away(self, seconds: float) -> None:
        """Make no request for so long: the venue told us to."""
        self._pace.close(asyncio.get_running_loop().time() + seconds)

    def pause_s(self, problem: Exception, wait_s: float) -> float:
        """Return for how many seconds to ask for nothing after a failure.

        Args:
            problem: One of `REST_FAILURES`; after a ban nobody asks for anything meanwhile.
            wait_s: At least so long, longer where the venue says so.
        """
        if isinstance(problem, VenueError):
            wait_s = max(wait_s, problem.retry_after_s or 0.0)
        if isinstance(problem, VenueBannedError):
            self.stay_away(wait_s)
        return wait_s

    async def get(self, request: RestRequest) -> RestResponse:
        """Return the answer, whatever its status, after waiting for our turn.

        Raises:
            httpx2.HTTPError: No answer came.
            TimeoutError: It took too long.
            VenueProtocolError: It is longer than any the venue documents.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._pace.wait_s(loop.time()))
        # Another request may have been told to stay away while this one waited.
        while (closed_s := self._pace.closed_s(loop.time())) > 0:  # noqa: ASYNC110 - a time, no event
            await asyncio.sleep(closed_s)
        async with (
            asyncio.timeout(TIMEOUT_S),
            self._answer(request) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise VenueProtocolError(self._exchange, "an answer without end")
            return RestResponse(
                status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=bytes(body),
            )

    @contextlib.asynccontextmanager
    async def _answer(self, request: RestRequest) -> AsyncIterator[httpx2.Response]:
        """Give the answer to a request, its body still to be read."""
        made = self._client.build_request(
            "GET", request.path, params=dict(request.params), headers=dict(request.headers)
        )
        try:
            response = await self._client.send(made, stream=True)
        except AttributeError as lost:
            # The client asks a new connection for its peer. On uvloop one that was reset at once
            # has no socket any more to ask, and neither it nor anyio expects that.
            raise httpx2.ConnectError("reset as soon as it was open", request=made) from lost
        async with contextlib.aclosing(response):
            yield response
