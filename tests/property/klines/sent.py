"""What is sent in the model of a market: trades, batches and marks."""

from decimal import Decimal
from typing import NamedTuple

from market_ingestor.bus import codec, subjects
from market_ingestor.klines.columns import Columns
from market_ingestor.model.trade import (
    FeedPosition,
    Mark,
    Side,
    Source,
    TextTrade,
    Trade,
    TradeBatch,
)

SYMBOL = ("binance", "BTCUSDT")


class One(NamedTuple):
    """A trade; everything of it follows from its id and its time."""

    id: int
    time_us: int

    @property
    def price(self) -> Decimal:
        return Decimal(self.id * 7919 % 1000 + 1).scaleb(-2)

    @property
    def side(self) -> Side:
        return "buy" if self.id % 3 else "sell"

    def on_the_bus(self) -> TextTrade:
        return Trade(
            id=str(self.id), price=f"{self.price:f}", amount=str(self.id), side=self.side,
            time_us=self.time_us,
        )  # fmt: skip


class Sent(NamedTuple):
    """A message of the stream: a batch, or a mark when it has no trades."""

    feed: str
    n: int
    source: Source
    received_us: int
    prev_id: int | None
    last_id: int | None
    trades: tuple[One, ...]
    is_end: bool = False

    @property
    def subject(self) -> str:
        exchange, symbol = SYMBOL
        return subjects.raw(exchange, symbol) if self.trades else subjects.mark(exchange)

    @property
    def payload(self) -> bytes:
        exchange, symbol = SYMBOL
        if not self.trades:
            last_id = None if self.last_id is None else str(self.last_id)
            position = {symbol: FeedPosition(n=self.n, id=last_id)}
            return codec.encode(
                Mark(
                    v=1, exchange=exchange, feed=self.feed, received_us=self.received_us,
                    symbols=position, end=self.is_end,
                )
            )  # fmt: skip
        return codec.encode(
            TradeBatch[str](
                v=1, exchange=exchange, symbol=symbol, feed=self.feed, n=self.n,
                source=self.source, received_us=self.received_us,
                prev_id=None if self.prev_id is None else str(self.prev_id),
                trades=[each.on_the_bus() for each in self.trades],
            )
        )  # fmt: skip


def columns(trades: tuple[One, ...] | list[One]) -> Columns:
    return Columns(
        [each.id for each in trades],
        [each.time_us for each in trades],
        [each.price for each in trades],
        [Decimal(each.id) for each in trades],
        [each.side for each in trades],
    )
