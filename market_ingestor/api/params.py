"""Reads and checks the parameters of requests, cursors included. Pure.

Strict: a parameter nobody knows is an error, so that a misspelt ``form=`` is noticed instead of
answered with everything.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

import msgspec

from market_ingestor.api.errors import bad_parameter
from market_ingestor.model.exchange import is_exchange_name, is_symbol_name
from market_ingestor.model.period import PERIOD_MS

LIMIT_DEFAULT: Final = 500
LIMIT_MAX: Final = 5_000
TEXT_CHARS_MAX: Final = 512  # of any parameter; the longest are cursors
TIME_MS_MAX: Final = 253_402_300_800_000  # the year 10000, where RFC 3339 ends

_SEPARATORS: Final = re.compile(r"[-_/]")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")
_OFFSET: Final = re.compile(r" ([0-9]{2}:?[0-9]{2})$")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})

CURSOR_SEPARATOR: Final = "~"  # in no name, number or id; needs no escape in a URL

CursorT = TypeVar("CursorT")


class CursorKind(msgspec.Struct, Generic[CursorT], frozen=True, kw_only=True):
    """How the places of one list are written: whatever fits ``pattern`` can be read."""

    pattern: str
    read: Callable[[Sequence[str]], CursorT]


class Params:
    """The query parameters of one request.

    Args:
        given: Names and values as they came.
        known: Names this endpoint has.
    """

    def __init__(self, given: Iterable[tuple[str, str]], known: frozenset[str]) -> None:
        self._given: dict[str, str] = {}
        for name, value in given:
            if name not in known:
                raise bad_parameter(name[:64], "no such parameter here")
            if len(value) > TEXT_CHARS_MAX:
                raise bad_parameter(name, "too long")
            if name in self._given:
                raise bad_parameter(name, "given twice")
            self._given[name] = value

    def text(self, name: str) -> str | None:
        """Return a parameter; an empty one counts as absent."""
        return self._given.get(name) or None

    def choice(self, name: str, choices: frozenset[str], default: str) -> str:
        """Return one of a few words."""
        value = self.text(name) or default
        if value not in choices:
            raise bad_parameter(name, "one of " + ", ".join(sorted(choices)))
        return value

    def flag(self, name: str) -> bool:
        """Return a yes or no, no when absent."""
        value = self.text(name) or "false"
        if value not in _TRUE | _FALSE:
            raise bad_parameter(name, "true or false")
        return value in _TRUE

    def limit(self) -> int:
        """Return how many items are wanted, 1 to `LIMIT_MAX`."""
        value = self.text("limit")
        if value is None:
            return LIMIT_DEFAULT
        if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= LIMIT_MAX:
            raise bad_parameter("limit", f"a number from 1 to {LIMIT_MAX}")
        return int(value)

    def time_ms(self, name: str) -> int | None:
        """Return a time in Unix milliseconds; a fraction of one counts as the next."""
        value = self.text(name)
        return None if value is None else parse_time_ms(name, value)

    def exchange(self) -> str | None:
        """Return the name of an exchange."""
        value = self.text("exchange")
        return None if value is None else exchange_name(value)

    def period(self) -> str:
        """Return a candle period; ``interval`` is another name for it. ``1m`` when absent."""
        value = self.text("period") or self.text("interval") or "1m"
        if value not in PERIOD_MS:
            raise bad_parameter("period", "one of " + " ".join(PERIOD_MS))
        return value

    def cursor(self, kind: CursorKind[CursorT]) -> CursorT | None:
        """Return a cursor of ours, as the page before gave it."""
        value = self.text("cursor")
        return None if value is None else decode_cursor("cursor", value, kind)


def exchange_name(text: str) -> str:
    """Return the name of an exchange.

    Raises:
        ApiProblemError: It is not one.
    """
    if not is_exchange_name(text):
        raise bad_parameter("exchange", "not the name of an exchange")
    return text


def symbol_name(text: str) -> str:
    """Return a symbol in our spelling.

    Raises:
        ApiProblemError: It cannot be one.
    """
    symbol = _SEPARATORS.sub("", text).upper()
    if not text.isascii() or not is_symbol_name(symbol):
        raise bad_parameter("symbol", "not a symbol")
    return symbol


def parse_time_ms(name: str, text: str) -> int:
    """Return a time in Unix milliseconds, from such a number or RFC 3339 (UTC without offset).

    Nothing is older than 1970: times before count as its beginning.

    Raises:
        ApiProblemError: It is neither, or after the year 9999.
    """
    problem = bad_parameter(name, "Unix milliseconds or RFC 3339")
    if _MILLISECONDS.fullmatch(text):
        time_ms = int(text)
    elif _DATE.fullmatch(text):
        try:
            # A plus in a query that was not escaped arrives as a blank.
            moment = datetime.fromisoformat(_OFFSET.sub(r"+\1", text))
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            time_ms = -((EPOCH - moment) // timedelta(milliseconds=1))
        except (ValueError, OverflowError):
            raise problem from None
    else:
        raise problem
    if time_ms >= TIME_MS_MAX:
        raise problem
    return max(time_ms, 0)


def encode_cursor(*parts: object) -> str:
    """Return where a page ended, opaque to clients."""
    return CURSOR_SEPARATOR.join(str(part) for part in parts)


def decode_cursor(name: str, text: str, kind: "CursorKind[CursorT]") -> CursorT:
    """Return the place `encode_cursor` was given.

    Raises:
        ApiProblemError: It is not a cursor of this list.
    """
    if re.fullmatch(kind.pattern, text, re.ASCII) is None:
        raise bad_parameter(name, "not a cursor of this list")
    return kind.read(text.split(CURSOR_SEPARATOR))
