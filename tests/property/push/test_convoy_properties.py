"""Riding together changes nothing: each client gets, byte for byte, what it would get alone."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_ingestor.bus import codec
from market_ingestor.model.trade import Trade, TradeBatch
from market_ingestor.push import messages, pump
from market_ingestor.push.binance.streams import AGGREGATE_TRADES, Form
from market_ingestor.push.convoys import Encoding, Seat
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import Message
from market_ingestor.push.outbox import OutboxLimits
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.subscriptions import parse_topic
from tests.property.push.test_hub_properties import kline

SYMBOLS = ("BTC", "ETH")
CROWD = tuple(f"S{number}" for number in range(6))  # more than fit into one write
TOPICS = (
    ("closed.*.*.1m",),
    ("kline.x.*.1m", "trade.*.*"),
    ("kline.x.ETH.1m", "closed.x.BTC.1m"),
)
NATIVE = range(5)
BINANCE = range(5, 7)
CLIENTS = st.sampled_from((*NATIVE, *BINANCE))
COUNTS = st.sampled_from((1, 6, 30))  # into one write, into several, and more than are kept
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("candle", "trade")), st.sampled_from(SYMBOLS), COUNTS),
        st.tuples(st.just("open"), st.sampled_from((SYMBOLS[:1], SYMBOLS[1:], CROWD))),
        st.tuples(st.just("choke"), CLIENTS, st.integers(0, 2)),
        st.tuples(st.sampled_from(("free", "part", "unsubscribe")), CLIENTS),
        st.tuples(st.just("subscribe"), st.sampled_from(NATIVE), st.sampled_from(TOPICS)),
        st.tuples(st.just("speak"), st.sampled_from(BINANCE), st.booleans()),
        st.tuples(st.just("run")),
        st.tuples(st.just("anew")),
    ),
    max_size=60,
)


class Sink:
    """A socket that keeps what is written, and is full after ``room`` more writes."""

    encode: Encoding = staticmethod(messages.lines)

    def __init__(self, *, rides: bool) -> None:
        self.got: list[bytes] = []
        self.room = math.inf
        self._rides = rides

    @property
    def buffered(self) -> int:
        return int(self.room <= 0)

    @property
    def seat(self) -> Seat | None:
        return Seat(lambda: self.buffered, self._take) if self._rides else None

    def _take(self, data: bytes) -> None:
        self.room -= 1
        self.got += data.splitlines()

    def write(self, batch: Sequence[Message], *, as_array: bool) -> None:
        assert not as_array
        self._take(messages.lines(batch))

    def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


class Rig:
    """A gateway's inside and its clients.

    Three with the same topics and two with others, and two that Binance's dialect is spoken to.
    """

    def __init__(self, *, rides: bool) -> None:
        self.hub = Hub(OutboxLimits(frames=4, bytes=100_000), 6_000)
        self.hub.begin("abcdef00", 1)
        self.pump = Pump(self.hub)
        self.sinks = [Sink(rides=rides) for _ in (*NATIVE, *BINANCE)]
        self.clients = [self.pump.join(sink, "127.0.0.1") for sink in self.sinks]
        self.sequence = 0
        self.lives = 0
        self.changes = 0
        for number in NATIVE:
            self.subscribe(self.clients[number], TOPICS[1 + number // 3])
        for number in BINANCE:
            self.speak(self.clients[number], is_combined=True)
            self.hub.subscribe(self.clients[number].outbox, [(AGGREGATE_TRADES, "x", "BTC")])
            self.pump.ready(self.clients[number])

    def subscribe(self, client: Client, topics: Sequence[str]) -> None:
        self.hub.subscribe(client.outbox, [parse_topic(each) for each in topics])
        self.pump.ready(client)

    def speak(self, client: Client, *, is_combined: bool) -> None:
        self.hub.speak(client.outbox, Form(is_combined=is_combined, is_micro=False))
        self.pump.ready(client)

    def candle(self, symbol: str) -> None:
        self.sequence += 1
        each = kline(self.sequence, symbol, closed=True)
        self.hub.candle(each, codec.encode(each), self.sequence, 0)

    def open_candles(self, symbols: Sequence[str]) -> None:
        self.changes += 1
        for symbol in symbols:
            each = kline(self.sequence + 1, symbol, closed=False, close=self.changes)
            self.hub.open_candle(each, codec.encode(each), 0)

    def trade(self, symbol: str) -> None:
        self.changes += 1
        batch = TradeBatch[str](
            v=1, exchange="x", symbol=symbol, feed="a", n=self.changes, source="ws",
            received_us=0, prev_id=None,
            trades=[Trade(id=str(self.changes), price="1", amount="1", side="buy", time_us=0)],
        )  # fmt: skip
        for outbox in self.hub.trades(batch, b"%d" % self.changes):
            self.pump.ready_outbox(outbox)

    async def do(self, operation: tuple[Any, ...]) -> None:
        match operation:
            case ("candle", symbol, count):
                for _ in range(count):
                    self.candle(symbol)
            case ("open", symbols):
                self.open_candles(symbols)
            case ("trade", symbol, count):
                for _ in range(count):
                    self.trade(symbol)
            case ("anew",):
                self.lives += 1
                self.hub.begin(f"abcdef{self.lives:02}", self.sequence + 1)
            case ("run",):
                self.pump.wake()
                while not self.pump.is_quiet:  # noqa: ASYNC110 - a few turns of the loop
                    await asyncio.sleep(0)
            case (what, number, *rest):
                self.tell(what, number, *rest)

    def tell(self, what: str, number: int, *rest: Any) -> None:
        client, sink = self.clients[number], self.sinks[number]
        if client.is_gone:
            return
        match what:
            case "choke":
                (sink.room,) = rest
            case "free":
                sink.room = math.inf
                self.pump.ready(client)
            case "part":
                self.pump.part(client)
            case "unsubscribe":
                self.hub.unsubscribe(client.outbox, [log.pattern for log in client.outbox.logs])
                self.pump.ready(client)
            case "subscribe":
                self.subscribe(client, *rest)
            case "speak":
                self.speak(client, is_combined=rest[0])


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS)
@example([("choke", 0, 1), ("open", CROWD), ("run",)])  # leaves while values wait
@example([("candle", "BTC", 1), ("run",), ("choke", 0, 0), ("candle", "BTC", 30), ("run",)])
@example([("speak", 5, False), ("trade", "BTC", 1)])
def test_riders_get_what_they_would_get_alone(operations: list[tuple[Any, ...]]) -> None:
    async def compare() -> None:
        together, apart = Rig(rides=True), Rig(rides=False)
        everybody_free = [("free", number) for number in (*NATIVE, *BINANCE)]
        for operation in (("run",), *operations, *everybody_free, ("run",)):
            await together.do(operation)
            await apart.do(operation)
        for number in (*NATIVE, *BINANCE):
            assert together.sinks[number].got == apart.sinks[number].got, number
        for name in ("sent", "dropped", "conflated"):
            mine, others = together.hub.counters, apart.hub.counters
            assert getattr(mine, name) == getattr(others, name), name
        for client in together.clients:
            assert client.is_gone or not client.outbox.queue_bytes
            together.pump.part(client)
        assert not list(together.hub.convoys.leads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pump, "TICK_S", 0.0)
        asyncio.run(compare())
