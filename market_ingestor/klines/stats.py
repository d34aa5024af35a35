"""Rolling statistics of one symbol: time windows, the last trades, closes and the day. Pure.

Owns what is kept for them, bounded at any trade rate: one bucket per 100 ms of the longest
window, the last trades of the tick window, one row per minute of the day. Knows no clock but the
symbol's own, no bus and no database.

All sums are exact in `model.decimals.EXACT`, so taking out what was put in leaves no trace. The
volatility is computed anew from its closes whenever a minute closes: no sum of floats runs on,
so none can drift.
"""

import math
import operator
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from operator import mul
from typing import Final, NamedTuple

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.window import Fold
from market_ingestor.model.decimals import ZERO, average, canonical
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS
from market_ingestor.model.stats import (
    DayStats,
    MovingAverages,
    Stats,
    TickVwap,
    Volatility,
    WindowStats,
)
from market_ingestor.model.trade import WIRE_VERSION, Side

RESOLUTION_MS: Final = 100  # the contract's
BUCKET_US: Final = RESOLUTION_MS * 1_000
WINDOWS: Final = {"5s": 50, "1m": 600, "5m": 3_000}  # lengths in buckets, shortest first
BUCKETS_MAX: Final = WINDOWS["5m"]
# Buckets gathered before they enter the windows: statistics nobody asks for (a replay) then cost
# little, and what waits stays small.
PARTS_MAX: Final = 64
TICKS: Final = 100
SMA_CLOSES: Final = (7, 25, 99)
VOLATILITY_CLOSES: Final = 30
DAY_MINUTES: Final = 1_440
MINUTE_US: Final = MINUTE_MS * 1_000


class Bucket:
    """Sums and extremes of the trades of one step of time; ``prices`` is the sum of prices."""

    __slots__ = ("count", "high", "low", "prices", "quote", "volume")

    def __init__(
        self,
        count: int,
        prices: Decimal,
        volume: Decimal,
        quote: Decimal,
        high: Decimal,
        low: Decimal,
    ) -> None:
        self.count = count
        self.prices = prices
        self.volume = volume
        self.quote = quote
        self.high = high
        self.low = low

    @classmethod
    def of(cls, prices: Sequence[Decimal], amounts: Sequence[Decimal]) -> "Bucket":
        """Return the bucket of at least one trade."""
        if len(prices) == 1:
            price, amount = prices[0], amounts[0]
            return cls(1, price, amount, price * amount, price, price)
        return cls(
            len(prices),
            sum(prices, ZERO),
            sum(amounts, ZERO),
            sum(map(mul, prices, amounts), ZERO),
            max(prices),
            min(prices),
        )

    def absorb(self, other: "Bucket") -> None:
        """Add the trades of another bucket."""
        self.count += other.count
        self.prices += other.prices
        self.volume += other.volume
        self.quote += other.quote
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)


class Extreme:
    """The greatest (or least) value of a sliding range, amortized O(1).

    Keeps only values that no later one reaches, so the first is the answer.

    Args:
        reaches: ``operator.ge`` for the greatest, ``operator.le`` for the least.
    """

    __slots__ = ("_items", "_reaches")

    def __init__(self, reaches: Callable[[Decimal, Decimal], bool]) -> None:
        self._reaches = reaches
        self._items: deque[tuple[int, Decimal]] = deque()  # by place

    @property
    def value(self) -> Decimal | None:
        """Return the extreme, None when the range is empty."""
        return self._items[0][1] if self._items else None

    def put(self, at: int, value: Decimal) -> None:
        """Add a value at a place of the range, nearly always the last."""
        items, reaches = self._items, self._reaches
        later: list[tuple[int, Decimal]] = []
        while items and items[-1][0] > at:
            later.append(items.pop())
        if not (later and reaches(later[-1][1], value)) and not (
            items and items[-1][0] == at and reaches(items[-1][1], value)
        ):
            while items and reaches(value, items[-1][1]):
                items.pop()
            items.append((at, value))
        while later:
            items.append(later.pop())

    def since(self, begin: int) -> Decimal | None:
        """Return the extreme of the places from ``begin`` on, None when they are empty."""
        row = bisect_left(self._items, (begin,))
        return self._items[row][1] if row < len(self._items) else None

    def drop_before(self, at: int) -> None:
        """Take out what lies before a place."""
        items = self._items
        while items and items[0][0] < at:
            items.popleft()

    def clear(self) -> None:
        """Take out everything."""
        self._items.clear()


