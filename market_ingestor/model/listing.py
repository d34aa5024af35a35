"""What a venue lists of the instruments that are carried, as every role may know it. Pure.

Owns how a name that somebody writes finds its instrument once the venue's own table is out of
reach: `InstrumentTable` does the same inside ingest, where all that a venue lists is known.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from market_ingestor.model.instrument import stripped

VolumeKind: TypeAlias = Literal["base", "updates"]
ListingState: TypeAlias = Literal["active", "inactive"]

NAME_CHARS_MAX: Final = 64
# No control characters: PostgreSQL refuses NUL, and nobody's name has the others.
_Name: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")
]
_Step: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,40}(\.[0-9]{1,40})?$")]


class Listing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instrument that is carried, or was.

    Attributes:
        symbol: Our one spelling.
        venue_symbol: The venue's name on its WebSocket (``BTC/USD``).
        rest_symbol: Its name in the venue's REST requests (``XBTUSD``).
        base: Code of what is traded; None where nobody says how the symbol is put together.
        quote: Code of what is paid, likewise.
        price_step: Tick size as plain decimal text, None where the venue gives none.
        amount_step: Lot size likewise.
        volume_kind: What amounts mean: traded units, or updates of a feed without amounts.
        state: Whether the venue says it trades.
    """

    v: int
    exchange: str
    symbol: str
    venue_symbol: _Name
    rest_symbol: _Name
    base: _Name | None
    quote: _Name | None
    price_step: _Step | None
    amount_step: _Step | None
    volume_kind: VolumeKind
    state: ListingState


class ListingBook:
    """The newest listing of every instrument; looked up by any spelling."""

    def __init__(self) -> None:
        self._by_exchange: dict[str, dict[str, Listing]] = {}
        self._names: dict[str, dict[str, str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_exchange.values()))

    def __iter__(self) -> Iterator[Listing]:
        for listings in self._by_exchange.values():
            yield from listings.values()

    def put(self, listing: Listing) -> None:
        """Take a listing; it replaces what was known of its instrument."""
        self._by_exchange.setdefault(listing.exchange, {})[listing.symbol] = listing
        self._names.pop(listing.exchange, None)

    def get(self, exchange: str, symbol: str) -> Listing | None:
        """Return the listing of an instrument by our spelling."""
        return self._by_exchange.get(exchange, {}).get(symbol)

    def of(self, exchange: str) -> list[Listing]:
        """Return the listings of an exchange, by symbol."""
        listings = self._by_exchange.get(exchange, {})
        return [listings[symbol] for symbol in sorted(listings)]

    def exchanges(self, symbol: str) -> list[str]:
        """Return the exchanges that list a symbol of ours."""
        return [name for name, listings in self._by_exchange.items() if symbol in listings]

    def resolve(self, exchange: str, spelling: str) -> Listing | None:
        """Return the instrument meant by our symbol, a name of the venue's, or either loosely.

        Loosely: in any case, with anything between the letters and digits. Our own symbols come
        first, so that one instrument's name at the venue never hides another.
        """
        listings = self._by_exchange.get(exchange)
        if not listings:
            return None
        names = self._names.get(exchange)
        if names is None:
            names = self._names[exchange] = _names(listings)
        symbol = names.get(spelling) or names.get(stripped(spelling))
        return None if symbol is None else listings[symbol]


def _names(listings: dict[str, Listing]) -> dict[str, str]:
    """Return every name of these instruments with its symbol, the same whatever came first."""
    names = {symbol: symbol for symbol in listings}
    ordered = [listings[symbol] for symbol in sorted(listings)]
    for each in ordered:
        names.setdefault(each.venue_symbol, each.symbol)
    for each in ordered:
        for name in (each.rest_symbol, stripped(each.venue_symbol), stripped(each.rest_symbol)):
            if name:
                names.setdefault(name, each.symbol)
    return names
