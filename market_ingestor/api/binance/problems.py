"""What Binance answers when it refuses, for each reason there is to refuse. Pure.

Numbers and texts: https://github.com/binance/binance-spot-api-docs, errors.md.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from market_ingestor.api.errors import ApiProblemError


class BinanceFailure(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every failure here."""

    code: int
    msg: str


class BinanceProblemError(ApiProblemError):
    """A request was refused as Binance would refuse it.

    Attributes:
        number: Binance's code, negative.
    """

    def __init__(self, number: int, message: str, *, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status, "binance", message)
        self.number = number


_UNKNOWN: Final = (-1000, "An unknown error occurred while processing the request.")
_BY_STATUS: Final[dict[int, tuple[int, str]]] = {
    HTTPStatus.UNAUTHORIZED: (-2015, "Invalid API-key, IP, or permissions for action."),
    HTTPStatus.FORBIDDEN: (-1002, "You are not authorized to execute this request."),
    HTTPStatus.NOT_FOUND: (-1020, "This operation is not supported."),
    HTTPStatus.METHOD_NOT_ALLOWED: (-1020, "This operation is not supported."),
    HTTPStatus.TOO_MANY_REQUESTS: (-1003, "Too many requests queued."),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        -1001, "Internal error; unable to process your request. Please try again.",
    ),
    HTTPStatus.GATEWAY_TIMEOUT: (-1007, "Timeout waiting for response from backend server."),
}  # fmt: skip


def failure(problem: ApiProblemError) -> tuple[int, BinanceFailure]:
    """Return status and body of a failure, ours or Binance's own."""
    if isinstance(problem, BinanceProblemError):
        return problem.status, BinanceFailure(code=problem.number, msg=str(problem))
    if problem.code == "unknown_symbol":
        return failure(bad_symbol())
    if problem.status == HTTPStatus.BAD_REQUEST:
        return problem.status, BinanceFailure(code=-1100, msg=str(problem))
    number, text = _BY_STATUS.get(problem.status, _UNKNOWN)
    return problem.status, BinanceFailure(code=number, msg=text)


def illegal(name: str, legal: str) -> BinanceProblemError:
    """Return the refusal of a value that is not written as it must be."""
    return BinanceProblemError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def invalid(name: str) -> BinanceProblemError:
    """Return the refusal of a value that is written well and makes no sense."""
    return BinanceProblemError(-1130, f"Data sent for parameter '{name}' is not valid.")


def missing(name: str) -> BinanceProblemError:
    """Return the refusal of a request that lacks a parameter."""
    return BinanceProblemError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def bad_symbol() -> BinanceProblemError:
    """Return the refusal of a symbol that is not recorded."""
    return BinanceProblemError(-1121, "Invalid symbol.")


def unknown_exchange() -> BinanceProblemError:
    """Return the refusal of a path under an exchange of which nothing is recorded."""
    return BinanceProblemError(
        -1020, "This operation is not supported.", status=HTTPStatus.NOT_FOUND
    )