def _text(value: Decimal | None) -> str | None:
    return None if value is None else canonical(value)


class Before(NamedTuple):
    """Sums over everything before a bucket."""

    trades: int
    prices: Decimal
    volume: Decimal
    quote: Decimal

    def plus(self, part: Bucket) -> "Before":
        """Return these sums with the trades of a bucket."""
        return Before(
            self.trades + part.count,
            self.prices + part.prices,
            self.volume + part.volume,
            self.quote + part.quote,
        )


NOTHING: Final = Before(0, ZERO, ZERO, ZERO)


class Windows:
    """The time windows over one ring of buckets.

    Each bucket knows the sums of all before it, so a window is one difference, and a bucket
    costs the same however many windows it is in. One list of extremes serves all windows.
    """

    __slots__ = ("_befores", "_counts", "_high", "_low", "_now", "_parts", "_places", "_total")

    def __init__(self) -> None:
        self._places: list[int] = []  # of the buckets, ascending
        self._befores: list[Before] = []
        self._total = NOTHING
        self._high = Extreme(operator.ge)
        self._low = Extreme(operator.le)
        self._parts: dict[int, Bucket] = {}
        self._now = 0
        self._counts: list[int] = []

    def __len__(self) -> int:
        return len(self._places) + len(self._parts)

    def take(self, columns: Columns) -> None:
        """Gather trades in any order; `settle` brings them into the windows."""
        _, times, prices, amounts, _ = columns
        first, last = times[0] // BUCKET_US, times[-1] // BUCKET_US
        if len(times) == 1:
            self._gather(first, prices, amounts)
        elif times != sorted(times):
            rows: dict[int, list[int]] = {}
            for row, time_us in enumerate(times):
                rows.setdefault(time_us // BUCKET_US, []).append(row)
            for at, chosen in rows.items():
                self._gather(at, [prices[row] for row in chosen], [amounts[row] for row in chosen])
        elif first == last:
            self._gather(first, prices, amounts)
        else:
            start = 0
            while start < len(times):
                at = times[start] // BUCKET_US
                end = bisect_left(times, (at + 1) * BUCKET_US, start)
                self._gather(at, prices[start:end], amounts[start:end])
                start = end

    def _gather(self, at: int, prices: Sequence[Decimal], amounts: Sequence[Decimal]) -> None:
        part = Bucket.of(prices, amounts)
        known = self._parts.get(at)
        if known is None:
            self._parts[at] = part
        else:
            known.absorb(part)

    @property
    def is_full(self) -> bool:
        """Return whether enough was gathered to settle it."""
        return len(self._parts) > PARTS_MAX

    def settle(self, now_us: int) -> bool:
        """Move the windows to ``now_us``, which never goes back; return whether they changed."""
        if not self._parts and not self._places:
            return False
        self._now = now_us // BUCKET_US
        oldest = self._now - BUCKETS_MAX + 1
        for at, part in self._parts.items():
            if at >= oldest:
                self._put(at, part)
        self._parts.clear()
        self._forget(oldest)
        counts = [self._before(length).trades for length in WINDOWS.values()]
        counts.append(self._total.trades)
        has_changed, self._counts = counts != self._counts, counts
        return has_changed

    def _put(self, at: int, part: Bucket) -> None:
        places, befores = self._places, self._befores
        if not places or at > places[-1]:
            places.append(at)
            befores.append(self._total)
        elif at < places[-1]:
            row = bisect_left(places, at)
            if places[row] != at:
                places.insert(row, at)
                befores.insert(row, befores[row])
            for later in range(row + 1, len(befores)):
                befores[later] = befores[later].plus(part)
        self._total = self._total.plus(part)
        self._high.put(at, part.high)
        self._low.put(at, part.low)

    def _forget(self, oldest: int) -> None:
        places = self._places
        if places and places[-1] < oldest:
            places.clear()
            self._befores.clear()
            self._total = NOTHING  # zeros without a scale
        elif (
            len(places) > PARTS_MAX and places[PARTS_MAX] < oldest
        ):  # cutting a list costs its length
            gone = bisect_left(places, oldest)
            del places[:gone], self._befores[:gone]
        self._high.drop_before(oldest)
        self._low.drop_before(oldest)

    def _before(self, length: int) -> Before:
        row = bisect_left(self._places, self._now - length + 1)
        return self._befores[row] if row < len(self._befores) else self._total

    def stats(self, length: int) -> WindowStats:
        """Return what is told of the window of the last ``length`` buckets."""
        total, before = self._total, self._before(length)
        begin = self._now - length + 1
        count = total.trades - before.trades
        volume = total.volume - before.volume
        return WindowStats(
            average=average(total.prices - before.prices, Decimal(count)),
            vwap=average(total.quote - before.quote, volume),
            high=_text(self._high.since(begin)),
            low=_text(self._low.since(begin)),
            volume=canonical(volume),
            trade_count=count,
        )


class Ticks:
    """The last `TICKS` trades in the order they arrived, with sums that run.

    What arrives waits, newest kept, and is computed with when the value is asked for.
    """

    __slots__ = ("_amounts", "_new_amounts", "_new_prices", "_quote", "_quotes", "_volume")

    def __init__(self) -> None:
        self._new_prices: deque[Decimal] = deque(maxlen=TICKS)
        self._new_amounts: deque[Decimal] = deque(maxlen=TICKS)
        self._quotes: deque[Decimal] = deque()
        self._amounts: deque[Decimal] = deque()
        self._quote = self._volume = ZERO

    def take(self, columns: Columns) -> None:
        """Note trades."""
        self._new_prices.extend(columns.prices)
        self._new_amounts.extend(columns.amounts)

    def value(self) -> str | None:
        """Return the volume-weighted mean price; None before there were `TICKS` trades."""
        if len(self._new_prices) == TICKS:  # they are all there is
            self._quotes.clear()
            self._amounts.clear()
            self._quote = self._volume = ZERO
        for price, amount in zip(self._new_prices, self._new_amounts, strict=True):
            quote = price * amount
            self._quotes.append(quote)
            self._amounts.append(amount)
            self._quote += quote
            self._volume += amount
        self._new_prices.clear()
        self._new_amounts.clear()
        while len(self._quotes) > TICKS:
            self._quote -= self._quotes.popleft()
            self._volume -= self._amounts.popleft()
        return average(self._quote, self._volume) if len(self._quotes) == TICKS else None


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


class _Last(NamedTuple):
    time_us: int
    id: int
    price: Decimal
    amount: Decimal
    side: Side | None


class RollingStats:
    """All statistics of one symbol.

    Attributes:
        has_changed: Something is to be told that was not told yet.
        now_us: The symbol's own time, None before its first trade. Never goes back.
    """

    __slots__ = ("_last", "_ticks", "exchange", "has_changed", "minutes", "now_us", "symbol",
                 "windows")  # fmt: skip

    def __init__(self, exchange: str, symbol: str) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.has_changed = False
        self.now_us: int | None = None
        self.windows = Windows()
        self.minutes = Minutes()
        self._ticks = Ticks()
        self._last: _Last | None = None

    def advance(self, now_us: int) -> None:
        """Move to the symbol's time ``now_us``; what became too old leaves the windows."""
        if self.now_us is not None and now_us <= self.now_us:
            return
        self.now_us = now_us
        self.has_changed |= self.windows.settle(now_us)
        self.has_changed |= self.minutes.slide(now_us // MINUTE_US - DAY_MINUTES + 1)

    def take(self, batch: Iterable[Columns], now_us: int) -> None:
        """Take the new trades of one batch.

        Args:
            batch: Each trade once, none taken before.
            now_us: The symbol's time after them; trades beyond it have a time that nobody
                believes yet, and are left out.
        """
        for each in batch:
            newest = max(each.times)
            if newest > now_us:
                rows = [row for row, time_us in enumerate(each.times) if time_us <= now_us]
                if rows:
                    self._take(each.pick(rows), max(each.times[row] for row in rows))
            else:
                self._take(each, newest)
        if self.now_us is None or now_us > self.now_us:
            self.now_us = now_us
        if self.windows.is_full:
            self.windows.settle(self.now_us)

    def _take(self, columns: Columns, newest: int) -> None:
        self.has_changed = True
        self.windows.take(columns)
        self._ticks.take(columns)
        last = self._last
        if last is not None and newest < last.time_us:
            return
        ids, times, prices, amounts, sides = columns
        row = len(times) - 1
        if times.count(newest) > 1:
            row = max(range(len(times)), key=lambda at: (times[at], ids[at]))
        elif times[row] != newest:
            row = times.index(newest)
        if last is None or (newest, ids[row]) > last[:2]:
            self._last = _Last(newest, ids[row], prices[row], amounts[row], sides[row])

    def close(self, opened: int, fold: Fold) -> None:
        """Take a minute (Unix milliseconds) that closed, unless a version of it is known."""
        if opened // MINUTE_MS not in self.minutes:
            self.correct(opened, fold)

    def correct(self, opened: int, fold: Fold) -> None:
        """Take the newest version of a minute."""
        self.has_changed |= self.minutes.put(opened // MINUTE_MS, row_of(fold))

    def stats(self, opened: Iterable[tuple[int, Fold]]) -> Stats | None:
        """Return everything as it is now, None before the first trade.

        Args:
            opened: The open minutes, Unix milliseconds.
        """
        last, now_us = self._last, self.now_us
        if last is None or now_us is None:
            return None
        self.windows.settle(now_us)
        self.minutes.slide(now_us // MINUTE_US - DAY_MINUTES + 1)
        self.has_changed = False
        return Stats(
            v=WIRE_VERSION,
            exchange=self.exchange,
            symbol=self.symbol,
            time_us=now_us,
            resolution_ms=RESOLUTION_MS,
            last_price=canonical(last.price),
            last_amount=canonical(last.amount),
            last_side=last.side,
            windows={name: self.windows.stats(length) for name, length in WINDOWS.items()},
            vwap_ticks=TickVwap(n=TICKS, value=self._ticks.value()),
            sma=self.minutes.sma(),
            volatility=self.minutes.volatility(),
            day=self._day(opened, last.price, now_us),
            simulated=is_simulated(self.exchange),
        )

    def _day(self, opened: Iterable[tuple[int, Fold]], price: Decimal, now_us: int) -> DayStats:
        minutes = self.minutes
        folds = [
            fold
            for at, fold in sorted(opened, key=lambda each: each[0])
            if minutes.begin <= at // MINUTE_MS <= now_us // MINUTE_US
            and at // MINUTE_MS not in minutes
        ]
        first = minutes.first_price()
        if first is None and folds:
            first = folds[0].open
        highs = [fold.high for fold in folds]
        lows = [fold.low for fold in folds]
        if minutes.high.value is not None and minutes.low.value is not None:
            highs.append(minutes.high.value)
            lows.append(minutes.low.value)
        change = None if first is None else price - first
        return DayStats(
            open=_text(first),
            high=_text(max(highs, default=None)),
            low=_text(min(lows, default=None)),
            volume=canonical(sum((fold.volume for fold in folds), minutes.volume)),
            quote_volume=canonical(sum((fold.quote_volume for fold in folds), minutes.quote)),
            change=_text(change),
            change_percent=None if not first or change is None else average(change * 100, first),
            trade_count=minutes.trades + sum(fold.count for fold in folds),
        )
