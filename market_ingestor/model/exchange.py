"""Names of exchanges, and how simulated ones are told from real ones."""

import re
from typing import Final

SIMULATED_PREFIX: Final = "sim-"
# What there are simulators for; the first of them unless others are asked for.
SIMULATED_BY_DEFAULT: Final = ("binance", "okx", "bybit", "coinbase", "kraken")
SIMULATED: Final = (*SIMULATED_BY_DEFAULT, "finnhub")

_EXCHANGE: Final = re.compile(r"[a-z0-9-]{1,24}")
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,64}")


def is_simulated(exchange: str) -> bool:
    """Return whether ``exchange`` carries simulated data."""
    return exchange.startswith(SIMULATED_PREFIX)


def simulated_name(exchange: str) -> str:
    """Return the exchange name under which ``exchange``'s simulator is published."""
    return exchange if is_simulated(exchange) else SIMULATED_PREFIX + exchange


def venue_name(exchange: str) -> str:
    """Return the venue whose protocol ``exchange`` speaks: ``sim-okx`` speaks ``okx``."""
    return exchange.removeprefix(SIMULATED_PREFIX)


def is_exchange_name(text: str) -> bool:
    """Return whether ``text`` may stand for an exchange in subjects and tables."""
    return _EXCHANGE.fullmatch(text) is not None


def is_symbol_name(text: str) -> bool:
    """Return whether ``text`` may stand for a symbol in subjects and tables."""
    return _SYMBOL.fullmatch(text) is not None
