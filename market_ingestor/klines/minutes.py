"""The closed minutes of the last 24 hours: sums, moving averages, volatility. Pure.

The volatility is computed anew from its closes whenever a minute closes: no sum of floats runs
on, so none can drift.
"""

import math
import operator
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

from market_ingestor.klines.extreme import Extreme
from market_ingestor.klines.window import Fold
from market_ingestor.model.decimals import ZERO, average, canonical
from market_ingestor.model.period import BASE_PERIOD
from market_ingestor.model.stats import MovingAverages, Volatility

SMA_CLOSES: Final = (7, 25, 99)
VOLATILITY_CLOSES: Final = 30


class Minute(NamedTuple):
    """A closed minute."""

    open: Decimal
    close: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    quote: Decimal
    trades: int

    @classmethod
    def of(cls, row: str) -> "Minute":
        """Return a minute from the text it is kept as."""
        *numbers, trades = row.split()
        opened, close, high, low, volume, quote = map(Decimal, numbers)
        return cls(opened, close, high, low, volume, quote, int(trades))


def row_of(fold: Fold) -> str:
    """Return a closed minute as it is kept: one text takes an eighth of its numbers' memory."""
    numbers = (fold.open, fold.close, fold.high, fold.low, fold.volume, fold.quote_volume)
    return " ".join([*map(canonical, numbers), str(fold.count)])


class Minutes:
    """The closed minutes of the last 24 hours; places are minutes since 1970.

    Attributes:
        begin: Earlier ones are not kept.
        trades: How many trades they hold, with their ``volume`` and ``quote`` volume.
        high: Their extreme, like ``low``.
    """

    __slots__ = ("_first", "_is_stale", "_rows", "_sma", "_volatility", "begin", "high", "low",
                 "quote", "trades", "volume")  # fmt: skip

    def __init__(self) -> None:
        self._rows: dict[int, str] = {}
        self.begin = 0
        self.trades = 0
        self.volume = self.quote = ZERO
        self.high = Extreme(operator.ge)
        self.low = Extreme(operator.le)
        self._is_stale = True
        self._first: Decimal | None = None
        self._sma: dict[str, str | None] = {}
        self._volatility: float | None = None

    def __contains__(self, at: int) -> bool:
        return at in self._rows

    def put(self, at: int, row: str) -> bool:
        """Take a minute, or its newer version; return whether that changes anything."""
        old = self._rows.get(at)
        if at < self.begin or old == row:
            return False
        self._rows[at] = row
        self._is_stale = True
        self._sum(Minute.of(row), 1)
        if old is None:
            self._rank(at)
        else:
            self._sum(Minute.of(old), -1)
            self.high.clear()  # it may have lost its own extreme
            self.low.clear()
            for each in sorted(self._rows):
                self._rank(each)
        return True

    def _sum(self, minute: Minute, sign: int) -> None:
        self.trades += sign * minute.trades
        self.volume += sign * minute.volume
        self.quote += sign * minute.quote

    def _rank(self, at: int) -> None:
        minute = Minute.of(self._rows[at])
        if minute.trades:
            self.high.put(at, minute.high)
            self.low.put(at, minute.low)

    def slide(self, begin: int) -> bool:
        """Forget the minutes before ``begin``; return whether there were any."""
        if begin <= self.begin:
            return False
        self.begin = begin
        gone = [at for at in self._rows if at < begin]
        for at in gone:
            self._sum(Minute.of(self._rows.pop(at)), -1)
        self.high.drop_before(begin)
        self.low.drop_before(begin)
        self._is_stale |= bool(gone)
        return bool(gone)

    def _refresh(self) -> None:
        """Compute what changes with the minutes only, once a minute."""
        if not self._is_stale:
            return
        self._is_stale = False
        places = sorted(self._rows)
        self._first = Minute.of(self._rows[places[0]]).open if places else None
        closes = [Minute.of(self._rows[at]).close for at in places[-max(SMA_CLOSES) :]]
        self._sma = {
            str(n): average(sum(closes[-n:], ZERO), Decimal(n)) if len(closes) >= n else None
            for n in SMA_CLOSES
        }
        self._volatility = volatility(closes[-VOLATILITY_CLOSES:])

    def sma(self) -> MovingAverages:
        """Return the moving averages of the closes."""
        self._refresh()
        return MovingAverages(period=BASE_PERIOD, values=self._sma)

    def volatility(self) -> Volatility:
        """Return the volatility of the closes."""
        self._refresh()
        return Volatility(period=BASE_PERIOD, n=VOLATILITY_CLOSES, value=self._volatility)

    def first_price(self) -> Decimal | None:
        """Return the opening price of the oldest minute."""
        self._refresh()
        return self._first


def volatility(closes: Sequence[Decimal]) -> float | None:
    """Return the sample standard deviation of the log returns between closes, in their order.

    Returns:
        None unless there are `VOLATILITY_CLOSES`, all above zero.
    """
    if len(closes) < VOLATILITY_CLOSES or not all(closes):
        return None
    logs = [math.log(each) for each in closes]
    returns = [new - old for old, new in pairwise(logs)]
    mean = math.fsum(returns) / len(returns)
    squares = math.fsum((each - mean) ** 2 for each in returns)
    return math.sqrt(squares / (len(returns) - 1))
