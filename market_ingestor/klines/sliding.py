"""What trades of the last seconds, and the last trades, sum up to. Pure.

One bucket per 100 ms of the longest window, whatever the trade rate. All sums are exact in
`model.decimals.EXACT`, so a difference of two leaves no trace of what lies before.
"""

import operator
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from operator import mul
from typing import Final, NamedTuple

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.extreme import Extreme
from market_ingestor.model.decimals import ZERO, average, canonical
from market_ingestor.model.stats import WindowStats

RESOLUTION_MS: Final = 100  # the contract's
BUCKET_US: Final = RESOLUTION_MS * 1_000
WINDOWS: Final = {"5s": 50, "1m": 600, "5m": 3_000}  # lengths in buckets, shortest first
BUCKETS_MAX: Final = WINDOWS["5m"]
# Buckets gathered before they enter the windows: statistics nobody asks for (a replay) then cost
# little, and what waits stays small.
PARTS_MAX: Final = 64
TICKS: Final = 100


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


def _text(value: Decimal | None) -> str | None:
    return None if value is None else canonical(value)
