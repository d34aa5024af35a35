"""The instruments a simulated venue lists, spelled and priced the way that venue does it.

Owns names, tick sizes and how many digits a venue writes. Must never know about sockets, clocks
or trades. A simulator defines its instruments, so cutting a symbol into base and quote is right
here and nowhere else.
"""

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from market_ingestor.model.exchange import SIMULATED, SIMULATED_BY_DEFAULT

VENUES: Final = SIMULATED_BY_DEFAULT
ALL_VENUES: Final = SIMULATED

_QUOTES: Final = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")  # longest spelling first where nested
_NOTIONAL: Final = 500  # quote units in a typical trade: a plausible retail size

# base: (price, digits of the tick, digits of the lot on Binance), about what the pairs cost late
# in 2026, so that numbers have realistic lengths.
_KNOWN: Final[dict[str, tuple[str, int, int]]] = {
    "BTC": ("91234.56", 2, 5),
    "ETH": ("3012.34", 2, 4),
    "SOL": ("142.17", 2, 3),
    "XRP": ("2.2041", 4, 1),
    "DOGE": ("0.16012", 5, 0),
    "ADA": ("0.5123", 4, 1),
    "LTC": ("95.12", 2, 3),
    "LINK": ("14.32", 2, 2),
}
_STOCKS: Final[dict[str, str]] = {
    "AAPL": "231.45",
    "MSFT": "497.30",
    "NVDA": "178.21",
    "AMZN": "221.74",
    "GOOGL": "289.05",
    "META": "612.80",
    "TSLA": "402.10",
    "BRK.B": "508.60",
}
_STOCK_PLACES: Final = 2
_COARSE_TICK: Final = {"BTC": 1}  # OKX, Bybit and Kraken quote BTC with one digit
_COARSE_VENUES: Final = frozenset({"okx", "bybit", "kraken"})
_DEFAULT_PLACES: Final = 4  # tick of a made-up pair
_DEFAULT_LOT: Final = 2  # lot digits of a made-up pair on Binance
_FULL_PLACES: Final = 8  # Binance, Coinbase and Kraken write amounts with eight digits
_LOT_PLACES: Final = {"okx": 8, "bybit": 6, "coinbase": 8, "kraken": 8}
_PRICE_LEVELS: Final = 40_000  # made-up prices lie between 1 and 400 with four digits

# Kraken's three name spaces: what REST calls an asset, and its old code with a class letter.
_KRAKEN_ASSET: Final = {"BTC": "XBT", "DOGE": "XDG"}
_KRAKEN_CLASSED: Final = frozenset({"BTC", "ETH", "XRP", "LTC"})

_ZEROS: Final = tuple("0" * pad for pad in range(_FULL_PLACES + 1))  # by number of them


