"""Whether a trade read from the bus is fit for the table and for candles. Pure.

One rule for both, so that a candle and the rows it is made of can never disagree about which
trades there are. Whoever published a trade may have been wrong.
"""

from typing import Final

from market_ingestor.model import decimals
from market_ingestor.model.trade import TRADE_ID_MAX, TextTrade

TIME_US_MAX: Final = 4_102_444_800_000_000  # the year 2100: later times are a venue's nonsense
ID_CHARS_MAX: Final = 19  # digits of the largest signed 64-bit integer


def unfit(trade: TextTrade) -> str | None:
    """Return what is wrong with a trade, None when it is fit to be stored and folded."""
    if not is_trade_id(trade.id):
        return "an id that is no 64-bit integer"
    if not 0 <= trade.time_us < TIME_US_MAX:
        return "a time outside 1970 to 2100"
    for name, text in (("price", trade.price), ("amount", trade.amount)):
        try:
            value, plain = decimals.checked(text)
        except decimals.BadNumberError as problem:
            return f"a {name} that is {problem}"
        if plain != text:
            return f"a {name} not in plain notation"
        if name == "price" and not value:
            return "a price that is zero"
    return None


def is_trade_id(text: str) -> bool:
    """Return whether ``text`` is a trade id: 1 to 19 digits that fit 64 bits, no leading zeros."""
    return (
        0 < len(text) <= ID_CHARS_MAX
        and text.isascii()
        and text.isdigit()
        and (text[0] != "0" or text == "0")
        and int(text) <= TRADE_ID_MAX
    )
