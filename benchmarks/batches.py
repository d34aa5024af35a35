"""Trade batches as they lie in MARKET_RAW, made from simulated trades."""

from itertools import count
from typing import Final, NamedTuple

from benchmarks.frames import START_US
from market_ingestor.connectors.feed import Feed
from market_ingestor.model.trade import TextTrade, Trade
from market_ingestor.simulator import markets as simulated
from market_ingestor.simulator.binance import BinanceFront
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


def batches(trades: int, per_message: int, *, symbol_count: int, span_s: float) -> list[Message]:
    """Return messages of ``per_message`` trades each of one symbol, symbols in turn.

    Args:
        span_s: Trade time from the first to the last trade, in equal steps.
    """
    world = World(simulated.build("binance", symbols(symbol_count)))
    front = BinanceFront(world)
    feed = Feed("bench-1", EXCHANGE, source="ws", has_contiguous_ids=True, simulated=True)
    messages: list[Message] = []
    step_us = int(span_s * 1e6) * per_message // trades
    first_ids = [front.first_id(each.index, START_US // 10**6) for each in world.markets]
    tapes = [
        Tape(
            [market], seed="bench", time_step_us=front.time_step_us,
            first_ids=first_ids,
        )
        for market in world.markets
    ]  # fmt: skip
    for number in count():
        if number * per_message >= trades:
            return messages
        market = world.markets[number % symbol_count]
        begin_us = START_US + number * step_us
        fills = tapes[number % symbol_count].take(per_message, begin_us, begin_us + step_us)
        text: list[TextTrade] = [
            Trade(
                id=str(fill.id), price=market.price_text(fill.price),
                amount=market.amount_text(fill.amount),
                side="buy" if fill.is_buy else "sell", time_us=fill.time_us,
            )
            for fill in fills
        ]  # fmt: skip
        lane = feed.lane(market.symbol)
        lane.put(text, begin_us + step_us)
        messages += [Message(each.subject, each.payload, each.message_id) for each in lane.drain()]
    raise AssertionError
