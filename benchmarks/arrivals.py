"""A push client that knows when the venue sent each trade it is told of.

The load's amounts are instants (`load.stamp`), so a trade tells its own age, and a candle that of
its newest trades. Trades and candles come on a connection each: neither waits behind the other.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.load import age_us
from market_ingestor.simulator.hub import now_us

LATENESS_US: Final = 2_000_000  # the default of ``klines.lateness_s``
MINUTE_US: Final = 60_000_000
TRADES: Final = "trade.*.*"
CANDLES: Final = "kline.*.*.1m"
CLOSE_WAIT_S: Final = 1

Instrument: TypeAlias = tuple[str, str]


class _Trade(msgspec.Struct, gc=False):
    id: str
    amount: str
    time_us: int


class _Batch(msgspec.Struct, gc=False):
    exchange: str
    symbol: str
    trades: list[_Trade]


class _Candle(msgspec.Struct, gc=False):
    exchange: str
    symbol: str
    close_time: int
    last_trade_id: str | None
    closed: bool
    revision: int


class _Trades(msgspec.Struct, tag="trades", tag_field="type", gc=False):
    data: _Batch


class _Kline(msgspec.Struct, tag="kline", tag_field="type", gc=False):
    data: _Candle


class _Subscribed(msgspec.Struct, tag="subscribed", tag_field="type", gc=False):
    topics: list[str]


class _Missed(msgspec.Struct, tag="missed", tag_field="type", gc=False):
    count: int


_messages: Final = msgspec.json.Decoder(_Trades | _Kline | _Subscribed | _Missed)


class Arrivals:
    """What came, and how old it was. Ages are microseconds.

    Attributes:
        trades: Of each trade.
        opened: Of each trade when the first open candle that holds it came.
        newest: Of the newest trade in the last open candle of an instrument, with its arrival.
        missed: Messages the gateway did not deliver.
    """

    def __init__(self) -> None:
        self.trades: list[int] = []
        self.opened: list[int] = []
        self.newest: dict[Instrument, tuple[int, int]] = {}
        self.missed = 0
        self._waiting: dict[Instrument, deque[tuple[int, int]]] = defaultdict(deque)
        self._minute: dict[Instrument, int] = {}
        self._may_close: dict[tuple[Instrument, int], int] = {}
        self._closed: dict[tuple[Instrument, int], int] = {}
        self._subscribed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def subscribed(self) -> None:
        """Return when both connections get what they asked for."""
        for topic in (TRADES, CANDLES):
            await self._subscribed[topic].wait()

    def forget(self) -> None:
        """Begin to measure anew; what is on its way counts already."""
        self.trades, self.opened = [], []

    def closed(self) -> list[int]:
        """Return how old each first closed candle was.

        Counted from the moment at which it could be closed: when the venue sent the instrument's
        first trade that lay at or behind the end of the window plus the lateness that is allowed.
        """
        known = self._closed.keys() & self._may_close.keys()
        return [self._closed[each] - self._may_close[each] for each in known]

    async def run(self, port: int) -> None:
        """Listen to a gateway until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for topic in (TRADES, CANDLES):
                tasks.create_task(self._listen(port, topic))

    async def _listen(self, port: int, topic: str) -> None:
        async with _connected(f"ws://127.0.0.1:{port}/ws") as client:
            await client.send(f'{{"action":"subscribe","topics":["{topic}"]}}')
            while True:
                self.take(await client.recv(decode=False), now_us())

    def take(self, frame: bytes, at_us: int) -> None:
        """Note a message of the gateway that came at an instant, Unix microseconds."""
        match _messages.decode(frame):
            case _Trades(data):
                self._take_trades(data, at_us)
            case _Kline(data):
                self._take_candle(data, at_us)
            case _Missed(count):
                self.missed += count
            case _Subscribed(topics):
                for topic in topics:
                    self._subscribed[topic].set()

    def _take_trades(self, batch: _Batch, at_us: int) -> None:
        instrument = batch.exchange, batch.symbol
        waiting = self._waiting[instrument]
        for trade in batch.trades:
            age = age_us(trade.amount, at_us)
            self.trades.append(age)
            waiting.append((int(trade.id), at_us - age))
            minute = (trade.time_us - LATENESS_US) // MINUTE_US
            if minute > self._minute.setdefault(instrument, minute):
                self._minute[instrument] = minute
                self._may_close[instrument, minute * MINUTE_US // 1_000] = at_us - age

    def _take_candle(self, candle: _Candle, at_us: int) -> None:
        instrument = candle.exchange, candle.symbol
        if candle.closed:
            if candle.revision == 1:
                self._closed[instrument, candle.close_time + 1] = at_us
            return
        waiting, newest = self._waiting[instrument], int(candle.last_trade_id or 0)
        sent_us = 0
        while waiting and waiting[0][0] <= newest:
            sent_us = waiting.popleft()[1]
            self.opened.append(at_us - sent_us)
        if sent_us:
            self.newest[instrument] = (at_us - sent_us, at_us)


def _connected(address: str) -> connect:
    options: dict[str, Any] = {"proxy": None, "max_size": None, "compression": None}
    return connect(address, max_queue=4_096, close_timeout=CLOSE_WAIT_S, **options)


async def stamped_frames(port: int, path: str, ages: list[int]) -> None:
    """Collect the ages of the load's own frames, which somebody passes on, until cancelled."""
    client: ClientConnection
    async with _connected(f"ws://127.0.0.1:{port}{path}") as client:
        while True:
            frame = await client.recv(decode=False)
            at_us = now_us()
            begin = frame.index(b'"q":"') + 5
            ages.append(age_us(frame[begin : frame.index(b'"', begin)].decode(), at_us))


def percentile(values: Sequence[int], percent: float) -> float:
    """Return the value that so many percent do not exceed, in seconds.

    Raises:
        ValueError: There is none.
    """
    if not values:
        raise ValueError("nothing came")
    ranked = sorted(values)
    return ranked[min(int(len(ranked) * percent / 100), len(ranked) - 1)] / 1e6
