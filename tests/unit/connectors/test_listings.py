"""What other roles learn of an instrument."""

from market_ingestor.connectors.instruments import as_configured
from market_ingestor.connectors.kraken import Kraken
from market_ingestor.connectors.listings import listing_of
from market_ingestor.connectors.registry import VENUES
from market_ingestor.connectors.tcp import TcpFeed
from market_ingestor.model.instrument import InstrumentTable, VenueInstrument

KRAKEN = VenueInstrument(
    venue_symbol="BTC/USD", rest_symbol="XBTUSD", base="BTC", quote="USD", price_step="0.1"
)


def test_a_listing_says_what_the_venue_says() -> None:
    (instrument,) = InstrumentTable([KRAKEN])
    found = listing_of("sim-kraken", Kraken(), instrument)
    assert (found.symbol, found.venue_symbol, found.rest_symbol) == ("BTCUSD", "BTC/USD", "XBTUSD")
    assert (found.base, found.quote, found.price_step) == ("BTC", "USD", "0.1")
    assert (found.amount_step, found.volume_kind, found.state) == (None, "base", "active")
    assert listing_of("kraken", Kraken(), instrument, is_listed=False).state == "inactive"


def test_a_feed_of_lines_does_not_say_what_is_traded() -> None:
    (instrument,) = as_configured(["BTCUSDT"])
    found = listing_of("exchange1", TcpFeed(), instrument)
    assert (found.symbol, found.base, found.quote) == ("BTCUSDT", None, None)
    assert found.volume_kind == "updates"


def test_a_stock_is_its_own_base() -> None:
    (instrument,) = as_configured(["AAPL"])
    found = listing_of("finnhub", VENUES["finnhub"], instrument)
    assert (found.symbol, found.base, found.quote) == ("AAPL", "AAPL", None)
    assert found.volume_kind == "base"
