"""What is told to the other roles of the instruments a process carries. Pure."""

from market_ingestor.connectors.venue import Venue
from market_ingestor.model.instrument import Instrument
from market_ingestor.model.listing import Listing
from market_ingestor.model.trade import WIRE_VERSION


def listing_of(
    exchange: str, venue: Venue, instrument: Instrument, *, is_listed: bool = True
) -> Listing:
    """Return the listing of an instrument.

    Without a quote the symbol is all there is: its base is what is traded where the venue lists
    instruments (a stock), and unknown where symbols are only what was configured.

    Args:
        is_listed: False when the venue's newest list is without it.
    """
    listed = instrument.venue
    is_base_known = bool(listed.quote) or venue.instruments_request() is not None
    return Listing(
        v=WIRE_VERSION,
        exchange=exchange,
        symbol=instrument.symbol,
        venue_symbol=listed.venue_symbol,
        rest_symbol=listed.rest_symbol,
        base=listed.base if is_base_known else None,
        quote=listed.quote or None,
        price_step=listed.price_step,
        amount_step=listed.amount_step,
        volume_kind=venue.limits.volume_kind,
        state="active" if is_listed and listed.is_active else "inactive",
    )
