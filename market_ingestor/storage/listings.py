"""Brings what venues list of the instruments carried into ``market_symbols``. SHELL."""

from itertools import groupby
from typing import Final

from market_ingestor.model.listing import Listing
from market_ingestor.storage.duties import Duty
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.timescale import Database

_COLUMNS: Final = (
    "symbol", "venue_symbol", "base", "quote", "price_step", "amount_step", "volume_kind", "state",
)  # fmt: skip


class ListingTable:
    """Listings that the table may lack. Every saver has all of them; an equal row stays."""

    def __init__(self) -> None:
        self._unsaved: dict[tuple[str, str], Listing] = {}

    def put(self, listing: Listing) -> None:
        """Take a listing; the newest of an instrument counts."""
        self._unsaved[listing.exchange, listing.symbol] = listing

    async def save(self, database: Database) -> None:
        """Write what changed, unless another saver is at it.

        Raises:
            StoreUnavailableError: The database cannot take it now; nothing is forgotten.
        """
        taken = dict(self._unsaved)
        if not taken:
            return
        async with database.transaction() as session:
            if not await session.value(QUERIES["try_duty"], Duty.WRITE_LISTINGS):
                return
            for exchange, group in groupby(sorted(taken), key=lambda key: key[0]):
                listings = [taken[key] for key in group]
                columns = [[getattr(each, name) for each in listings] for name in _COLUMNS]
                await session.fetch(QUERIES["upsert_instruments"], exchange, *columns)
        for key, listing in taken.items():
            if self._unsaved[key] is listing:
                del self._unsaved[key]
