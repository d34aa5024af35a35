"""Loads a venue's list of instruments, again and again until it comes. SHELL."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from market_ingestor.connectors.backoff import Backoff
from market_ingestor.connectors.rest import REST_FAILURES, RestClient
from market_ingestor.connectors.venue import Venue
from market_ingestor.errors import VenueError
from market_ingestor.model.instrument import InstrumentTable, UnlistedInstruments, as_written

_log = structlog.get_logger(__name__)

WAIT_S_MAX: Final = 60.0  # between attempts; without the list nothing of this exchange runs


def as_configured(symbols: Iterable[str]) -> InstrumentTable:
    """Return instruments named as they are written; the name is all that is known of them.

    Two spellings that differ in more than letters and digits alone get different symbols, as from
    a list, but which of them gets the suffix is decided among the configured ones.
    """
    return UnlistedInstruments(map(as_written, dict.fromkeys(symbols)))


async def load_instruments(
    exchange: str,
    venue: Venue,
    rest: RestClient,
    symbols: Iterable[str],
    on_problem: Callable[[str], None],
) -> InstrumentTable:
    """Return the venue's instruments; waits and asks again whatever goes wrong.

    Args:
        symbols: As configured; they are what there is where the venue has no list, or refuses it
            to some (`Limits.lists_for_all`).
        on_problem: Told why each attempt failed.
    """
    backoff = Backoff(max_s=WAIT_S_MAX, rng=random.Random())
    request = venue.instruments_request()
    if request is None:
        return as_configured(symbols)
    while True:
        try:
            response = await rest.get(request)
            return InstrumentTable(venue.decode_instruments(response))
        except REST_FAILURES as problem:
            if isinstance(problem, VenueError) and not venue.limits.lists_for_all:
                _log.warning("symbols_as_configured", exchange=exchange, error=str(problem))
                return as_configured(symbols)
            why = str(problem) or repr(problem)
            on_problem(why)
            wait_s = rest.pause_s(problem, backoff.next_s())
            _log.warning(
                "instruments_unavailable",
                exchange=exchange,
                error=why,
                retry_in_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)
