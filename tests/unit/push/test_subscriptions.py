"""Topics and the index from a concrete topic to the patterns in use."""

import pytest

from market_ingestor.push.dialect import Native
from market_ingestor.push.latest import Latest
from market_ingestor.push.messages import BadRequestError
from market_ingestor.push.outbox import Outbox, OutboxLimits, PushCounters
from market_ingestor.push.ring import Ring
from market_ingestor.push.subscriptions import (
    SubscriptionIndex,
    common_pattern,
    matches,
    parse_topic,
    patterns_of,
)


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("kline.binance.BTCUSDT.1m", ("kline", "binance", "BTCUSDT", "1m")),
        ("closed.*.*.*", ("closed", "*", "*", "*")),
        ("trade.sim-okx.BTCUSDT", ("trade", "sim-okx", "BTCUSDT")),
        ("stats.*.*", ("stats", "*", "*")),
        ("event.binance._", ("event", "binance", "_")),
    ],
)
def test_topics_are_read(text: str, topic: tuple[str, ...]) -> None:
    assert parse_topic(text) == topic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kline",
        "kline.binance.BTCUSDT",
        "kline.binance.BTCUSDT.1m.more",
        "kline.binance.BTCUSDT.2m",
        "kline.binance.>.1m",
        "kline.bin*.BTCUSDT.1m",
        "kline..BTCUSDT.1m",
        "kline.binance.BTC USDT.1m",
        "kline.binance.BTC\nUSDT.1m",
        "kline.binance.BTC/USDT.1m",
        "stats.binance.\u0391",
        "book.binance.BTCUSDT",
        "kline.binance.btcusdt.1m",
        "kline.Binance.BTCUSDT.1m",
        "trade.binance._",
        "stats.binance." + "A" * 65,
        "stats.binance." + "A" * 10_000,
    ],
)
def test_what_could_be_another_subject_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_topic(text)
    assert refused.value.code == "bad_topic"


def test_patterns_of_a_topic_are_exactly_those_that_match_it() -> None:
    topic = ("kline", "a", "B", "1m")
    patterns = set(patterns_of(topic))
    assert len(patterns) == 8
    assert all(matches(pattern, topic) for pattern in patterns)
    assert not matches(("kline", "b", "*", "*"), topic)
    assert not matches(("stats", "a", "B"), topic)


def test_common_pattern_covers_all() -> None:
    patterns = [("kline", "a", "B", "1m"), ("closed", "a", "C", "1m")]
    assert common_pattern(patterns) == ("a", "*", "1m")
    assert common_pattern([("trade", "a", "B")]) == ("a", "B")


def test_route_follows_logs_that_come_and_go() -> None:
    index = SubscriptionIndex()
    topic = ("stats", "a", "B")
    assert index.route(topic) == ()
    log, is_new = index.open(("stats", "*", "B"))
    assert is_new
    assert index.open(("stats", "*", "B")) == (log, False)
    reader = Outbox(OutboxLimits(frames=1, bytes=1), PushCounters(), Native(Latest(), Ring(1)))
    log.readers[reader] = None
    assert index.route(topic) == (log,)
    index.leave(log, reader)
    assert index.route(topic) == ()
    assert len(index) == 0
