"""Which venue speaks an exchange's protocol, written out by hand.

Owns the list of exchanges whose feed is a `Venue`. Must never know how a venue is driven.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors.binance import Binance
from market_ingestor.connectors.bybit import Bybit
from market_ingestor.connectors.coinbase import Coinbase
from market_ingestor.connectors.finnhub import Finnhub
from market_ingestor.connectors.kraken import Kraken
from market_ingestor.connectors.okx import Okx
from market_ingestor.connectors.tcp import SCHEME, TcpFeed
from market_ingestor.connectors.venue import Venue
from market_ingestor.model.exchange import venue_name

VENUES: Final[Mapping[str, Venue]] = MappingProxyType(
    {
        "binance": Binance(),
        "okx": Okx(),
        "bybit": Bybit(),
        "coinbase": Coinbase(),
        "kraken": Kraken(),
        "finnhub": Finnhub(),
    }
)


def venue_for(exchange: str) -> Venue | None:
    """Return the venue of an exchange, simulated (``sim-okx``) or real; None if it has none.

    None is an answer, not a failure: what to say about an unknown name is the caller's business.
    """
    return VENUES.get(venue_name(exchange))


def configured_venue(exchange: str, settings: ExchangeSettings) -> Venue | None:
    """Return the venue as ``[exchanges.NAME]`` describes it; None as `venue_for`."""
    if settings.kind == "tcp":
        return TcpFeed(name=venue_name(exchange), default_amount=settings.default_amount)
    venue = venue_for(exchange)
    if isinstance(venue, Finnhub) and settings.token is not None:
        return msgspec.structs.replace(venue, token=settings.token.get_secret_value())
    return venue


def ws_base(venue: Venue, settings: ExchangeSettings) -> str:
    """Return the base address of a configured exchange's trades."""
    if settings.kind == "tcp":
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"{SCHEME}://{host}:{settings.port}"
    return settings.ws_url or venue.ws_url
