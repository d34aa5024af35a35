"""Two instruments never share a symbol, and people may spell as they like."""

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
