"""The trades of one batch as columns of checked numbers, which is how they are folded. Pure.

Owns the quick form of the reader's own check (`model.fitness`): whoever published a batch may have
been wrong, and a number outside the bounds would make exact arithmetic impossible.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from market_ingestor.errors import DecodeError
from market_ingestor.model.decimals import is_sure
from market_ingestor.model.fitness import TIME_US_MAX, unfit
from market_ingestor.model.trade import TRADE_ID_MAX, DecimalTrade, Side, TextTrade

# Up to here a look at each trade takes less than a few at all of them: 1 us instead of 3 for one.
FEW: Final = 6
# At most 40 plain digits and one point: within the bounds of `model.decimals` whatever they are.
SURE_CHARS_MAX: Final = 40
ID_DIGITS_MAX: Final = 19  # of 2**63 - 1


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
    """Return the checked columns of a batch, in its order, without the trades not fit to use.

    Args:
        subject: Where it was read, for the error.

    Raises:
        DecodeError: None of the trades is fit to use.
    """
    found = _few_sure(trades) if len(trades) <= FEW else _sure(trades)
    if found is not None:
        return found
    fit = [trade for trade in trades if unfit(trade) is None]
    if not fit:
        raise DecodeError(subject, f"a trade has {unfit(trades[0])}")
    prices = [Decimal(trade.price) for trade in fit]
    amounts = [Decimal(trade.amount) for trade in fit]
    ids, times = [int(trade.id) for trade in fit], [trade.time_us for trade in fit]
    return Columns(ids, times, prices, amounts, [trade.side for trade in fit])


def _few_sure(trades: Sequence[TextTrade]) -> Columns | None:
    """Return the columns if every trade is fit beyond doubt, each looked at for itself."""
    columns = Columns([], [], [], [], [])
    ids, times, prices, amounts, sides = columns
    for trade in trades:
        text, time_us, price, amount = trade.id, trade.time_us, trade.price, trade.amount
        if not (is_sure(price) and is_sure(amount) and 0 <= time_us < TIME_US_MAX):
            return None
        if not (
            text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= ID_DIGITS_MAX
        ):
            return None
        ids.append(int(text))
        times.append(time_us)
        prices.append(Decimal(price))
        amounts.append(Decimal(amount))
        sides.append(trade.side)
    return columns if max(ids) <= TRADE_ID_MAX else None


def _sure(trades: Sequence[TextTrade]) -> Columns | None:
    """Return the columns if every trade is fit beyond doubt, in a few calls for the whole batch."""
    texts = [trade.price for trade in trades]
    texts += [trade.amount for trade in trades]
    joined = "".join(texts)
    times = [trade.time_us for trade in trades]
    if (
        not joined.isascii()
        or not joined.replace(".", "").isdigit()
        or max(map(len, texts)) > SURE_CHARS_MAX
        or min(times) < 0
        or max(times) >= TIME_US_MAX
    ):
        return None
    try:
        ids = list(map(int, [trade.id for trade in trades]))
        numbers = list(map(Decimal, texts))
    except (ValueError, InvalidOperation):
        return None
    prices = numbers[: len(trades)]
    is_fit = (
        min(ids) >= 0
        and max(ids) <= TRADE_ID_MAX
        and list(map(str, ids)) == [trade.id for trade in trades]
        and all(prices)
    )
    sides = [trade.side for trade in trades]
    return Columns(ids, times, prices, numbers[len(trades) :], sides) if is_fit else None


def of_trades(trades: Sequence[DecimalTrade]) -> Columns:
    """Return the columns of stored trades, which were checked before they were stored."""
    return Columns(
        [int(trade.id) for trade in trades],
        [trade.time_us for trade in trades],
        [trade.price for trade in trades],
        [trade.amount for trade in trades],
        [trade.side for trade in trades],
    )
