"""What the API knows before the database does."""

import msgspec

from market_ingestor.api.guard import RateLimit
from market_ingestor.api.tail import (
    Feeds,
    KlineTail,
    LatestPrices,
    OpenKlines,
    TradeTail,
    is_behind,
    overlay,
)
from market_ingestor.bus import codec
from market_ingestor.model.trade import Trade
from tests.integration.push.harness import START, batch, kline

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


def test_open_candle_is_behind_what_was_read_moments_ago() -> None:
    prices = LatestPrices()
    opened = msgspec.structs.replace(kline(0, closed=False), last_trade_id="99")
    in_window_us, behind_us = START * 1_000, (START + 60_000) * 1_000

    def after(trade_id: str, time_us: int, looks: int = 2) -> bool:
        prices.put("binance", "BTCUSDT", time_us, trade_id, "1")
        for _ in range(looks):
            prices.age()
        return is_behind(opened, prices.settled("binance", "BTCUSDT"))

    assert not is_behind(opened, None)
    assert not after("98", in_window_us - 1)
    assert not after("99", in_window_us)
    assert not after("100", in_window_us + 1, looks=1)  # whoever makes it may be reading it now
    assert after("100", in_window_us + 1)
    assert not after("101", behind_us)
    assert after("102", behind_us + 5_000_000)


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


def held(trades: TradeTail, first_us: int = 0, last_us: int = 10**18) -> list[str]:
    found = trades.trades("binance", "BTCUSDT", [(first_us - 1, last_us)])
    return sorted(each.id for each in found)


def trades_of(*ids: int) -> bytes:
    """Return a batch of trades; id and time in microseconds are the same number."""
    return codec.encode(
        msgspec.structs.replace(
            batch(1),
            trades=[
                Trade[str](id=str(n), price="1", amount="1", side=None, time_us=n) for n in ids
            ],
        )
    )


def test_unsaved_trades_are_held_once_and_by_time() -> None:
    trades = TradeTail(1_000_000)
    trades.begin(5)
    trades.add("binance", "BTCUSDT", trades_of(1, 2), 5)
    trades.add("binance", "BTCUSDT", trades_of(2, 3), 6)
    trades.add("binance", "ETHUSDT", trades_of(4), 7)
    assert held(trades) == ["1", "2", "3"]
    assert held(trades, 2, 2) == ["2"]
    trades.saved_through(5)
    assert held(trades) == ["2", "3"]
    trades.add("binance", "BTCUSDT", trades_of(9), 4)  # saved already
    assert held(trades) == ["2", "3"]
    trades.saved_through(7)
    assert (held(trades), len(trades), trades.size) == ([], 0, 0)


def test_trades_no_saver_would_store_are_not_held() -> None:
    trades = TradeTail(1_000_000)
    trades.begin(1)
    bad = trades_of(1, 2).replace(b'"price":"1"', b'"price":"NaN"', 1)
    trades.add("binance", "BTCUSDT", bad, 1)
    trades.add("binance", "BTCUSDT", b"{}", 2)
    assert held(trades) == ["2"]


def test_trades_are_whole_until_some_go_unsaved() -> None:
    trades = TradeTail(2_000)

    def is_whole() -> bool:
        return trades.is_whole

    trades.begin(1)
    assert is_whole()
    for sequence in range(1, 9):
        trades.add("binance", "BTCUSDT", trades_of(sequence), sequence)
    assert trades.size <= 2_000
    assert not is_whole()
    trades.saved_through(trades.lost_through)
    assert is_whole()
    trades.begin(100)  # what was before may be in neither
    assert not is_whole()
    trades.saved_through(99)
    assert is_whole()
