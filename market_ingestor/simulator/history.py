"""What a simulated venue remembers of one market: recent trades and one-minute candles.

Owns the bounded memory that REST answers from. Four machine words a trade, so that a million
trades cost 32 MB. Pure: no clock, no venue's spelling.
"""

from array import array
from bisect import bisect_left, bisect_right
from heapq import nsmallest
from typing import Final

import msgspec

from market_ingestor.simulator.tape import Fill

_SLACK: Final = 1.25  # trim in big steps: deleting from the front of an array moves the rest
_MINUTE_MS: Final = 60_000
_MINUTES_MAX: Final = 3_000  # two days of candles: more than any venue's page reaches back
_DAY_MS: Final = 86_400_000
_WEEK_MS: Final = 7 * _DAY_MS
_MONDAY_MS: Final = 4 * _DAY_MS  # 1970-01-05; weeks open on Mondays
_US_PER_MS: Final = 1_000


class Candle(msgspec.Struct, kw_only=True, gc=False):
    """OHLCV of one window in the market's units; ``quote`` is in price units times amount units.

    A flat candle has ``count`` 0 and ``first_id`` -1.
    """

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote: int = 0
    count: int = 0
    buy_volume: int = 0
    buy_quote: int = 0
    first_id: int = -1
    last_id: int = -1


class History:
    """The newest trades of one market in id order, and its candles."""

    def __init__(self, market: int, keep: int) -> None:
        """Remember at most about ``keep`` trades of ``market`` (a quarter more before a trim)."""
        self._market = market
        self._keep = keep
        self._ids = array("q")
        self._prices = array("q")
        self._amounts = array("q")  # negative: the taker sold
        self._times = array("q")
        self._is_sorted = True  # by time; a fault that sets clocks off can break it
        self._removed: set[int] = set()
        self._minutes: dict[int, Candle] = {}
        self._folded_id = -1

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def last_id(self) -> int | None:
        """The newest id, None before the first trade."""
        return self._ids[-1] if self._ids else None

    @property
    def first_id(self) -> int | None:
        """The oldest id still remembered."""
        return self._ids[0] if self._ids else None

    def append(self, fill: Fill) -> None:
        """Add a trade whose id is above all before it."""
        if self._times and fill.time_us < self._times[-1]:
            self._is_sorted = False
        self._ids.append(fill.id)
        self._prices.append(fill.price)
        self._amounts.append(fill.amount if fill.is_buy else -fill.amount)
        self._times.append(fill.time_us)
        if len(self._ids) > self._keep * _SLACK:
            self._trim()

    def remove(self, trade_id: int) -> None:
        """Make a trade disappear: pages skip it for ever."""
        self._removed.add(trade_id)

    def last(self, until_us: int | None = None) -> Fill | None:
        """Return the newest trade, or the newest at or before ``until_us``."""
        page = self.newest(1, until_us)
        return page[0] if page else None

    def newest(self, limit: int, until_us: int | None = None) -> list[Fill]:
        """Return the newest ``limit`` trades, ascending."""
        return self._backward(self._end(until_us), limit)

    def below(self, trade_id: int, limit: int, until_us: int | None = None) -> list[Fill]:
        """Return the newest ``limit`` trades with ids below ``trade_id``, ascending."""
        return self._backward(min(bisect_left(self._ids, trade_id), self._end(until_us)), limit)

    def above(self, trade_id: int, limit: int, until_us: int | None = None) -> list[Fill]:
        """Return the newest ``limit`` trades with ids above ``trade_id``, ascending."""
        page = self._backward(self._end(until_us), limit)
        return [fill for fill in page if fill.id > trade_id]

    def starting(self, trade_id: int, limit: int, until_us: int | None = None) -> list[Fill]:
        """Return the oldest ``limit`` trades with ids at or above ``trade_id``, ascending."""
        return self._forward(bisect_left(self._ids, trade_id), self._end(until_us), limit)

    def since(self, time_us: int, limit: int, until_us: int | None = None) -> list[Fill]:
        """Return the oldest ``limit`` trades later than ``time_us``, ascending by time."""
        end = self._end(until_us)
        if self._is_sorted:
            return self._forward(bisect_right(self._times, time_us), end, limit)
        later = (at for at in range(end) if self._times[at] > time_us)
        kept = (at for at in later if self._ids[at] not in self._removed)
        return [self._fill(at) for at in nsmallest(limit, kept, key=lambda at: self._times[at])]

    def candles(self, length_ms: int, *, is_flat: bool, until_ms: int) -> list[Candle]:
        """Return every remembered candle of a length, ascending, the open one included.

        Args:
            length_ms: A multiple of a minute.
            is_flat: Whether windows without trades get a row at the previous close.
            until_ms: Rows open at or before this instant.
        """
        self._fold()
        offset = _MONDAY_MS if length_ms == _WEEK_MS else 0
        merged: dict[int, Candle] = {}
        for minute in self._minutes.values():
            opened = minute.open_ms - (minute.open_ms - offset) % length_ms
            _merge(merged, opened, minute)
        rows = [merged[opened] for opened in sorted(merged)]
        return _filled(rows, length_ms, until_ms) if is_flat else rows

    def _end(self, until_us: int | None) -> int:
        if until_us is None:
            return len(self._ids)
        if self._is_sorted:
            return bisect_right(self._times, until_us)
        end = len(self._ids)
        while end and self._times[end - 1] > until_us:
            end -= 1
        return end

    def _forward(self, start: int, end: int, limit: int) -> list[Fill]:
        page: list[Fill] = []
        while start < end and len(page) < limit:
            if self._ids[start] not in self._removed:
                page.append(self._fill(start))
            start += 1
        return page

    def _backward(self, end: int, limit: int) -> list[Fill]:
        page: list[Fill] = []
        while end > 0 and len(page) < limit:
            end -= 1
            if self._ids[end] not in self._removed:
                page.append(self._fill(end))
        page.reverse()
        return page

    def _fill(self, index: int) -> Fill:
        amount = self._amounts[index]
        return Fill(
            self._market,
            self._ids[index],
            self._prices[index],
            abs(amount),
            amount > 0,
            self._times[index],
        )

    def _trim(self) -> None:
        self._fold()
        surplus = len(self._ids) - self._keep
        oldest = self._ids[surplus]
        for column in (self._ids, self._prices, self._amounts, self._times):
            del column[:surplus]
        self._removed = {trade_id for trade_id in self._removed if trade_id >= oldest}

    def _fold(self) -> None:
        for index in range(bisect_right(self._ids, self._folded_id), len(self._ids)):
            time_ms = self._times[index] // _US_PER_MS
            self._fold_one(index, time_ms - time_ms % _MINUTE_MS)
        if self._ids:
            self._folded_id = self._ids[-1]
        while len(self._minutes) > _MINUTES_MAX:
            del self._minutes[next(iter(self._minutes))]

    def _fold_one(self, index: int, opened: int) -> None:
        price, amount, trade_id = self._prices[index], self._amounts[index], self._ids[index]
        candle = self._minutes.get(opened)
        if candle is None:
            candle = Candle(open_ms=opened, open=price, high=price, low=price, close=price)
            candle.first_id = trade_id
            self._minutes[opened] = candle
        candle.high = max(candle.high, price)
        candle.low = min(candle.low, price)
        candle.close = price
        candle.volume += abs(amount)
        candle.quote += abs(amount) * price
        candle.count += 1
        candle.last_id = trade_id
        if amount > 0:
            candle.buy_volume += amount
            candle.buy_quote += amount * price


