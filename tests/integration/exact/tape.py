"""A seeded day of trading to be published as fast as one likes, and the candles it must end in.

Its times lie in the past and its feeds' receive times with them, so minutes pass as quickly as
messages are read.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

from market_ingestor.bus import codec, subjects
from market_ingestor.model.trade import FeedPosition, Mark, Side, Source, Trade, TradeBatch

EXCHANGE: Final = "binance"
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
START_US: Final = 1_763_676_000_000_000  # 2025-11-20T22:00Z, a Thursday: a day ends in the tape
DAY_US: Final = 86_400_000_000
MINUTE_MS: Final = 60_000
FIRST_MONDAY_MS: Final = 345_600_000
MINUTES: Final = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360,
    "8h": 480, "12h": 720, "1d": 1440, "1w": 10_080,
}  # fmt: skip
BATCH_MAX: Final = 60
MARK_EVERY: Final = 10  # batches
TWICE: Final = 0.02  # share of batches that a second feed brings, too

Candle: TypeAlias = tuple[Decimal | int | str | None, ...]
Key: TypeAlias = tuple[str, str, int]  # symbol, period, open_time


class Row(NamedTuple):
    """One trade; the order of ids is the order of a venue."""

    symbol: str
    id: int
    time_us: int
    price: str
    amount: str
    side: Side


class Message(NamedTuple):
    """What is published, and under which id."""

    subject: str
    payload: bytes
    id: str


def made(seed: int, count: int, span_us: int) -> list[Row]:
    """Return trades in the order of time, spread unevenly over a span."""
    rng = random.Random(seed)
    times = sorted(START_US + int(rng.random() * span_us) for _ in range(count))
    ids = {symbol: 10**6 * (number + 1) for number, symbol in enumerate(SYMBOLS)}
    rows = []
    for time_us in times:
        symbol = rng.choice(SYMBOLS)
        ids[symbol] += 1
        price = Decimal(rng.randrange(1, 10**7)).scaleb(-rng.randrange(1, 6))
        amount = Decimal(rng.randrange(1, 10**9)).scaleb(-8)
        side: Side = rng.choice(("buy", "sell"))
        rows.append(Row(symbol, ids[symbol], time_us, f"{price:f}", f"{amount:f}", side))
    return rows


class Feed:
    """One connection, or one refill, and what it has sent of each symbol."""

    def __init__(self, name: str, source: Source = "ws") -> None:
        self.name = name
        self._source = source
        self._positions: dict[str, FeedPosition] = {}

    def batch(self, rows: list[Row], received_us: int, prev_id: str | None = None) -> Message:
        """Return trades of one symbol as a message."""
        symbol = rows[0].symbol
        before = self._positions.get(symbol, FeedPosition(n=0, id=None))
        self._positions[symbol] = FeedPosition(n=before.n + 1, id=str(rows[-1].id))
        batch = TradeBatch[str](
            v=1, exchange=EXCHANGE, symbol=symbol, feed=self.name, n=before.n + 1,
            source=self._source, received_us=received_us, prev_id=prev_id or before.id,
            trades=[
                Trade[str](id=str(row.id), price=row.price, amount=row.amount, side=row.side,
                           time_us=row.time_us)
                for row in rows
            ],
        )  # fmt: skip
        return Message(
            subjects.raw(EXCHANGE, symbol),
            codec.encode(batch),
            subjects.batch_id(self.name, symbol, before.n + 1),
        )

    def mark(self, received_us: int) -> Message:
        """Return a mark of this instant."""
        mark = Mark(
            v=1, exchange=EXCHANGE, feed=self.name, received_us=received_us,
            symbols=dict(self._positions), end=False,
        )  # fmt: skip
        return Message(
            subjects.mark(EXCHANGE), codec.encode(mark), subjects.mark_id(self.name, received_us)
        )


def messages(rows: list[Row], seed: int, *, late: float = 0.0) -> Iterator[Message]:
    """Yield the messages of a feed, with marks between and one eight days on at the end.

    Args:
        late: Share of trades that a refill brings long after their window has closed.
    """
    rng = random.Random(seed)
    feed, second, refill = Feed("f"), Feed("second"), Feed("refill", "rest")
    held: list[Row] = []
    number = 0
    at = 0
    while at < len(rows):
        number += 1
        size = rng.randrange(1, BATCH_MAX)
        part, at = rows[at : at + size], at + size
        now_us = min(row.time_us for row in part) + 50_000
        held += [row for row in part if rng.random() < late]
        missing = set(held)
        by_symbol: defaultdict[str, list[Row]] = defaultdict(list)
        for row in part:
            if row not in missing:
                by_symbol[row.symbol].append(row)
        for inside in by_symbol.values():
            yield feed.batch(inside, now_us)
            if rng.random() < TWICE:
                yield second.batch(inside, now_us + 1_000)
        if number % MARK_EVERY == 0:
            yield feed.mark(now_us + 1_000)
            chosen, held = held[: len(held) // 2], held[len(held) // 2 :]
            yield from refilled(refill, chosen, now_us)
    yield from refilled(refill, held, rows[-1].time_us)
    # A week and a day: the longest window has ended, and no trade remains in an open one.
    for step in range(1, 9):
        yield feed.mark(rows[-1].time_us + step * DAY_US)


def refilled(refill: Feed, rows: Iterable[Row], now_us: int) -> Iterator[Message]:
    """Yield what a refill brings, each trade in a batch of its own."""
    for row in rows:
        yield refill.batch([row], now_us, prev_id=str(row.id - 1))


def opening(time_ms: int, minutes: int) -> int:
    """Return where the window of so many minutes begins; weeks begin on Monday."""
    offset = FIRST_MONDAY_MS if minutes == MINUTES["1w"] else 0
    return (time_ms - offset) // (minutes * MINUTE_MS) * (minutes * MINUTE_MS) + offset


def candles(rows: Iterable[Row], periods: Mapping[str, int] = MINUTES) -> dict[Key, Candle]:
    """Return every candle of the trades, folded the plain way from all of them at once."""
    ordered = sorted(rows)
    windows: defaultdict[Key, list[tuple[Row, Decimal, Decimal]]] = defaultdict(list)
    for row in ordered:
        numbers = (row, Decimal(row.price), Decimal(row.amount))
        for period, minutes in periods.items():
            windows[row.symbol, period, opening(row.time_us // 1_000, minutes)].append(numbers)
    return {key: _candle(inside) for key, inside in windows.items()}


def _candle(inside: list[tuple[Row, Decimal, Decimal]]) -> Candle:
    prices = [price for _, price, _ in inside]
    bought = [(price, amount) for row, price, amount in inside if row.side == "buy"]
    zero = Decimal(0)
    return (
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum((amount for _, _, amount in inside), zero),
        sum((price * amount for _, price, amount in inside), zero),
        sum((amount for _, amount in bought), zero),
        sum((price * amount for price, amount in bought), zero),
        len(inside),
        str(inside[0][0].id),
        str(inside[-1][0].id),
    )
