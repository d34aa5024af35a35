"""Rolling statistics of one symbol: time windows, the last trades, closes and the day. Pure.

Owns what they say together, and the symbol's own time, which is the only clock here. Knows no
bus and no database.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.minutes import Minutes, row_of
from market_ingestor.klines.sliding import RESOLUTION_MS, TICKS, WINDOWS, Ticks, Windows
from market_ingestor.klines.window import Fold
from market_ingestor.model.decimals import average, canonical
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.period import MINUTE_MS
from market_ingestor.model.stats import DayStats, Stats, TickVwap
from market_ingestor.model.trade import WIRE_VERSION, Side

DAY_MINUTES: Final = 1_440
MINUTE_US: Final = MINUTE_MS * 1_000
# Trades that wait to be computed with at once, which costs a fraction of one by one. Whoever asks
# does not wait for them.
WAITING_MAX: Final = 256
MANY: Final = 32  # trades that come together need not wait


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

    __slots__ = (
        "_last",
        "_ticks",
        "_waiting",
        "exchange",
        "has_changed",
        "minutes",
        "now_us",
        "symbol",
        "windows",
    )

    def __init__(self, exchange: str, symbol: str) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.has_changed = False
        self.now_us: int | None = None
        self.windows = Windows()
        self.minutes = Minutes()
        self._ticks = Ticks()
        self._last: _Last | None = None
        self._waiting = Columns([], [], [], [], [])

    def advance(self, now_us: int) -> None:
        """Move to the symbol's time ``now_us``; what became too old leaves the windows."""
        if self.now_us is not None and now_us <= self.now_us:
            return
        self.now_us = now_us
        self._digest()
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
            if max(each.times) <= now_us:
                self._wait(each)
            else:
                rows = [row for row, time_us in enumerate(each.times) if time_us <= now_us]
                if rows:
                    self._wait(each.pick(rows))
        if self.now_us is None or now_us > self.now_us:
            self.now_us = now_us
        if len(self._waiting.ids) >= WAITING_MAX:
            self._digest()
        if self.windows.is_full:
            self.windows.settle(self.now_us)

    def _wait(self, columns: Columns) -> None:
        self.has_changed = True
        if len(columns.ids) >= MANY:
            self._digest()
            self._compute(columns)
            return
        waiting = self._waiting
        waiting.ids.extend(columns.ids)
        waiting.times.extend(columns.times)
        waiting.prices.extend(columns.prices)
        waiting.amounts.extend(columns.amounts)
        waiting.sides.extend(columns.sides)

    def _digest(self) -> None:
        """Compute with the trades that wait."""
        if self._waiting.ids:
            columns, self._waiting = self._waiting, Columns([], [], [], [], [])
            self._compute(columns)

    def _compute(self, columns: Columns) -> None:
        self.windows.take(columns)
        self._ticks.take(columns)
        ids, times, prices, amounts, sides = columns
        newest = max(times)
        row = times.index(newest)
        if times.count(newest) > 1:
            row = max(range(len(times)), key=lambda at: (times[at], ids[at]))
        if self._last is None or (newest, ids[row]) > self._last[:2]:
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
        self._digest()
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


def _text(value: Decimal | None) -> str | None:
    return None if value is None else canonical(value)
