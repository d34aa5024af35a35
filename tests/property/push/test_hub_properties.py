"""Whatever happens in whatever order: nothing is lost unseen, and every bound holds."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from market_ingestor.bus import codec
from market_ingestor.model.kline import Kline
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import MESSAGE_BYTES_MAX
from market_ingestor.push.outbox import Outbox, OutboxLimits
from market_ingestor.push.positions import parse
from market_ingestor.push.subscriptions import matches, parse_topic

FRAMES = 4
RING_BYTES = 6_000
SYMBOLS = ("BTC", "ETH")
TOPICS = ("closed.*.*.1m", "closed.x.BTC.1m", "kline.x.*.1m", "kline.x.ETH.1m")


def kline(minute: int, symbol: str, *, closed: bool, close: int = 1) -> Kline:
    return Kline(
        v=1,
        exchange="x",
        symbol=symbol,
        period="1m",
        open_time=minute * 60_000,
        close_time=minute * 60_000 + 59_999,
        open="1",
        high="1",
        low="1",
        close=str(close),
        volume="1",
        quote_volume="1",
        buy_volume="1",
        buy_quote_volume="1",
        trade_count=1,
        first_trade_id="1",
        last_trade_id="1",
        closed=closed,
        complete=True,
        revision=1 if closed else 0,
        reason="close" if closed else "open",
    )


class Reader:
    """A client, what it subscribed and when, and what it got."""

    def __init__(self, hub: Hub) -> None:
        self.outbox: Outbox = hub.join()
        self.since: dict[str, int] = {}
        self.got: dict[str, list[int]] = {"kline": [], "closed": []}
        self.missed: list[tuple[str, int, int]] = []
        self.values: dict[tuple[str, int], str] = {}
        self.trades: list[int] = []
        self.trades_missed = 0

    def read(self, message: dict[str, Any]) -> None:
        if message["type"] == "missed":
            position = parse(message["position"]) if message["position"] else None
            if position is None:
                self.trades_missed += message["count"]
            else:
                self.missed.append((message["topic"], message["count"], position.sequence))
        elif message["type"] == "trades":
            self.trades.append(message["data"]["n"])
        else:
            data = message["data"]
            if data["closed"]:
                position = parse(message["position"])
                assert position is not None
                self.got[message["topic"].partition(".")[0]].append(position.sequence)
            else:
                self.values[(data["symbol"], data["open_time"])] = data["close"]


class HubMachine(RuleBasedStateMachine):
    """One hub, several clients that read when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(OutboxLimits(frames=FRAMES, bytes=3_000), RING_BYTES)
        self.hub.begin("abcdef01", 1)
        self.sequence = 0
        self.minute = dict.fromkeys(SYMBOLS, 0)
        self.closed: dict[int, str] = {}
        self.open: dict[tuple[str, int], str] = {}
        self.readers: list[Reader] = []
        self.number = 0

    @precondition(lambda self: len(self.readers) < 3)
    @rule(topics=st.lists(st.sampled_from(TOPICS), min_size=1, unique=True))
    def join(self, topics: list[str]) -> None:
        reader = Reader(self.hub)
        self.readers.append(reader)
        self.hub.subscribe(reader.outbox, [parse_topic(each) for each in topics])
        self.hub.subscribe(reader.outbox, [parse_topic("trade.x.*")])
        reader.since = dict.fromkeys(topics, self.sequence)

    @rule(symbol=st.sampled_from(SYMBOLS), count=st.integers(1, 4))
    def close(self, symbol: str, count: int) -> None:
        for _ in range(count):
            minute = self.minute[symbol]
            self.minute[symbol] += 1
            self.sequence += 1
            self.closed[self.sequence] = symbol
            self.open.pop((symbol, minute * 60_000), None)
            each = kline(minute, symbol, closed=True)
            self.hub.candle(each, codec.encode(each), self.sequence, 0)

    @rule(symbol=st.sampled_from(SYMBOLS), ahead=st.integers(-1, 1))
    def change(self, symbol: str, ahead: int) -> None:
        minute = self.minute[symbol] + ahead
        self.number += 1
        each = kline(minute, symbol, closed=False, close=self.number)
        self.hub.open_candle(each, codec.encode(each), 0)
        if ahead >= 0:
            self.open[(symbol, minute * 60_000)] = str(self.number)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def trade(self, symbol: str) -> None:
        self.number += 1
        self.hub.passing(("trade", "x", symbol), f'{{"n":{self.number}}}'.encode())

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self._read(data.draw(st.sampled_from(self.readers)))

    def _read(self, reader: Reader) -> bool:
        self.hub.touched(0)
        messages = reader.outbox.take()
        notices = sum(1 for each in messages if b'"missed"' in each.text)
        assert len(messages) - notices <= FRAMES + 1  # both families of the last candle go together
        for each in messages:
            message = json.loads(each.text)
            if message["type"] == "kline" and not message["data"]["closed"]:
                key = (message["data"]["symbol"], message["data"]["open_time"])
                assert key in self.open, "the window closed before"
            reader.read(message)
        return reader.outbox.has_more

    @invariant()
    def bounds_hold(self) -> None:
        assert self.hub.ring.size <= RING_BYTES
        for reader in self.readers:
            assert reader.outbox.queue_bytes <= 3_000 + FRAMES * 300 + MESSAGE_BYTES_MAX // 64

    @invariant()
    def candles_come_in_order_and_once(self) -> None:
        for reader in self.readers:
            for family in reader.got.values():
                assert family == sorted(set(family))

    def teardown(self) -> None:
        for reader in self.readers:
            while self._read(reader):
                pass
            self._check_candles(reader)
            self._check_values(reader)

    def _check_candles(self, reader: Reader) -> None:
        """A client has every candle, or was told a position behind which it is."""
        for topic, since in reader.since.items():
            pattern = parse_topic(topic)
            family = pattern[0]
            due = {
                sequence
                for sequence, symbol in self.closed.items()
                if sequence > since and matches(pattern, (family, "x", symbol, "1m"))
            }
            lost = due - set(reader.got[family])
            notices = [(count, after) for name, count, after in reader.missed if name == topic]
            covered = sum(count for count, _ in notices)
            overlapping = sum(1 for each in reader.since if each.startswith(family)) > 1
            assert covered == len(lost) if not overlapping else covered >= len(lost)
            for sequence in lost:
                assert any(after < sequence for _, after in notices)

    def _check_values(self, reader: Reader) -> None:
        """What is open now reached the client in its newest version."""
        kept = {
            key: value
            for key, value in self.open.items()
            if key[1] in sorted(opened for symbol, opened in self.open if symbol == key[0])[-2:]
        }
        for topic in reader.since:
            pattern = parse_topic(topic)
            if pattern[0] != "kline":
                continue
            for (symbol, opened), value in kept.items():
                if matches(pattern, ("kline", "x", symbol, "1m")):
                    assert reader.values[(symbol, opened)] == value


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
