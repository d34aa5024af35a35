"""Flat candles between candles."""

from market_ingestor.api.flat import filled
from market_ingestor.model.kline import Kline
from tests.integration.push.harness import MINUTE, START, kline


def at(minute: int) -> int:
    return START + minute * MINUTE


def shown(found: list[Kline]) -> list[tuple[int, int, str]]:
    return [((each.open_time - START) // MINUTE, each.trade_count, each.close) for each in found]


def test_every_window_between_candles_is_there_once() -> None:
    found = filled([kline(2, close="7"), kline(4)], kline(0, close="5"), None, at(1), at(6))
    assert shown(found) == [
        (1, 0, "5"), (2, 345, "7"), (3, 0, "7"), (4, 345, "67149.99"), (5, 0, "67149.99"),
    ]  # fmt: skip
    flat = found[0]
    assert (flat.open, flat.high, flat.low, flat.volume) == ("5", "5", "5", "0")
    assert (flat.first_trade_id, flat.revision, flat.closed) == (None, 0, True)
    assert flat.close_time == at(2) - 1


def test_nothing_is_made_up_before_the_first_candle() -> None:
    assert shown(filled([kline(2)], None, None, at(0), at(3))) == [(2, 345, "67149.99")]
    assert filled([], None, kline(9), at(0), at(3)) == []


def test_flat_is_complete_where_ids_leave_no_room() -> None:
    before = kline(0, last_trade_id="9")
    (near,) = filled([], before, kline(2, first_trade_id="10"), at(1), at(2))
    (far,) = filled([], before, kline(2, first_trade_id="11"), at(1), at(2))
    (last,) = filled([], before, None, at(1), at(2))
    assert (near.complete, far.complete, last.complete) == (True, False, False)
