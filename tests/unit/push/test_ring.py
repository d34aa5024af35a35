"""The shared ring of closed candles."""

import pytest

from market_ingestor.bus import codec
from market_ingestor.model.kline import Kline
from market_ingestor.push.positions import Position, encode, epoch_of, parse
from market_ingestor.push.ring import Ring


def kline(minute: int, symbol: str = "BTC", revision: int = 1) -> Kline:
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
        close="1",
        volume="1",
        quote_volume="1",
        buy_volume="1",
        buy_quote_volume="1",
        trade_count=1,
        first_trade_id="1",
        last_trade_id="1",
        closed=True,
        complete=True,
        revision=revision,
        reason="close",
    )


def filled(*klines: Kline, bytes_max: int = 1_000_000) -> Ring:
    ring = Ring(bytes_max)
    ring.begin("abcdef01", 1)
    for sequence, each in enumerate(klines, 1):
        ring.append(each, codec.encode(each), sequence, 0)
    return ring


def test_oldest_go_when_it_is_full() -> None:
    ring = filled(*(kline(n) for n in range(20)), bytes_max=5_000)
    assert ring.size <= 5_000
    assert 0 < len(ring) < 20
    assert ring.last_sequence == 20
    assert ring.first_sequence == 21 - len(ring)
    assert ring.covers(ring.first_sequence)
    assert not ring.covers(ring.first_sequence - 1)


def test_newest_candle_stays_however_small_the_limit() -> None:
    assert len(filled(kline(0), kline(1), bytes_max=1)) == 1


def test_after_gives_what_follows_in_order() -> None:
    ring = filled(*(kline(n) for n in range(5)))
    assert [each.sequence for each in ring.after(0, 2)] == [1, 2]
    assert [each.sequence for each in ring.after(3, 10)] == [4, 5]
    assert ring.after(5, 10) == []


def test_newest_takes_the_last_windows_in_their_newest_version() -> None:
    ring = filled(kline(0), kline(1), kline(0, revision=2), kline(2), kline(2, "ETH"))
    newest = ring.newest(("x", "BTC", "1m"), 2)
    assert [(each.open_time // 60_000, each.revision) for each in newest] == [(1, 1), (2, 1)]
    assert [each.revision for each in ring.newest(("x", "BTC", "1m"), 9)] == [2, 1, 1]
    assert ring.newest(("x", "NONE", "1m"), 2) == []


def test_sequences_grow() -> None:
    ring = filled(kline(0))
    with pytest.raises(ValueError, match="after"):
        ring.append(kline(1), b"{}", 1, 0)


def test_positions_survive_the_way_to_the_client_and_back() -> None:
    epoch = epoch_of("2025-11-20T22:00:00.123456789Z")
    assert parse(encode(epoch, 17)) == Position(epoch, 17)
    assert epoch_of("2025-11-20T22:00:01Z") != epoch


@pytest.mark.parametrize("text", ["", "17", "abcdef01", "abcdef01-", "abcdef01-x", "ABCDEF01-1"])
def test_what_is_no_position_is_none(text: str) -> None:
    assert parse(text) is None
