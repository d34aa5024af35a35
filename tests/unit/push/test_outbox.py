"""What one client gets, and what happens at its limits."""

import json
from typing import Any

from market_ingestor.bus import codec
from market_ingestor.model.kline import Kline
from market_ingestor.push import messages
from market_ingestor.push.hub import Hub
from market_ingestor.push.outbox import REPLIES_MAX, Outbox, OutboxLimits
from market_ingestor.push.subscriptions import parse_topic

MINUTE = 60_000


def kline(minute: int, symbol: str = "BTC", *, closed: bool = True, close: str = "1") -> Kline:
    return Kline(
        v=1,
        exchange="x",
        symbol=symbol,
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
        closed=closed,
        complete=True,
        revision=1 if closed else 0,
        reason="close" if closed else "open",
    )


def hub(*, frames: int = 100, size: int = 100_000, ring_bytes: int = 1_000_000) -> Hub:
    made = Hub(OutboxLimits(frames=frames, bytes=size), ring_bytes)
    made.begin("abcdef01", 1)
    return made


def close(target: Hub, sequence: int, each: Kline) -> None:
    target.candle(each, codec.encode(each), sequence, 0)


def change(target: Hub, each: Kline) -> None:
    target.open_candle(each, codec.encode(each), 0)


def take(target: Hub, outbox: Outbox) -> list[dict[str, Any]]:
    target.touched(0)
    return [json.loads(each.text) for each in outbox.take()]


def subscribed(target: Hub, *topics: str) -> Outbox:
    outbox = target.join()
    target.subscribe(outbox, [parse_topic(each) for each in topics])
    return outbox


def test_value_changed_twice_is_sent_once_with_the_newest() -> None:
    target = hub()
    outbox = subscribed(target, "kline.*.*.*")
    change(target, kline(0, closed=False, close="2"))
    change(target, kline(0, closed=False, close="3"))
    assert [each["data"]["close"] for each in take(target, outbox)] == ["3"]
    assert target.counters.conflated == 1
    assert take(target, outbox) == []


def test_overlapping_patterns_give_each_message_once() -> None:
    target = hub()
    outbox = subscribed(target, "kline.*.*.*", "kline.x.BTC.1m", "kline.x.*.1m")
    close(target, 1, kline(0))
    change(target, kline(1, closed=False))
    assert len(take(target, outbox)) == 2


def test_closed_and_kline_topics_are_two_topics() -> None:
    target = hub()
    outbox = subscribed(target, "kline.x.BTC.1m", "closed.x.BTC.1m")
    close(target, 1, kline(0))
    topics = [each["topic"] for each in take(target, outbox)]
    assert topics == ["kline.x.BTC.1m", "closed.x.BTC.1m"]


def test_new_subscriber_gets_the_newest_values_at_once() -> None:
    target = hub()
    change(target, kline(0, closed=False, close="2"))
    target.stats("x", "BTC", b'{"v":1}', 0)
    outbox = subscribed(target, "kline.*.*.1m", "stats.x.*")
    assert [each["type"] for each in take(target, outbox)] == ["kline", "stats"]


def test_open_value_of_a_closed_window_is_gone() -> None:
    target = hub()
    outbox = subscribed(target, "kline.*.*.*")
    change(target, kline(0, closed=False))
    close(target, 1, kline(0))
    change(target, kline(0, closed=False))
    assert [each["data"]["closed"] for each in take(target, outbox)] == [True]


def test_full_queue_drops_and_tells_where() -> None:
    target = hub(frames=2)
    outbox = subscribed(target, "trade.*.*")
    topic = ("trade", "x", "BTC")
    for n in range(5):
        target.passing(topic, f'{{"n":{n}}}'.encode())
    first = take(target, outbox)
    assert [each["data"]["n"] for each in first] == [0, 1]
    target.passing(topic, b'{"n":5}')
    rest = take(target, outbox) + take(target, outbox)
    assert rest[0] == {"type": "missed", "topic": "trade.x.BTC", "count": 3, "position": None}
    assert rest[1]["data"]["n"] == 5
    assert target.counters.dropped == 3


def test_newest_values_are_not_starved_by_trades() -> None:
    target = hub(frames=4)
    outbox = subscribed(target, "trade.*.*", "stats.*.*")
    for n in range(4):
        target.passing(("trade", "x", "BTC"), f'{{"n":{n}}}'.encode())
    target.stats("x", "BTC", b'{"v":1}', 0)
    assert "stats" in [each["type"] for each in take(target, outbox)]


def test_overtaken_client_is_told_and_goes_on_with_what_is_left() -> None:
    target = hub(ring_bytes=5_000)
    outbox = subscribed(target, "closed.*.*.*")
    close(target, 1, kline(0))
    assert len(take(target, outbox)) == 1
    for sequence in range(2, 12):
        close(target, sequence, kline(sequence))
    got = take(target, outbox)
    left = len(target.ring)
    assert got[0]["type"] == "missed"
    assert got[0]["topic"] == "closed.*.*.*"
    assert got[0]["count"] == 10 - left
    assert got[0]["position"] == "abcdef01-1"
    assert len(got) == left + 1


def test_held_candles_wait_and_nothing_else_does() -> None:
    target = hub()
    outbox = subscribed(target, "kline.*.*.*")
    outbox.hold()
    close(target, 1, kline(0))
    change(target, kline(1, closed=False))
    outbox.add_history(messages.message(b'{"type":"old"}'))
    assert [each.get("data", {}).get("closed") for each in take(target, outbox)] == [None, False]
    had_more = outbox.has_more
    outbox.release()
    assert (had_more, outbox.has_more) == (False, True)
    assert [each["data"]["closed"] for each in take(target, outbox)] == [True]


def test_client_that_asks_and_never_reads_is_hopeless() -> None:
    target = hub()
    outbox = target.join()
    for _ in range(REPLIES_MAX):
        outbox.reply(messages.pong(1))
    was_hopeless = outbox.is_hopeless
    outbox.reply(messages.pong(1))
    assert (was_hopeless, outbox.is_hopeless) == (False, True)


def test_keys_of_closed_windows_do_not_pile_up() -> None:
    target = hub(frames=1)
    outbox = subscribed(target, "kline.*.*.*")
    for minute in range(500):
        change(target, kline(minute, closed=False))
        close(target, minute + 1, kline(minute))
        take(target, outbox)
    assert len(outbox._pending) < 200  # noqa: SLF001 - the bound is what is tested


def test_stream_made_anew_restarts_positions() -> None:
    target = hub()
    outbox = subscribed(target, "closed.*.*.*")
    close(target, 1, kline(0))
    close(target, 2, kline(1))
    target.touched(0)
    target.begin("00000002", 1)
    close(target, 1, kline(2))
    got = take(target, outbox)
    assert got[0] == {
        "type": "missed",
        "topic": "closed.*.*.*",
        "count": 2,
        "position": "00000002-0",
    }
    assert got[1]["position"] == "00000002-1"


def test_parted_client_leaves_nothing_behind() -> None:
    target = hub()
    outbox = subscribed(target, "kline.*.*.*", "trade.x.BTC")
    target.part(outbox)
    assert target.trade_patterns() == []
    assert target.passing(("trade", "x", "BTC"), b"{}") == []
    close(target, 1, kline(0))
    assert target.touched(0) == []
