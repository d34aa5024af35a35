"""Spans of time and the candles that cover them. Pure.

A span ``(after, to]`` is summed up from the longest closed candles that fit into it, from shorter
ones around those, and from trades at its ragged ends: what that costs grows neither with the
number of trades nor much with the length of the span.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from market_ingestor.api.errors import bad_parameter
from market_ingestor.model import decimals
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import MINUTE_MS, PERIOD_MS, open_time

SPAN_DEFAULT: Final = "1m"
LEVELS: Final = ("1w", "1d", "4h", "1h", "15m", "1m")  # each fits into the one before, but weeks

_DAY_US: Final = 86_400_000_000
_UNIT_US: Final = (7 * _DAY_US, _DAY_US, 3_600_000_000, 60_000_000, 1_000_000)
SPAN_PATTERN: Final = "^" + "".join(f"([1-9][0-9]{{0,5}}{unit})?" for unit in "wdhms") + "$"
_SPAN: Final = re.compile(SPAN_PATTERN, re.ASCII)


def parse_span_us(text: str) -> int:
    """Return the length of a span such as ``30s``, ``5m`` or ``1h30m``, in microseconds.

    Raises:
        ApiProblemError: It is none, or nothing.
    """
    found = _SPAN.fullmatch(text)
    counts = [int((each or "0s")[:-1]) for each in found.groups()] if found else []
    span = sum(count * unit for count, unit in zip(counts, _UNIT_US, strict=False))
    if not span:
        raise bad_parameter("period", "like 30s, 5m, 1h30m")
    return span


class Range(NamedTuple):
    """Times from ``start`` up to ``end``, which it does not contain; Unix milliseconds."""

    start: int
    end: int


def whole_minutes(after_us: int, to_us: int) -> Range:
    """Return the minutes that lie wholly in ``(after_us, to_us]``; empty where none does."""
    minute_us = MINUTE_MS * 1_000
    start = (after_us // minute_us + 1) * MINUTE_MS
    return Range(start, max((to_us + 1) // minute_us * MINUTE_MS, start))


def windows_in(within: Range, period: str) -> Range:
    """Return the windows of a period that lie wholly in a range; empty where none does."""
    length = PERIOD_MS[period]
    start = open_time(within.start + length - 1, period)
    return Range(start, max(open_time(within.end, period), start))


def rest_of(within: Sequence[Range], taken: Iterable[Kline]) -> list[Range]:
    """Return what candles leave of ranges, in order; each candle lies in one of them."""
    opened = sorted((each.open_time, each.close_time + 1) for each in taken)
    left: list[Range] = []
    at = 0
    for start, end in within:
        here = start
        while at < len(opened) and opened[at][0] < end:
            if opened[at][0] > here:
                left.append(Range(here, opened[at][0]))
            here = opened[at][1]
            at += 1
        if here < end:
            left.append(Range(here, end))
    return left


class Total(msgspec.Struct, kw_only=True):
    """Trades summed up.

    Attributes:
        low: None without trades, like ``high``.
        is_complete: Nothing is known to be missing.
    """

    trade_count: int = 0
    volume: Decimal = decimals.ZERO
    quote_volume: Decimal = decimals.ZERO
    low: Decimal | None = None
    high: Decimal | None = None
    is_complete: bool = True

    def add(self, other: "Total") -> None:
        """Add other trades, none of which is counted here yet."""
        self.trade_count += other.trade_count
        self.volume += other.volume
        self.quote_volume += other.quote_volume
        self.is_complete &= other.is_complete
        if other.low is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)
        if other.high is not None:
            self.high = other.high if self.high is None else max(self.high, other.high)

    @classmethod
    def of(cls, kline: Kline) -> "Total":
        """Return what a candle sums up; a flat one holds no trade."""
        if not kline.trade_count:
            return cls(is_complete=kline.complete)
        return cls(
            trade_count=kline.trade_count,
            volume=Decimal(kline.volume),
            quote_volume=Decimal(kline.quote_volume),
            low=Decimal(kline.low),
            high=Decimal(kline.high),
            is_complete=kline.complete,
        )
