"""Loads a venue's list of instruments, again and again until it comes. SHELL."""

import asyncio
import random
from typing import Final

import httpx2
import structlog

from market_ingestor.connectors.backoff import Backoff
from market_ingestor.connectors.rest import RestClient
from market_ingestor.connectors.venue import Venue
from market_ingestor.errors import VenueBannedError, VenueError
from market_ingestor.model.instrument import InstrumentTable

_log = structlog.get_logger(__name__)

WAIT_S_MAX: Final = 60.0  # between attempts; without the list nothing of this exchange runs


async def load_instruments(exchange: str, venue: Venue, rest: RestClient) -> InstrumentTable:
    """Return the venue's instruments; waits and asks again whatever goes wrong."""
    backoff = Backoff(max_s=WAIT_S_MAX, rng=random.Random())
    while True:
        try:
            response = await rest.get(venue.instruments_request())
            return InstrumentTable(venue.decode_instruments(response))
        except (VenueError, httpx2.HTTPError, TimeoutError, OSError) as problem:
            wait_s = backoff.next_s()
            if isinstance(problem, VenueBannedError):
                rest.stay_away(problem.retry_after_s or wait_s)
            elif isinstance(problem, VenueError):
                wait_s = max(wait_s, problem.retry_after_s or 0.0)
            _log.warning(
                "instruments_unavailable",
                exchange=exchange,
                error=str(problem) or repr(problem),
                retry_in_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)
