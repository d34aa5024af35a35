"""Two instruments never share a symbol, and people may spell as they like."""

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.model.instrument import InstrumentTable, VenueInstrument


def listed(venue_symbol: str, base: str, quote: str) -> VenueInstrument:
    return VenueInstrument(
        venue_symbol=venue_symbol, rest_symbol=venue_symbol, base=base, quote=quote
    )


def test_any_spelling_finds_the_instrument() -> None:
    table = InstrumentTable([listed("BTC/USD", "BTC", "USD")])
    for spelling in ("BTC/USD", "BTCUSD", "btc-usd", "BTC_USD", "btcusd"):
        found = table.resolve(spelling)
        assert found is not None
        assert found.symbol == "BTCUSD"
    assert table.resolve("ETHUSD") is None


def test_a_collision_gets_a_stable_suffix() -> None:
    table = InstrumentTable([listed("BRKB", "BRKB", ""), listed("BRK.B", "BRK.B", "")])
    symbols = {each.venue.venue_symbol: each.symbol for each in table}
    assert symbols["BRK.B"] == "BRKB"  # sorted first
    assert symbols["BRKB"].startswith("BRKBX")
    assert len(set(symbols.values())) == 2


def test_an_empty_symbol_gets_a_name() -> None:
    (only,) = InstrumentTable([listed("币安", "币", "安")])
    assert only.symbol.startswith("X")
    assert only.symbol.isascii()


@given(
    st.lists(
        st.builds(
            listed,
            st.text("ABX.-i币", min_size=1, max_size=4),
            *[st.text("ABX.i币", max_size=3)] * 2,
        ),
        unique_by=lambda each: each.venue_symbol,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_is_listed_no_two_share_a_symbol(
    instruments: list[VenueInstrument], dice: random.Random
) -> None:
    table = InstrumentTable(instruments)
    symbols = {each.venue.venue_symbol: each.symbol for each in table}
    assert len(set(symbols.values())) == len(symbols) == len(instruments)
    assert all(re.fullmatch("[A-Z0-9]+", symbol) for symbol in symbols.values())
    for each in instruments:
        found = table.resolve(each.venue_symbol)
        assert found is not None
        assert found.venue == each
    dice.shuffle(instruments)
    assert symbols == {
        each.venue.venue_symbol: each.symbol for each in InstrumentTable(instruments)
    }


def test_a_name_that_looks_like_anothers_suffixed_symbol_stays_apart() -> None:
    (suffixed,) = [
        each.symbol
        for each in InstrumentTable([listed("A.B", "AB", ""), listed("AB", "AB", "")])
        if each.venue.venue_symbol == "AB"
    ]
    # It sorts first, so the name is taken when the collision comes.
    listing = [listed("A", suffixed, ""), listed("A.B", "AB", ""), listed("AB", "AB", "")]
    assert len(InstrumentTable(listing)) == len(listing)


def test_an_instrument_listed_twice_is_one() -> None:
    table = InstrumentTable([listed("BTC/USD", "BTC", "USD"), listed("BTC/USD", "BTC", "USD")])
    assert [each.symbol for each in table] == ["BTCUSD"]
