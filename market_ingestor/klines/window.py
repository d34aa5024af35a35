"""The exact fold of a set of trades, and the open one-minute window that collects one. Pure.

Merging folds is associative and commutative on disjoint trade sets only; "once" comes from the
ids an open window keeps. Sums are exact in `model.decimals.EXACT`, whatever the order.
"""

from decimal import Decimal
from operator import mul
from typing import Final, Self

from market_ingestor.klines.columns import FEW, Columns, is_run
from market_ingestor.model.decimals import ZERO
from market_ingestor.model.intervals import IdIntervals

# Made-up ids have no neighbours, so each trade is an interval: 100,000 are about 8 MB and more
# trades a minute than such a venue sends. Beyond it the window is taken from the database.
WINDOW_INTERVALS_MAX: Final = 100_000


class Fold:
    """OHLCV of a set of trades; ``open`` and ``close`` are those of the lowest and highest id.

    A fold without trades is flat: its four prices are the close of what came before.
    """

    __slots__ = (
        "buy_quote_volume",
        "buy_volume",
        "close",
        "count",
        "first_id",
        "high",
        "last_id",
        "low",
        "open",
        "quote_volume",
        "volume",
    )

    def __init__(
        self,
        *,
        first_id: int,
        last_id: int,
        open: Decimal,  # noqa: A002 - the word of the domain
        high: Decimal,
        low: Decimal,
        close: Decimal,
        volume: Decimal = ZERO,
        quote_volume: Decimal = ZERO,
        buy_volume: Decimal = ZERO,
        buy_quote_volume: Decimal = ZERO,
        count: int = 0,
    ) -> None:
        self.first_id = first_id
        self.last_id = last_id
        self.open = open
        self.high = high
        self.low = low
        self.close = close
        self.volume = volume
        self.quote_volume = quote_volume
        self.buy_volume = buy_volume
        self.buy_quote_volume = buy_quote_volume
        self.count = count

    @classmethod
    def flat(cls, price: Decimal) -> Self:
        """Return the fold of no trades after a close of ``price``."""
        return cls(first_id=0, last_id=0, open=price, high=price, low=price, close=price)

    @classmethod
    def of(cls, columns: Columns) -> Self:
        """Return the fold of at least one trade; each id occurs once, in any order."""
        ids, _, prices, amounts, sides = columns
        first, last = min(ids), max(ids)
        quotes = list(map(mul, prices, amounts))
        buys = [at for at, side in enumerate(sides) if side == "buy"]
        return cls(
            first_id=first,
            last_id=last,
            open=prices[0 if ids[0] == first else ids.index(first)],
            high=max(prices),
            low=min(prices),
            close=prices[-1 if ids[-1] == last else ids.index(last)],
            volume=sum(amounts, ZERO),
            quote_volume=sum(quotes, ZERO),
            buy_volume=sum((amounts[at] for at in buys), ZERO),
            buy_quote_volume=sum((quotes[at] for at in buys), ZERO),
            count=len(ids),
        )

    def add(self, trade_id: int, price: Decimal, amount: Decimal, *, is_buy: bool) -> None:
        """Add one trade; `absorb` does the same for many."""
        if trade_id > self.last_id:
            self.last_id, self.close = trade_id, price
        if trade_id < self.first_id:
            self.first_id, self.open = trade_id, price
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        quote = price * amount
        self.volume += amount
        self.quote_volume += quote
        if is_buy:
            self.buy_volume += amount
            self.buy_quote_volume += quote
        self.count += 1

    def copy(self) -> "Fold":
        """Return an independent equal fold."""
        return Fold(**{name: getattr(self, name) for name in Fold.__slots__})

    def absorb(self, other: "Fold") -> None:
        """Add the trades of a fold that shares none with this one."""
        if not other.count:
            return
        if not self.count:
            for name in Fold.__slots__:
                setattr(self, name, getattr(other, name))
            return
        if other.first_id < self.first_id:
            self.first_id, self.open = other.first_id, other.open
        if other.last_id > self.last_id:
            self.last_id, self.close = other.last_id, other.close
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.volume += other.volume
        self.quote_volume += other.quote_volume
        self.buy_volume += other.buy_volume
        self.buy_quote_volume += other.buy_quote_volume
        self.count += other.count

    def exchange_part(self, old: "Fold", new: "Fold") -> None:
        """Replace a part of this fold by one with the same trades and more.

        Exact when ``new`` holds every trade of ``old``; otherwise the prices may be those of
        trades that are gone, so the caller must not trust the result for good.
        """
        self.absorb(new)
        self.volume -= old.volume
        self.quote_volume -= old.quote_volume
        self.buy_volume -= old.buy_volume
        self.buy_quote_volume -= old.buy_quote_volume
        self.count -= old.count


class Window:
    """An open minute: its fold, its ids and where in the stream it was read.

    Attributes:
        open_time: First millisecond.
        fold: None until it holds a trade.
        first_sequence: Stream sequence of the first batch read for it; ``last_sequence`` of the
            newest.
        is_doubtful: The fold may not be the whole truth: what is stored decides.
    """

    __slots__ = ("first_sequence", "fold", "ids", "is_doubtful", "last_sequence", "open_time")

    def __init__(self, open_time: int, sequence: int) -> None:
        self.open_time = open_time
        self.fold: Fold | None = None
        self.ids = IdIntervals(WINDOW_INTERVALS_MAX)
        self.first_sequence = sequence
        self.last_sequence = sequence
        self.is_doubtful = False

    def take(self, columns: Columns, sequence: int) -> Columns | None:
        """Fold the trades that are not in yet and return them, None when there are none.

        Args:
            columns: Trades of this minute only.
            sequence: Where their batch was read.
        """
        self.last_sequence = sequence
        fresh = self._fresh(columns)
        if fresh is None:
            return None
        if self.ids.forgotten:
            self.is_doubtful = True  # a copy of what was forgotten could be counted again
        fold = self.fold
        if fold is not None and len(fresh.ids) <= FEW:
            ids, _, prices, amounts, sides = fresh
            for row, trade_id in enumerate(ids):
                fold.add(trade_id, prices[row], amounts[row], is_buy=sides[row] == "buy")
        elif fold is None:
            self.fold = Fold.of(fresh)
        else:
            fold.absorb(Fold.of(fresh))
        return fresh

    def _fresh(self, columns: Columns) -> Columns | None:
        ids = columns.ids
        if len(ids) == 1:
            return columns if self.ids.add(ids[0]) else None
        if is_run(ids) and self._has_none(ids[0], ids[-1]):
            self.ids.add_range(ids[0], ids[-1])
            return columns
        rows = [row for row, trade_id in enumerate(ids) if self.ids.add(trade_id)]
        return columns.pick(rows) if rows else None

    def _has_none(self, first: int, last: int) -> bool:
        highest = self.ids.highest
        if highest is None or first > highest:
            return True
        return self.ids.missing(first - 1, last + 1) == [(first, last)]
