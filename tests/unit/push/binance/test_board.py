"""What Binance streams show, and when: driven by hand, second by second."""

import json
from typing import Any

from market_ingestor.bus import codec
from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import Trade, TradeBatch
from market_ingestor.push.binance.board import SETTLING_S
from market_ingestor.push.binance.streams import KLINES, TRADES, VERSIONS, Form
from market_ingestor.push.hub import Hub
from market_ingestor.push.outbox import Outbox, OutboxLimits

MINUTE = 60_000
STREAM = (KLINES, "x", "BTC", "1m")
RAW = Form(is_combined=False, is_micro=False)


def kline(minute: int, close: str = "1", *, revision: int = 0) -> Kline:
    return Kline(
        v=1,
        exchange="x",
        symbol="BTC",
        period="1m",
        open_time=minute * MINUTE,
        close_time=minute * MINUTE + MINUTE - 1,
        open="1",
        high="1",
        low="1",
        close=close,
        volume="1",
        quote_volume="1",
        buy_volume="1",
        buy_quote_volume="1",
        trade_count=1,
        first_trade_id="1",
        last_trade_id="1",
        closed=revision > 0,
        complete=True,
        revision=revision,
        reason="open" if not revision else "close" if revision == 1 else "late",
    )


class Bench:
    """A hub, one client, and the clock."""

    def __init__(self, *topics: tuple[str, ...], frames: int = 100, ring: int = 100_000) -> None:
        self.hub = Hub(OutboxLimits(frames=frames, bytes=100_000), ring)
        self.hub.begin("abcdef01", 1)
        self.outbox = self.join(*topics)
        self.now = 0.0
        self.sequence = 0
        self.hub.touched(self.now)
        self.now = SETTLING_S

    def join(self, *topics: tuple[str, ...], form: Form = RAW) -> Outbox:
        outbox = self.hub.join()
        outbox.dialect = self.hub.binance(form)
        self.hub.subscribe(outbox, topics)
        return outbox

    def open(self, minute: int, close: str = "1") -> None:
        each = kline(minute, close)
        self.hub.open_candle(each, codec.encode(each), 7_000)

    def close(self, minute: int, revision: int = 1) -> None:
        self.sequence += 1
        each = kline(minute, revision=revision)
        self.hub.candle(each, codec.encode(each), self.sequence, 8_000)

    def take(self, outbox: Outbox | None = None) -> list[Any]:
        self.hub.touched(self.now)
        return [json.loads(each.text) for each in (outbox or self.outbox).take()]

    def seen(self) -> list[tuple[int, bool, str]]:
        """Return minute, whether closed, and close of every event now."""
        return [(e["k"]["t"] // MINUTE, e["k"]["x"], e["k"]["c"]) for e in self.take()]


def test_open_candles_come_at_most_once_a_second_in_their_newest_state() -> None:
    bench = Bench(STREAM)
    bench.open(0, "1")
    assert bench.seen() == [(0, False, "1")]
    for step in range(9):
        bench.now += 0.1
        bench.open(0, f"2{step}")
        assert bench.seen() == []
    assert bench.hub.due_at == SETTLING_S + 1
    bench.now = SETTLING_S + 1
    assert bench.seen() == [(0, False, "28")]
    bench.now += 5
    assert bench.seen() == [], "nothing changed"


def test_window_waits_for_the_closed_event_of_the_one_before() -> None:
    bench = Bench(STREAM)
    bench.open(0)
    assert bench.seen() == [(0, False, "1")]
    bench.now += 2
    bench.open(1, "5")
    bench.open(0, "2")
    assert bench.seen() == [], "two are open: the older one's next event is its last"
    bench.now += 2
    bench.close(0)
    assert bench.seen() == [(0, True, "1")]
    bench.now += 1
    assert bench.seen() == [(1, False, "5")]


def test_each_window_closes_once_and_in_order() -> None:
    bench = Bench(STREAM)
    for minute, revision in ((1, 1), (1, 2), (0, 1), (2, 1), (1, 3), (2, 2)):
        bench.close(minute, revision)
    assert [(minute, closed) for minute, closed, _ in bench.seen()] == [(1, True), (2, True)]


def test_revisions_come_where_they_are_asked_for() -> None:
    bench = Bench((VERSIONS, "x", "BTC", "1m"))
    for minute, revision in ((1, 1), (0, 1), (1, 2)):
        bench.close(minute, revision)
    got = [(each["k"]["t"] // MINUTE, each["revision"]) for each in bench.take()]
    assert got == [(1, 1), (0, 1), (1, 2)]


def test_there_is_no_snapshot() -> None:
    bench = Bench(STREAM)
    bench.close(0)
    bench.open(1)
    late = bench.join(STREAM)
    assert bench.take(late) == []
    bench.close(1)
    assert [each["k"]["x"] for each in bench.take(late)] == [True]


def test_window_that_began_before_us_waits_for_what_may_still_close() -> None:
    bench = Bench(STREAM)
    bench.now = 0.5
    bench.open(5, "5")
    assert bench.seen() == [], "minute 4 may be open: nobody told yet"
    bench.close(4)
    assert bench.seen() == [(4, True, "1")]
    bench.now = 1.5
    assert bench.seen() == [(5, False, "5")]


def test_window_that_nothing_precedes_is_shown_after_a_while() -> None:
    bench = Bench(STREAM)
    bench.now = 0.5
    bench.open(5, "5")
    assert bench.seen() == []
    assert bench.hub.due_at == SETTLING_S
    bench.now = SETTLING_S
    assert bench.seen() == [(5, False, "5")]


def test_forms_are_made_once_for_all_that_read_them() -> None:
    bench = Bench(STREAM)
    combined = Form(is_combined=True, is_micro=True)
    one, two = bench.join(STREAM, form=combined), bench.join(STREAM, form=combined)
    bench.open(0)
    bench.close(0)
    bench.open(1)
    bench.hub.touched(bench.now)
    bench.now += 1
    bench.hub.touched(bench.now)
    first, second = one.take(), two.take()
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, True]
    event = json.loads(first[0].text)
    assert event["stream"] == "btc@kline_1m"
    assert event["data"]["E"] == 8_000
    assert event["data"]["k"]["T"] == 59_999_999
    assert bench.take()[0]["E"] == 8


def test_client_that_loses_candles_is_given_up() -> None:
    bench = Bench(STREAM, ring=4_000)
    for minute in range(10):
        bench.close(minute)
    bench.take()
    assert bench.outbox.is_hopeless


def trades(*ids: int, source: Any = "ws") -> tuple[TradeBatch[str], bytes]:
    each = TradeBatch[str](
        v=1,
        exchange="x",
        symbol="BTC",
        feed="f",
        n=1,
        source=source,
        received_us=1_000,
        prev_id=None,
        trades=[
            Trade[str](id=str(n), price="1", amount="1", side="sell", time_us=5_000) for n in ids
        ],
    )
    return each, codec.encode(each)


def frames(data: bytes) -> list[Any]:
    """Return the messages of short and middle-sized text frames."""
    found = []
    while data:
        assert data[0] == 0x81
        size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
        found.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return found


def test_trades_come_once_each_and_refilled_ones_not() -> None:
    bench = Bench((TRADES, "x", "BTC"))
    bench.hub.trades(*trades(5, 6))
    bench.hub.trades(*trades(6, 7, 5))
    bench.hub.trades(*trades(1, 2, source="rest"))
    bench.hub.trades(*trades(5, 6, 7))
    got = [event for each in bench.outbox.take() for event in frames(each.text)]
    assert [each["t"] for each in got] == [5, 6, 7]
    assert all(each["m"] for each in got)
    assert bench.hub.counters.sent == 3
