"""Who may change something: the rules of requests that are not mere reads. Pure.

A web page can make its visitor's browser send requests to this machine. So a change must be called
JSON, which no page may send elsewhere unasked, and come from no page or one of ours.
"""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers

from market_ingestor.access import (
    AccessPolicy,
    is_loopback,
    is_own_host,
    is_same_origin,
    is_token,
    presented_token,
)
from market_ingestor.api.errors import BAD_REQUEST, FORBIDDEN, UNAUTHORIZED, ApiProblemError

JSON: Final = "application/json"
FORWARDED: Final = ("x-forwarded-for", "forwarded", "x-real-ip")  # what proxies say of callers
_ONCE: Final = ("host", "origin", "content-type", "authorization", "x-mbx-apikey")


class ControlDoor:
    """Checks requests that change something.

    Args:
        hosts: Names, beside addresses, by which callers of this machine may call it.
    """

    def __init__(self, access: AccessPolicy, hosts: Collection[str] = ()) -> None:
        self._access = access
        self._tokens = access.control_tokens or access.tokens
        self._hosts = hosts

    def check(self, peer: str, headers: Headers) -> None:
        """Raise `ApiProblemError` unless the caller may change something.

        Args:
            peer: The other end of the connection, whatever the headers say.
        """
        for name in _ONCE:
            if len(headers.getlist(name)) > 1:
                raise ApiProblemError(BAD_REQUEST, "bad_header", f"{name} is there twice")
        if self._tokens:
            self._check_token(headers)
        else:
            self._check_place(peer, headers)
        if not is_same_origin(headers.get("origin"), headers.get("host"), self._access.origins):
            raise _forbidden("pages of other origins may not change anything")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            # No page may send this header elsewhere unasked, so without it we cannot know who asks.
            raise ApiProblemError(
                FORBIDDEN, "bad_content_type", f"send the header Content-Type: {JSON}"
            )

    def _check_token(self, headers: Headers) -> None:
        token = presented_token(headers)
        if token is not None and is_token(token, self._tokens):
            return
        if token is not None and is_token(token, self._access.tokens):
            raise _forbidden("this token is for reading only")
        raise ApiProblemError(UNAUTHORIZED, "unauthorized", "a valid control token is needed")

    def _check_place(self, peer: str, headers: Headers) -> None:
        """Without tokens, only who sits at this machine may change something."""
        if not is_loopback(peer):
            raise _forbidden("without a token only callers of this machine may change anything")
        if any(name in headers for name in FORWARDED):
            raise _forbidden("through a proxy a token is needed to change anything")
        if not is_own_host(headers.get("host"), self._hosts):
            raise _forbidden("the Host header does not name this machine")


def _forbidden(message: str) -> ApiProblemError:
    return ApiProblemError(FORBIDDEN, "forbidden", message)
