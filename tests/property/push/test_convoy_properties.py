"""Riding together changes nothing: each client gets, byte for byte, what it would get alone."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.bus import codec
from market_ingestor.push import messages, pump
from market_ingestor.push.convoys import Encoding, Seat
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import Message
from market_ingestor.push.outbox import OutboxLimits
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.subscriptions import parse_topic
from tests.property.push.test_hub_properties import kline

SYMBOLS = ("BTC", "ETH")
TOPICS = (
    ("closed.*.*.1m",),
    ("kline.x.*.1m", "trade.*.*"),
    ("kline.x.ETH.1m", "closed.x.BTC.1m"),
)
CLIENTS = st.integers(0, 4)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("candle"), st.sampled_from(SYMBOLS)),
        st.tuples(st.just("open"), st.sampled_from(SYMBOLS)),
        st.tuples(st.just("trade"), st.sampled_from(SYMBOLS)),
        st.tuples(st.sampled_from(("choke", "free", "part")), CLIENTS),
        st.tuples(st.just("unsubscribe"), CLIENTS),
        st.tuples(st.just("subscribe"), CLIENTS, st.sampled_from(TOPICS)),
        st.tuples(st.just("run")),
        st.tuples(st.just("anew")),
    ),
    max_size=60,
)


class Sink:
    """A socket that keeps what is written, and may be full."""

    encode: Encoding = staticmethod(messages.lines)

    def __init__(self, *, rides: bool) -> None:
        self.got: list[bytes] = []
        self.is_full = False
        self._rides = rides

    @property
    def buffered(self) -> int:
        return int(self.is_full)

    @property
    def seat(self) -> Seat | None:
        return Seat(lambda: self.buffered, self._take) if self._rides else None

    def _take(self, data: bytes) -> None:
        self.got += data.splitlines()

    def write(self, batch: Sequence[Message], *, as_array: bool) -> None:
        assert not as_array
        self._take(messages.lines(batch))

    def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


class Rig:
    """A gateway's inside and five clients, three with the same topics and two with others."""

    def __init__(self, *, rides: bool) -> None:
        self.hub = Hub(OutboxLimits(frames=4, bytes=100_000), 6_000)
        self.hub.begin("abcdef00", 1)
        self.pump = Pump(self.hub)
        self.sinks = [Sink(rides=rides) for _ in range(5)]
        self.clients = [self.pump.join(sink, "127.0.0.1") for sink in self.sinks]
        self.sequence = 0
        self.lives = 0
        self.changes = 0
        for number, client in enumerate(self.clients):
            self.subscribe(client, TOPICS[1 + number // 3])

    def subscribe(self, client: Client, topics: Sequence[str]) -> None:
        self.hub.subscribe(client.outbox, [parse_topic(each) for each in topics])
        self.pump.ready(client)

    async def do(self, operation: tuple[Any, ...]) -> None:
        match operation:
            case ("candle", symbol):
                self.sequence += 1
                each = kline(self.sequence, symbol, closed=True)
                self.hub.candle(each, codec.encode(each), self.sequence, 0)
            case ("open", symbol):
                self.changes += 1
                each = kline(self.sequence + 1, symbol, closed=False, close=self.changes)
                self.hub.open_candle(each, codec.encode(each), 0)
            case ("trade", symbol):
                self.changes += 1
                for outbox in self.hub.passing(("trade", "x", symbol), b"%d" % self.changes):
                    self.pump.ready_outbox(outbox)
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
                sink.is_full = True
            case "free":
                sink.is_full = False
                self.pump.ready(client)
            case "part":
                self.pump.part(client)
            case "unsubscribe":
                self.hub.unsubscribe(client.outbox, [log.pattern for log in client.outbox.logs])
                self.pump.ready(client)
            case "subscribe":
                self.subscribe(client, *rest)


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS)
def test_riders_get_what_they_would_get_alone(operations: list[tuple[Any, ...]]) -> None:
    async def compare() -> None:
        together, apart = Rig(rides=True), Rig(rides=False)
        everybody_free = [("free", number) for number in range(5)]
        for operation in (("run",), *operations, *everybody_free, ("run",)):
            await together.do(operation)
            await apart.do(operation)
        for number in range(5):
            assert together.sinks[number].got == apart.sinks[number].got, number
        for name in ("sent", "dropped", "conflated"):
            mine, others = together.hub.counters, apart.hub.counters
            assert getattr(mine, name) == getattr(others, name), name
        for client in together.clients:
            together.pump.part(client)
        assert not list(together.hub.convoys.leads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pump, "TICK_S", 0.0)
        asyncio.run(compare())