def _merge(merged: dict[int, Candle], opened: int, minute: Candle) -> None:
    whole = merged.get(opened)
    if whole is None:
        merged[opened] = msgspec.structs.replace(minute, open_ms=opened)
        return
    if minute.first_id < whole.first_id:
        whole.open, whole.first_id = minute.open, minute.first_id
    if minute.last_id > whole.last_id:
        whole.close, whole.last_id = minute.close, minute.last_id
    whole.high = max(whole.high, minute.high)
    whole.low = min(whole.low, minute.low)
    whole.volume += minute.volume
    whole.quote += minute.quote
    whole.count += minute.count
    whole.buy_volume += minute.buy_volume
    whole.buy_quote += minute.buy_quote


def _filled(rows: list[Candle], length_ms: int, until_ms: int) -> list[Candle]:
    complete: list[Candle] = []
    following = [row.open_ms for row in rows[1:]]
    for row, end_ms in zip(rows, [*following, until_ms + 1], strict=True):
        complete.append(row)
        first = row.open_ms + length_ms
        # A recorded tape may end years before now: flat rows stop where the page limit would.
        last = min(end_ms, first + _MINUTES_MAX * length_ms)
        complete += [
            Candle(open_ms=at, open=row.close, high=row.close, low=row.close, close=row.close)
            for at in range(first, last, length_ms)
        ]
    return complete
