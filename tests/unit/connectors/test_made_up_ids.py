"""Made-up ids: nineteen digits, never twice, whatever the order; and copies of whole frames."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.connectors.made_up_ids import MS_KEPT, REPEAT_S, MadeUpIds, Repeats
from market_ingestor.model.trade import TRADE_ID_MAX, TextTrade, Trade

T_MS = 1_795_186_200_123


def trade(time_ms: int = T_MS, us: int = 0) -> TextTrade:
    return Trade(id="", price="1", amount="1", side=None, time_us=time_ms * 1_000 + us)


def ids(maker: MadeUpIds, *times_ms: int, symbol: str = "AAPL") -> list[str]:
    return [each.id for each in maker.name(symbol, [trade(time_ms) for time_ms in times_ms])]


def test_an_id_is_time_connection_and_count() -> None:
    assert ids(MadeUpIds(7), T_MS, T_MS, T_MS + 1, T_MS) == [
        "1795186200123007000",
        "1795186200123007001",
        "1795186200124007000",
        "1795186200123007002",
    ]


def test_symbols_count_each_for_itself_and_connections_differ() -> None:
    maker = MadeUpIds(7)
    assert ids(maker, T_MS) == ids(maker, T_MS, symbol="MSFT")
    assert ids(MadeUpIds(8), T_MS) != ids(MadeUpIds(7), T_MS)


def test_a_trade_keeps_its_own_time() -> None:
    (named,) = MadeUpIds(0).name("AAPL", [trade(us=456)])
    assert named.time_us == T_MS * 1_000 + 456
    assert named.id == f"{T_MS}000000"


def test_behind_a_thousand_in_a_millisecond_comes_the_next() -> None:
    named = ids(MadeUpIds(1), *[T_MS] * 1_001, T_MS + 1)
    assert named[999:] == [f"{T_MS}001999", f"{T_MS + 1}001000", f"{T_MS + 1}001001"]


def test_a_time_that_was_forgotten_still_gets_an_id_of_its_own() -> None:
    maker = MadeUpIds(0)
    named = ids(maker, *range(T_MS, T_MS + 2 * MS_KEPT))
    named += ids(maker, *range(T_MS, T_MS + 5_000), T_MS)
    assert len(set(named)) == len(named)


def test_the_latest_time_fits_63_bits() -> None:
    (last,) = ids(MadeUpIds(999), 7_258_118_399_999)
    assert len(last) == 19
    assert int(last) <= TRADE_ID_MAX


@pytest.mark.parametrize("salt", [-1, 1_000])
def test_a_connection_has_three_digits(salt: int) -> None:
    with pytest.raises(ValueError, match="three digits"):
        MadeUpIds(salt)


@settings(deadline=None)
@given(st.lists(st.integers(min_value=T_MS, max_value=T_MS + 20), max_size=2_000))
def test_no_id_comes_twice(times: list[int]) -> None:
    named = ids(MadeUpIds(5), *times)
    assert len(set(named)) == len(times)
    assert all(len(each) == 19 for each in named)


def test_a_frame_equal_to_one_of_the_last_five_seconds_is_a_repeat() -> None:
    repeats = Repeats()
    assert not repeats.is_repeat(b"a", 0.0)
    assert not repeats.is_repeat(b"b", 1.0)
    assert repeats.is_repeat(b"a", 2.0)
    assert repeats.is_repeat(b"a", REPEAT_S)
    assert not repeats.is_repeat(b"a", REPEAT_S + 0.001)  # the first was too long ago
    assert repeats.is_repeat(b"b", REPEAT_S + 1.0)
