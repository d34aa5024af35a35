"""What the API knows before the database does."""

from market_ingestor.api.guard import RateLimit
from market_ingestor.api.tail import Feeds, KlineTail, LatestPrices, OpenKlines, overlay
from market_ingestor.bus import codec
from tests.integration.push.harness import START, kline

KEY = ("binance", "BTCUSDT", "1m")
EVER = (0, 2**62)


def filled(bytes_max: int = 1_000_000) -> KlineTail:
    tail = KlineTail(bytes_max)
    for sequence, each in enumerate((kline(0), kline(1), kline(0, revision=2)), 1):
        tail.add(each, codec.encode(each), sequence)
    return tail


def versions(tail: KlineTail) -> list[tuple[int, int]]:
    found = tail.klines(KEY, *EVER)
    return sorted(((each.open_time - START) // 60_000, each.revision) for each in found)


def test_newest_version_of_each_window_is_kept() -> None:
    assert versions(filled()) == [(0, 2), (1, 1)]


def test_what_is_saved_is_forgotten_but_not_a_newer_version() -> None:
    tail = filled()
    tail.saved_through(2)
    assert versions(tail) == [(0, 2)]
    tail.saved_through(3)
    assert versions(tail) == []
    assert tail.size == 0
    assert not list(tail.known())


def test_limit_of_bytes_lets_the_oldest_go_and_counts() -> None:
    tail = filled(bytes_max=1_500)
    assert tail.size <= 1_500
    assert tail.overflowed == 2
    assert versions(tail) == [(0, 2)]


def test_range_is_half_open() -> None:
    tail = filled()
    assert len(tail.klines(KEY, START, START + 60_000)) == 1
    assert tail.klines(KEY, START + 1, START + 60_000) == []


def test_open_candles_end_when_their_window_closes() -> None:
    opened = OpenKlines()
    for minute in (0, 1, 2):
        opened.put(kline(minute, closed=False))
    assert len(opened.klines(KEY, *EVER)) == 2
    opened.close(kline(1))
    assert [each.open_time for each in opened.klines(KEY, *EVER)] == [START + 120_000]


def test_overlay_takes_the_greatest_revision() -> None:
    merged = overlay([kline(0, revision=2), kline(1)], [kline(0), kline(1, revision=3)])
    assert [each.revision for each in merged.values()] == [2, 3]


def test_latest_price_goes_by_time_then_by_length_of_id_then_by_id() -> None:
    prices = LatestPrices()
    for trade_id, time_us, price in (("9", 5, "a"), ("10", 5, "b"), ("8", 5, "c"), ("99", 4, "d")):
        prices.put("x", "S", time_us, trade_id, price)
    found = prices.get("x", "S")
    assert found is not None
    assert found.price == "b"
    assert prices.get("y", "S") is None


def test_feed_is_down_after_silence() -> None:
    feeds = Feeds()
    feeds.mark("x", ["S"], 100)
    assert feeds.state("x", "S", 110, 20) == "up"
    assert feeds.state("x", "S", 121, 20) == "down"
    assert feeds.state("x", "T", 110, 20) is None


def test_rate_limit_fills_again() -> None:
    limit = RateLimit(2)
    assert [limit.wait_s("a", 0.0) for _ in range(4)] == [0, 0, 0, 0]
    assert limit.wait_s("a", 0.0) == 0.5
    assert limit.wait_s("b", 0.0) == 0
    assert limit.wait_s("a", 0.5) == 0
    assert RateLimit(0).wait_s("a", 0.0) == 0
