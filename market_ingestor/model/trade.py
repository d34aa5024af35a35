"""One execution, and the batch and mark that carry executions over the bus.

Wire format: contract, section 1. The number type is a parameter because the stages differ in
what they need: text is forwarded and stored digit for digit, `decimal.Decimal` is computed with.
"""

from decimal import Decimal
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

NumberT = TypeVar("NumberT", str, Decimal)

Side: TypeAlias = Literal["buy", "sell"]
Source: TypeAlias = Literal["ws", "rest"]

WIRE_VERSION = 1  # the ``v`` of every message on the bus

TRADE_ID_MAX = 2**63 - 1  # ids fit a signed 64-bit integer


class Trade(msgspec.Struct, Generic[NumberT], frozen=True, kw_only=True, gc=False):
    """One execution as the venue reported it.

    Attributes:
        id: 1-19 decimal digits, unique within (exchange, symbol); numeric order is venue order.
        price: Quote units per base unit, positive, plain notation, digits as sent.
        amount: Base units, positive (zero only from venues without amounts), digits as sent.
        side: The side of the taker; None where the venue gives none.
        time_us: The venue's trade time, UTC microseconds.
    """

    id: str
    price: NumberT
    amount: NumberT
    side: Side | None
    time_us: int


TextTrade: TypeAlias = Trade[str]
DecimalTrade: TypeAlias = Trade[Decimal]


class TradeBatch(
    msgspec.Struct, Generic[NumberT], frozen=True, kw_only=True, gc=False, omit_defaults=True
):
    """Trades of one symbol that one feed delivered together, in arrival order.

    Attributes:
        v: Version of the format, 1.
        feed: One connection (or one refill) of one process; never reused.
        n: Running number of this feed's batches of this symbol, from 1.
        source: ``ws`` for live data, ``rest`` for a refill.
        received_us: When the first trade was read from the socket, UTC microseconds.
        prev_id: The id this feed had directly before ``trades[0]``. None at the start of a feed
            and for venues without contiguous ids. In a ``rest`` batch the venue itself listed
            ``prev_id`` and the trades next to each other: ids between them do not exist.
        trades: At least one.
        simulated: True for ``sim-*`` exchanges.
    """

    v: int
    exchange: str
    symbol: str
    feed: str
    n: int
    source: Source
    received_us: int
    prev_id: str | None
    trades: list[Trade[NumberT]]
    simulated: bool = False


class FeedPosition(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How far a feed has come with one symbol: ``n`` batches sent, ``id`` the last trade's."""

    n: int
    id: str | None


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A feed's word, once a second, that it is alive and has sent all it had.

    Attributes:
        received_us: The instant this holds for, UTC microseconds.
        symbols: Every symbol whose subscription the venue confirmed on this feed.
        end: True in the feed's last mark: it stopped or was lost.
    """

    v: int
    exchange: str
    feed: str
    received_us: int
    symbols: dict[str, FeedPosition]
    end: bool
    simulated: bool = False
