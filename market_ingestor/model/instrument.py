"""Instruments of a venue and the one spelling each gets here.

Owns the mapping between a venue's names and ours. It is injective: two instruments never share
a symbol, because two id sequences on one subject would be endless gaps and merged candles.
"""

import base64
import re
from collections.abc import Iterable, Iterator

import msgspec

_UNSAFE = re.compile(r"[^A-Z0-9]")


class VenueInstrument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One tradable pair as its venue lists it.

    Attributes:
        venue_symbol: The name on the WebSocket (``BTC/USD`` on Kraken).
        rest_symbol: The name in REST requests where it differs (``XBTUSD``), else the same.
        base: Canonical code of what is traded (``BTC``, never ``XBT``).
        quote: Canonical code of what is paid.
        price_step: Tick size as plain decimal text, None where the venue gives none.
        amount_step: Lot size likewise.
        is_active: Whether the venue says it trades now.
    """

    venue_symbol: str
    rest_symbol: str
    base: str
    quote: str
    price_step: str | None = None
    amount_step: str | None = None
    is_active: bool = True


class Instrument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A venue's instrument with the symbol it has on our side."""

    symbol: str
    venue: VenueInstrument


def stripped(spelling: str) -> str:
    """Return what is left of a spelling in symbols: ``btc-usdt`` and ``BTC/USDT`` are one."""
    return _UNSAFE.sub("", spelling.upper())


def _suffix(venue_symbol: str) -> str:
    """Return a stable mark, unique per venue name, of characters that symbols may have."""
    return "X" + base64.b32encode(venue_symbol.encode()).decode().rstrip("=")


class InstrumentTable:
    """Looks instruments up by our symbol, by the venue's name or by a user's spelling of either.

    Names are given in the order of the venue's names, so that the same list always gives the
    same symbols; on a collision the later name gets a suffix made from its venue name.
    """

    def __init__(self, listed: Iterable[VenueInstrument]) -> None:
        self._by_symbol: dict[str, Instrument] = {}
        self._by_venue: dict[str, Instrument] = {}
        for venue in sorted(listed, key=lambda each: each.venue_symbol):
            if venue.venue_symbol not in self._by_venue:  # listed twice, it is one all the same
                self._add(venue)

    def _add(self, venue: VenueInstrument) -> Instrument:
        symbol = stripped(venue.base + venue.quote)
        while not symbol or symbol in self._by_symbol:  # twice if a name looks like a suffixed one
            symbol += _suffix(venue.venue_symbol)
        instrument = Instrument(symbol=symbol, venue=venue)
        self._by_symbol[symbol] = instrument
        self._by_venue[venue.venue_symbol] = instrument
        return instrument

    def __len__(self) -> int:
        return len(self._by_symbol)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_symbol.values())

    def resolve(self, spelling: str) -> Instrument | None:
        """Return the instrument a person means by ``BTCUSDT``, ``btc-usdt`` or ``BTC/USDT``."""
        found = self._by_venue.get(spelling) or self._by_symbol.get(spelling)
        return found or self._by_symbol.get(stripped(spelling))


class UnlistedInstruments(InstrumentTable):
    """Of a venue that gives no list: every name may be one, and is taken as it is written."""

    def resolve(self, spelling: str) -> Instrument | None:
        """Return the instrument of this name; only a name without letters and digits has none."""
        found = super().resolve(spelling)
        if found is None and stripped(spelling):
            found = self._add(as_written(spelling))
        return found


def as_written(name: str) -> VenueInstrument:
    """Return an instrument of which nothing but the name is known."""
    return VenueInstrument(venue_symbol=name, rest_symbol=name, base=name, quote="")