class Market(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instrument of one venue; prices and amounts elsewhere are integers in its units.

    Attributes:
        index: Position in the venue's list; trades refer to it.
        native: Name on the WebSocket.
        rest_name: Name REST is asked with.
        rest_key: Name REST answers with (differs on Kraken only).
        price_places: Digits behind the point of one price unit.
        price_pad: Zeros the venue writes behind them.
        amount_places: Digits behind the point of one amount unit; ``amount_pad`` likewise.
        is_stripped: Whether the venue drops trailing zeros.
        start_price: Where the walk begins, in price units.
        typical_amount: Mean size of a trade, in amount units, at least 1.
    """

    index: int
    native: str
    rest_name: str
    rest_key: str
    base: str
    quote: str
    price_places: int
    price_pad: int = 0
    amount_places: int
    amount_pad: int = 0
    is_stripped: bool = False
    start_price: int = 1
    typical_amount: int = 1

    @property
    def symbol(self) -> str:
        """The one spelling of the instrument outside the venue: base and quote joined."""
        return self.base + self.quote

    def price_text(self, units: int) -> str:
        """Return a price as the venue writes it."""
        digits, places = str(units), self.price_places
        if self.is_stripped or len(digits) <= places:
            return _text(units, places, self.price_pad, is_stripped=self.is_stripped)
        return f"{digits[:-places]}.{digits[-places:]}{_ZEROS[self.price_pad]}"

    def amount_text(self, units: int) -> str:
        """Return an amount as the venue writes it, always in plain notation."""
        digits, places = str(units), self.amount_places
        if self.is_stripped or not places:
            return _text(units, places, self.amount_pad, is_stripped=self.is_stripped)
        if len(digits) <= places:
            return f"0.{digits:0>{places}}{_ZEROS[self.amount_pad]}"
        return f"{digits[:-places]}.{digits[-places:]}{_ZEROS[self.amount_pad]}"

    def value_text(self, units: int) -> str:
        """Return a product of a price and an amount, exact, without trailing zeros."""
        places = self.price_places + self.amount_places
        return _text(units, places, 0, is_stripped=True)

    @property
    def tick_text(self) -> str:
        """The smallest price step."""
        return _text(1, self.price_places, 0, is_stripped=False)

    @property
    def lot_text(self) -> str:
        """The smallest amount step."""
        return _text(1, self.amount_places, 0, is_stripped=False)


def _text(units: int, places: int, pad: int, *, is_stripped: bool) -> str:
    digits = str(units)
    if not places:
        return f"{digits}.{'0' * pad}" if pad else digits
    if len(digits) <= places:
        digits = digits.zfill(places + 1)
    if not is_stripped:
        return f"{digits[:-places]}.{digits[-places:]}{'0' * pad}"
    fraction = digits[-places:].rstrip("0")
    return f"{digits[:-places]}.{fraction}" if fraction else digits[:-places]


def default_symbols(venue: str) -> tuple[str, ...]:
    """Return the symbols a venue lists when none were asked for."""
    if venue == "finnhub":
        return tuple(_STOCKS)
    quote = "USD" if venue in {"coinbase", "kraken"} else "USDT"
    return tuple(base + quote for base in _KNOWN)


def split(symbol: str) -> tuple[str, str]:
    """Return base and quote of ``BTCUSDT``, ``BTC-USDT``, ``BTC_USDT`` or ``BTC/USDT``.

    Raises:
        ValueError: No separator and no quote currency the simulator knows at the end.
    """
    text = symbol.upper()
    for separator in "-/_":
        base, found, quote = text.partition(separator)
        if found and base and quote:
            return base, quote
    for quote in _QUOTES:
        if text.endswith(quote) and len(text) > len(quote):
            return text[: -len(quote)], quote
    raise ValueError(f"cannot tell base and quote of {symbol!r}: write it with a dash")


def build(venue: str, symbols: Iterable[str]) -> list[Market]:
    """Return the instruments of ``venue`` for ``symbols``, each once, in the given order.

    Raises:
        ValueError: The venue is not simulated, or a symbol cannot be split.
    """
    if venue not in ALL_VENUES:
        raise ValueError(f"unknown venue {venue!r}: one of {', '.join(ALL_VENUES)}")
    if venue == "finnhub":
        names = dict.fromkeys(symbol.upper() for symbol in symbols)
        return [_stock(index, name) for index, name in enumerate(names)]
    pairs = dict.fromkeys(split(symbol) for symbol in symbols)
    return [_market(venue, index, *pair) for index, pair in enumerate(pairs)]


def recorded(index: int, base: str, quote: str, start_price: int) -> Market:
    """Return the Binance instrument of a recorded tape: eight digits, as that venue writes them."""
    return Market(
        index=index,
        native=base + quote,
        rest_name=base + quote,
        rest_key=base + quote,
        base=base,
        quote=quote,
        price_places=_FULL_PLACES,
        amount_places=_FULL_PLACES,
        start_price=start_price,
    )


def by_name(markets: Sequence[Market]) -> dict[str, Market]:
    """Index markets by every name REST or the WebSocket may use."""
    return {
        name: market
        for market in markets
        for name in (market.native, market.rest_name, market.rest_key)
    }


def _stock(index: int, name: str) -> Market:
    """Return a stock: named by its ticker alone, traded in whole shares, JSON numbers."""
    price = _STOCKS.get(name) or _priced(name, "")[0]
    start = int(Decimal(price).scaleb(_STOCK_PLACES))
    return Market(
        index=index,
        native=name,
        rest_name=name,
        rest_key=name,
        base="".join(filter(str.isalnum, name)),
        quote="",
        price_places=_STOCK_PLACES,
        amount_places=0,
        is_stripped=True,
        start_price=start,
        typical_amount=max(_NOTIONAL * 10**_STOCK_PLACES // start, 1),
    )


def _market(venue: str, index: int, base: str, quote: str) -> Market:
    price, places, lot = _priced(base, quote)
    if venue in _COARSE_VENUES:
        places = _COARSE_TICK.get(base, places)
    amount_places = _LOT_PLACES.get(venue, lot)
    is_padded = venue == "binance"
    start = max(int(Decimal(price).scaleb(places)), 1)
    typical = _NOTIONAL * 10**amount_places * 10**places // start
    native, rest_name, rest_key = _names(venue, base, quote)
    return Market(
        index=index,
        native=native,
        rest_name=rest_name,
        rest_key=rest_key,
        base=base,
        quote=quote,
        price_places=places,
        price_pad=_FULL_PLACES - places if is_padded else 0,
        amount_places=amount_places,
        amount_pad=_FULL_PLACES - amount_places if is_padded else 0,
        is_stripped=venue == "okx",
        start_price=start,
        typical_amount=max(typical, 1),
    )


def _priced(base: str, quote: str) -> tuple[str, int, int]:
    known = _KNOWN.get(base)
    if known is not None and quote.startswith(("USD", "EUR")):
        return known
    number = int.from_bytes(hashlib.blake2b(f"{base}/{quote}".encode(), digest_size=4).digest())
    units = 10**_DEFAULT_PLACES + number % (_PRICE_LEVELS * 100)
    return _text(units, _DEFAULT_PLACES, 0, is_stripped=False), _DEFAULT_PLACES, _DEFAULT_LOT


def _names(venue: str, base: str, quote: str) -> tuple[str, str, str]:
    match venue:
        case "okx" | "coinbase":
            name = f"{base}-{quote}"
            return name, name, name
        case "kraken":
            asset = _KRAKEN_ASSET.get(base, base)
            altname = asset + quote
            is_classed = base in _KRAKEN_CLASSED and quote in {"USD", "EUR"}
            return f"{base}/{quote}", altname, f"X{asset}Z{quote}" if is_classed else altname
        case _:
            name = base + quote
            return name, name, name
