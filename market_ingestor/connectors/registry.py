"""Which venue speaks an exchange's protocol, written out by hand.

Owns the list of exchanges whose feed is a `Venue`. Must never know how a venue is driven.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from market_ingestor.connectors.binance import Binance
from market_ingestor.connectors.bybit import Bybit
from market_ingestor.connectors.coinbase import Coinbase
from market_ingestor.connectors.kraken import Kraken
from market_ingestor.connectors.okx import Okx
from market_ingestor.connectors.venue import Venue
from market_ingestor.model.exchange import venue_name

VENUES: Final[Mapping[str, Venue]] = MappingProxyType(
    {
        "binance": Binance(),
        "okx": Okx(),
        "bybit": Bybit(),
        "coinbase": Coinbase(),
        "kraken": Kraken(),
    }
)


def venue_for(exchange: str) -> Venue | None:
    """Return the venue of an exchange, simulated (``sim-okx``) or real; None if it has none.

    None is an answer, not a failure: what to say about an unknown name is the caller's business.
    """
    return VENUES.get(venue_name(exchange))
