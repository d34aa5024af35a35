"""The view's lines: of the terminal's size, and telling everything without colours."""

import msgspec
import pytest

from market_ingestor.model.kline import Kline
from market_ingestor.watch.board import MARKETS_MAX, Board, Market
from market_ingestor.watch.figures import candle_rows, compact, percent, price, sparkline
from market_ingestor.watch.view import Choice, Surroundings, lines
from tests.support.played import statistics


def kline(minute: int, prices: str, *, complete: bool = True, revision: int = 1) -> Kline:
    opened, high, low, close = prices.split()
    return Kline(
        v=1, exchange="e", symbol="S", period="1m", open_time=minute * 60_000,
        close_time=minute * 60_000 + 59_999, open=opened, high=high, low=low, close=close,
        volume="1", quote_volume="1", buy_volume="1", buy_quote_volume="1", trade_count=1,
        first_trade_id="1", last_trade_id="1", closed=revision > 0, complete=complete,
        revision=revision, reason="close",
    )  # fmt: skip


def pushed(kind: str, data: object, **more: str) -> bytes:
    return msgspec.json.encode({"type": kind, "topic": "t", "data": data, **more})


def around(width: int, height: int, *, is_ascii: bool = False) -> Surroundings:
    return Surroundings(
        width=width, height=height, address="ws://h/ws", status="live", is_live=True,
        now_us=1_000_000, is_ascii=is_ascii,
    )  # fmt: skip


def board(markets: int = 30) -> Board:
    made = Board()
    for number in range(markets):
        made.take(pushed("stats", statistics("sim-e", f"S{number:03}", "67123.45")), 1_000_000)
        made.take(pushed("kline", kline(number, "1 3 1 2")), 1_000_000)
    return made


@pytest.mark.parametrize("width", [1, 20, 79, 80, 81, 200])
@pytest.mark.parametrize("height", [1, 3, 4, 15, 16, 24, 60])
@pytest.mark.parametrize("markets", [0, 1, 300])
def test_the_screen_is_exactly_filled(width: int, height: int, markets: int) -> None:
    choice = Choice(line=500)
    shown = lines(board(markets), choice, around(width, height))
    assert len(shown) == height or height <= 3
    assert {len(line.plain) for line in shown} == {width}


def test_a_terminal_without_other_characters_gets_none() -> None:
    shown = lines(board(), Choice(), around(100, 24, is_ascii=True))
    assert "\n".join(line.plain for line in shown).isascii()


def test_the_chosen_line_is_always_in_sight() -> None:
    for line in (0, 17, 29):
        text = "\n".join(each.plain for each in lines(board(), Choice(line=line), around(80, 24)))
        assert f"S{line:03}" in text


def test_candles_tell_their_state_by_shape() -> None:
    rows = candle_rows(
        [
            kline(0, "1 4 1 4"),
            kline(1, "4 4 1 1"),
            kline(2, "1 4 1 4", complete=False),
            kline(3, "2 4 1 2"),
        ],
        width=5,
        height=4,
        is_ascii=True,
    )
    assert rows == [" o#x|", " o#x|", " o#xo", " o#x|"]


def test_figures_keep_their_width() -> None:
    assert price("67123.456789", 8) == "67123.45"
    assert price("0.00000012", 6) == "0.0000"
    assert price(None, 5) == "    -"
    assert price("67123.456789", 11, 2) == "   67123.46"
    assert compact("1234567", 7) == "  1.23M"
    assert percent(-0.5, 7) == "  -0.50"
    assert sparkline([1, 2, 3], 5, "_.#") == "  _.#"
    assert sparkline([5, 5], 2, "_.#") == "__"
    assert sparkline([], 3) == "   "


def test_an_older_version_of_a_candle_changes_nothing() -> None:
    market = Market("e", "S")
    market.take(kline(0, "1 3 1 2", revision=2))
    market.take(kline(0, "1 3 1 9", revision=1))
    market.take(kline(0, "1 3 1 9", revision=0))
    assert [each.close for each in market.candles] == ["2"]


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[1]", b"\xff", b'{"type":"stats","data":{}}', b'{"type":"x"}', b"[]"]
)
def test_what_cannot_be_read_is_left_out(payload: bytes) -> None:
    made = board(1)
    made.take(payload, 1)
    assert len(made.markets) == 1


def test_markets_are_bounded() -> None:
    # One more has candles and no price.
    assert len(board(MARKETS_MAX + 5).markets) == MARKETS_MAX - 1


def test_a_lost_position_is_forgotten_and_said() -> None:
    made = board(1)
    made.take(pushed("kline", kline(0, "1 3 1 2"), position="p-1"), 1)
    assert made.position == "p-1"
    made.take(b'{"type":"error","code":"position_gone","message":"gone"}', 1)
    assert made.problem == "gone"
    assert not made.position
