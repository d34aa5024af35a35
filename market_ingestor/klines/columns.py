"""The trades of one batch as columns of checked numbers, which is how they are folded. Pure.

Owns the reader's own check of what it read: whoever published a batch may have been wrong, and a
number outside the bounds would make exact arithmetic impossible.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from market_ingestor.errors import DecodeError
from market_ingestor.model import decimals
from market_ingestor.model.trade import TRADE_ID_MAX, DecimalTrade, Side, TextTrade

# At most 40 plain digits and one point: within the bounds of `model.decimals` whatever they are.
SURE_CHARS_MAX: Final = 40
TIME_US_MAX: Final = 4_102_444_800_000_000  # the year 2100; beyond it a time is a mistake


class Columns(NamedTuple):
    """Trades of one symbol, one list per field, all of the same length of at least one.

    Attributes:
        times: Trade times, UTC microseconds.
    """

    ids: list[int]
    times: list[int]
    prices: list[Decimal]
    amounts: list[Decimal]
    sides: list[Side | None]

    def pick(self, rows: Iterable[int]) -> "Columns":
        """Return these rows, in this order."""
        chosen = list(rows)
        return Columns(
            [self.ids[row] for row in chosen],
            [self.times[row] for row in chosen],
            [self.prices[row] for row in chosen],
            [self.amounts[row] for row in chosen],
            [self.sides[row] for row in chosen],
        )


def is_run(ids: list[int]) -> bool:
    """Return whether ids are consecutive and ascending; proved by two comparisons of lists."""
    first, last, count = ids[0], ids[-1], len(ids)
    return count == 1 or (last - first + 1 == count and ids == list(range(first, last + 1)))


def _numbers(texts: list[str]) -> list[Decimal]:
    """Return the values of ``texts``; raises BadNumberError for one that is not fit to use."""
    joined = "".join(texts) if len(texts) > 1 else texts[0]
    if joined.isascii() and joined.replace(".", "").isdigit():
        longest = max(map(len, texts))
        if longest <= SURE_CHARS_MAX:
            return list(map(Decimal, texts))
    return [decimals.checked(text)[0] for text in texts]


def trade_ids(subject: str, texts: list[str]) -> list[int]:
    """Return ids as numbers, whose order is the venue's.

    Raises:
        DecodeError: One is not 1-19 plain digits, has leading zeros or exceeds 64 bits.
    """
    try:
        ids = list(map(int, texts))
    except ValueError as problem:
        raise DecodeError(subject, "a trade id is no number") from problem
    if list(map(str, ids)) != texts or max(ids) > TRADE_ID_MAX or min(ids) < 0:
        raise DecodeError(subject, "a trade id is not plain digits within 64 bits")
    return ids


def of_batch(subject: str, trades: Sequence[TextTrade]) -> Columns:
    """Return the checked columns of a batch, in its order.

    Args:
        subject: Where it was read, for the error.

    Raises:
        DecodeError: An id, a time, a price or an amount is not fit to use.
    """
    ids = trade_ids(subject, [trade.id for trade in trades])
    times = [trade.time_us for trade in trades]
    if min(times) < 0 or max(times) >= TIME_US_MAX:
        raise DecodeError(subject, "a trade time is out of bounds")
    try:
        prices = _numbers([trade.price for trade in trades])
        amounts = _numbers([trade.amount for trade in trades])
    except decimals.BadNumberError as problem:
        raise DecodeError(subject, f"a price or an amount is {problem}") from problem
    except InvalidOperation as problem:
        raise DecodeError(subject, "a price or an amount is not a number") from problem
    return Columns(ids, times, prices, amounts, [trade.side for trade in trades])


def of_trades(trades: Sequence[DecimalTrade]) -> Columns:
    """Return the columns of stored trades, which were checked before they were stored."""
    return Columns(
        [int(trade.id) for trade in trades],
        [trade.time_us for trade in trades],
        [trade.price for trade in trades],
        [trade.amount for trade in trades],
        [trade.side for trade in trades],
    )
