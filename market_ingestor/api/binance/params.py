"""Reads the parameters of requests as Binance does, and refuses what it refuses. Pure."""

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from market_ingestor.api.binance.problems import (
    BinanceProblemError,
    bad_symbol,
    illegal,
    invalid,
    missing,
)
from market_ingestor.api.params import TIME_MS_MAX
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.trade import TRADE_ID_MAX

LIMIT_DEFAULT: Final = 500
LIMIT_MAX: Final = 1_000
SYMBOLS_MAX: Final = 500  # named in one request
TEXT_CHARS_MAX: Final = 4_096  # of any parameter; the longest are lists of symbols
MICROSECONDS_FROM: Final = 10**14  # greater times are microseconds; in milliseconds the year 5138

_DIGITS: Final = "^[0-9]{1,20}$"
_SYMBOL: Final = r"^[\w\-._&&[^a-z]]{1,50}$"
_SYMBOLS: Final = r"^\[(\"[\w\-._&&[^a-z]]{1,50}\"(,\"[\w\-._&&[^a-z]]{1,50}\"){0,}){0,1}\]$"
_ZONE: Final = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-9]{2}))?")
_ZONE_HOURS: Final = (-12, 14)  # Binance's own range
_UNITS: Final = {"MILLISECOND": False, "MICROSECOND": True}
_SPELLING_CHARS_MAX: Final = 64

_symbols: Final = msgspec.json.Decoder(list[str])


class TimeRange(NamedTuple):
    """Milliseconds, both inclusive; None where nothing was said."""

    start: int | None
    end: int | None


class BinanceParams:
    """The parameters of one request.

    Args:
        given: Every name with its value, in the order they came.
        known: Names this endpoint has, besides ``timeUnit``.
        time_unit: The header ``X-MBX-TIME-UNIT``.
    """

    def __init__(
        self,
        given: Sequence[tuple[str, str]],
        known: Collection[str],
        time_unit: str | None = None,
    ) -> None:
        self._given = dict(given)
        if len(self._given) < len(given):
            raise BinanceProblemError(-1101, "Duplicate values for a parameter detected.")
        read = self._given.keys() & {*known, "timeUnit"}
        if len(read) < len(given) and not known:
            raise BinanceProblemError(
                -1101, f"Too many parameters; expected '0' and received '{len(given)}'."
            )
        if len(read) < len(given):
            raise BinanceProblemError(
                -1104,
                f"Not all sent parameters were read; read '{len(read)}' parameter(s) but was sent"
                f" '{len(given)}'.",
            )
        for name, value in given:
            if not value:
                raise BinanceProblemError(-1105, f"Parameter '{name}' was empty.")
            if len(value) > TEXT_CHARS_MAX:
                raise BinanceProblemError(-1108, f"Parameter '{name}' overflowed.")
        unit = self._given.get("timeUnit") or time_unit or "MILLISECOND"
        if unit.upper() not in _UNITS:
            raise BinanceProblemError(
                -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
            )
        self.is_micro = _UNITS[unit.upper()]

    def text(self, name: str) -> str | None:
        """Return a parameter as it came."""
        return self._given.get(name)

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """Return one of a few words."""
        value = self._given.get(name, default)
        if value not in choices:
            raise invalid(name)
        return value

    def symbol(self) -> str:
        """Return the symbol that must be there, in the caller's spelling."""
        value = self._given.get("symbol")
        if value is None:
            raise missing("symbol")
        return checked_symbol(value)

    def symbols(self) -> list[str] | None:
        """Return the spellings in ``symbol`` or ``symbols``; None when neither was sent."""
        one, many = self._given.get("symbol"), self._given.get("symbols")
        if one is not None and many is not None:
            raise BinanceProblemError(-1128, "Combination of optional parameters invalid.")
        if one is not None:
            return [checked_symbol(one)]
        if many is None:
            return None
        try:
            found = _symbols.decode(many)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise illegal("symbols", _SYMBOLS) from None
        if not found or len(found) > SYMBOLS_MAX:
            raise invalid("symbols")
        for each in found:
            checked_symbol(each, name="symbols", legal=_SYMBOLS)
        if len(set(found)) < len(found):
            raise BinanceProblemError(-1151, "Symbol is present multiple times in the list.")
        return found

    def is_list(self) -> bool:
        """Return whether the answer is a list even when it is about one symbol."""
        return "symbol" not in self._given

    def period(self) -> str:
        """Return the candle period that must be there."""
        value = self._given.get("interval")
        if value is None:
            raise missing("interval")
        if value not in PERIOD_MS:
            raise BinanceProblemError(-1120, "Invalid interval.")
        return value

    def limit(self) -> int:
        """Return how many items are wanted; more than there may be is as many as there may be."""
        value = self._number("limit")
        if value == 0:
            raise invalid("limit")
        return LIMIT_DEFAULT if value is None else min(value, LIMIT_MAX)

    def from_id(self) -> int | None:
        """Return the first id wanted."""
        value = self._number("fromId")
        if value is not None and value > TRADE_ID_MAX:
            raise BinanceProblemError(-1108, "Parameter 'fromId' overflowed.")
        return value

    def time_range(self) -> TimeRange:
        """Return ``startTime`` and ``endTime``, each sent in milliseconds or microseconds."""
        start, end = self._number("startTime"), self._number("endTime")
        if start is not None and start >= MICROSECONDS_FROM:
            start = -(-start // 1_000)
        if end is not None and end >= MICROSECONDS_FROM:
            end //= 1_000
        last = TIME_MS_MAX - 1
        return TimeRange(
            None if start is None else min(start, last), None if end is None else min(end, last)
        )

    def require_utc(self, period: str) -> None:
        """Refuse a time zone in which candles of a period would open at other times than ours."""
        value = self._given.get("timeZone")
        if value is None:
            return
        match = _ZONE.fullmatch(value)
        if match is None:
            raise illegal("timeZone", _ZONE.pattern)
        sign, hours, minutes = match[1], int(match[2]), int(match[3] or 0)
        offset = (hours * 60 + minutes) * (-1 if sign == "-" else 1)
        low, high = (each * 60 for each in _ZONE_HOURS)
        if not low <= offset <= high or minutes >= 60:  # noqa: PLR2004 - of an hour
            raise invalid("timeZone")
        if offset * 60_000 % PERIOD_MS[period]:
            raise BinanceProblemError(-1130, "Candles of this interval open in UTC only.")

    def _number(self, name: str) -> int | None:
        value = self._given.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 20):  # noqa: PLR2004 - as in the text
            raise illegal(name, _DIGITS)
        return int(value)


def checked_symbol(spelling: str, *, name: str = "symbol", legal: str = _SYMBOL) -> str:
    """Return a spelling that may mean a symbol: ours, Binance's or a venue's (``XBT/USD``).

    Raises:
        BinanceProblemError: It is too long, or nothing is left of it in our spelling.
    """
    if len(spelling) > _SPELLING_CHARS_MAX or not re.fullmatch(r"[\w\-./]+", spelling, re.ASCII):
        raise illegal(name, legal)
    if not re.search(r"[A-Za-z0-9]", spelling):
        raise bad_symbol()
    return spelling
