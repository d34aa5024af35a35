"""Reads the JSON body of a request, within limits. SHELL."""

from typing import Final, TypeVar

import msgspec
from starlette.requests import Request

from market_ingestor.api.errors import BAD_REQUEST, TOO_LARGE, ApiProblemError
from market_ingestor.api.openapi import JSON

BODY_BYTES_MAX: Final = 64 * 1024  # far more than anything to be told here takes

BodyT = TypeVar("BodyT")


async def read_body(request: Request, kind: type[BodyT]) -> BodyT:
    """Return the body of a request.

    Raises:
        ApiProblemError: It is too large, not called JSON, or not a ``kind``.
    """
    payload = bytearray()
    async for chunk in request.stream():
        payload += chunk
        if len(payload) > BODY_BYTES_MAX:
            raise ApiProblemError(TOO_LARGE, "too_large", f"at most {BODY_BYTES_MAX} bytes")
    called = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if called != JSON:
        raise ApiProblemError(BAD_REQUEST, "bad_content_type", f"the body must be {JSON}")
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as problem:
        raise ApiProblemError(BAD_REQUEST, "bad_body", str(problem)) from None
