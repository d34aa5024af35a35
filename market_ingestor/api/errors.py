"""What a caller is told when a request cannot be answered. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
TOO_LARGE: Final = 413
TOO_MANY: Final = 429
INTERNAL: Final = 500
UNAVAILABLE: Final = 503
TIMED_OUT: Final = 504


class ApiProblemError(Exception):
    """A request was not answered, and why.

    Attributes:
        status: Of HTTP.
        code: One word for programs.
        retry_after_s: When to ask again, None when that would not help.
        headers: More headers of the answer.
        members: Processes that are the reason.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.headers = headers or {}
        self.members = members


def bad_parameter(name: str, problem: str) -> ApiProblemError:
    """Return the error for a parameter that is missing or wrong."""
    return ApiProblemError(BAD_REQUEST, "bad_parameter", f"{name}: {problem}")


def unknown_symbol(symbol: str) -> ApiProblemError:
    """Return the error for a symbol nothing was ever heard of."""
    return ApiProblemError(NOT_FOUND, "unknown_symbol", f"unknown symbol {symbol}")


def no_data(what: str) -> ApiProblemError:
    """Return the error for a known symbol without data to answer from."""
    return ApiProblemError(NOT_FOUND, "no_data", what)
