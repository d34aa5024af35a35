"""Trade batches as they lie in MARKET_RAW, made from simulated trades."""

from typing import Final, NamedTuple

from benchmarks.frames import START_US
from market_ingestor.connectors.feed import Feed
from market_ingestor.model.trade import TextTrade, Trade
from market_ingestor.simulator import markets as simulated
from market_ingestor.simulator.binance import BinanceFront
from market_ingestor.simulator.markets import Market
from market_ingestor.simulator.tape import Tape
from market_ingestor.simulator.world import World

EXCHANGE: Final = "sim-binance"


class Message(NamedTuple):
    """One message of the stream."""

    subject: str
    payload: bytes
    message_id: str


def symbols(number: int) -> list[str]:
    """Return so many symbols, all with a price near one of a made-up pair's."""
    return [f"S{index:04d}USDT" for index in range(number)]


class BatchMaker:
    """Messages of one feed, symbols in turn; ids, numbers and times go on from call to call.

    Args:
        begin_us: When its first trade was made, UTC microseconds.
    """

    def __init__(self, symbol_count: int, *, begin_us: int = START_US) -> None:
        world = World(simulated.build("binance", symbols(symbol_count)))
        front = BinanceFront(world)
        first_ids = [front.first_id(each.index, begin_us // 10**6) for each in world.markets]
        self._feed = Feed("bench-1", EXCHANGE, source="ws", has_contiguous_ids=True, simulated=True)
        self._markets = world.markets
        self._tapes = [
            Tape([market], seed="bench", time_step_us=front.time_step_us, first_ids=first_ids)
            for market in world.markets
        ]
        self._begin_us = begin_us
        self._made = 0

    def make(self, trades: int, per_message: int, *, span_s: float) -> list[Message]:
        """Return the next messages, of ``per_message`` trades each.

        Args:
            span_s: Trade time from the first to the last trade, in equal steps.
        """
        step_us = int(span_s * 1e6) * per_message // trades
        messages: list[Message] = []
        for _ in range(0, trades, per_message):
            market, tape = self._turn()
            fills = tape.take(per_message, self._begin_us, self._begin_us + step_us)
            text: list[TextTrade] = [
                Trade(
                    id=str(fill.id), price=market.price_text(fill.price),
                    amount=market.amount_text(fill.amount),
                    side="buy" if fill.is_buy else "sell", time_us=fill.time_us,
                )
                for fill in fills
            ]  # fmt: skip
            self._begin_us += step_us
            lane = self._feed.lane(market.symbol)
            lane.put(text, self._begin_us)
            messages += [
                Message(each.subject, each.payload, each.message_id) for each in lane.drain()
            ]
        return messages

    def _turn(self) -> tuple[Market, Tape]:
        index = self._made % len(self._markets)
        self._made += 1
        return self._markets[index], self._tapes[index]


def batches(trades: int, per_message: int, *, symbol_count: int, span_s: float) -> list[Message]:
    """Return messages of a new feed (`BatchMaker.make`)."""
    return BatchMaker(symbol_count).make(trades, per_message, span_s=span_s)
