"""Every endpoint there is: ours, and those that look like Binance's. Pure."""

from typing import Final

from market_ingestor.api.binance.endpoints import BINANCE_ENDPOINTS
from market_ingestor.api.endpoints import ENDPOINTS, Endpoint

ALL_ENDPOINTS: Final[tuple[Endpoint, ...]] = (*ENDPOINTS, *BINANCE_ENDPOINTS)
