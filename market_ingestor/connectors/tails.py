"""Asks a venue for its newest trade where the socket cannot tell what was lost before it. SHELL.

A trade lost at the end of a tape that then falls silent leaves no jump in the ids. So after every
subscription, once per symbol, the newest id of the venue's history is compared with ours. Symbols
that trade prove themselves and cost no request.
"""

import asyncio
import random
from typing import Final

import structlog

from market_ingestor.connectors.backoff import Backoff
from market_ingestor.connectors.context import ExchangeContext
from market_ingestor.connectors.intake import Track
from market_ingestor.connectors.rest import REST_FAILURES, RestClient
from market_ingestor.connectors.venue import Gap, RestRequest
from market_ingestor.errors import VenueRefusedError

_log = structlog.get_logger(__name__)

QUIET_S: Final = 1.0  # a symbol that trades within this needs no question
BEHIND_S: Final = 2.0  # what a socket that is well may be behind the venue's history
WAIT_S_MAX: Final = 60.0  # between attempts while REST answers with errors
ID_MAX: Final = 2**63 - 1  # above every id: the page asked for lies wherever the venue is now


class TailCheck:
    """Compares the newest id of subscribed symbols with the venue's. One per exchange."""

    def __init__(self, context: ExchangeContext, rest: RestClient) -> None:
        self._context = context
        self._rest = rest
        self._backoff = Backoff(max_s=WAIT_S_MAX, rng=random.Random())

    async def run(self) -> None:
        """Ask until cancelled, in the order of the subscriptions."""
        unproved = self._context.unproved
        while True:
            waiting = list(unproved)
            await asyncio.sleep(QUIET_S)
            for lane in waiting:
                track = unproved.get(lane)  # none: its connection has ended meanwhile
                if track is None or lane.has_traded or await self._try(track):
                    unproved.pop(lane, None)

    async def _try(self, track: Track) -> bool:
        """Compare one symbol; return whether it is settled."""
        request = self._context.venue.newest_request(track.instrument.venue)
        if request is None:
            return True
        try:
            await self._ask(track, request)
        except VenueRefusedError as problem:
            # It does not know the instrument any more; should trades come, their ids tell.
            _log.warning(
                "newest_trade_refused",
                exchange=self._context.exchange,
                symbol=track.instrument.symbol,
                error=str(problem),
            )
            return True
        except REST_FAILURES as problem:
            await self._wait(track, problem)
            return False
        self._backoff.reset()
        return True

    async def _ask(self, track: Track, request: RestRequest) -> None:
        response = await self._rest.get(request)
        instrument = track.instrument.venue
        gap = Gap(instrument=instrument, after_id=0, before_id=ID_MAX, from_time_us=0, to_time_us=0)
        page = self._context.venue.decode_history(gap, response)
        if page.trades:
            newest = page.trades[-1]
            now = asyncio.get_running_loop().time()
            track.finder.heard(int(newest.id), newest.time_us, now, wait_s=BEHIND_S)
            if track.finder.needs_look:
                self._context.suspects.add(track)

    async def _wait(self, track: Track, problem: Exception) -> None:
        """Wait until the venue may answer again."""
        wait_s = self._rest.pause_s(problem, self._backoff.next_s())
        _log.warning(
            "newest_trade_not_told",
            exchange=self._context.exchange,
            symbol=track.instrument.symbol,
            error=str(problem) or repr(problem),
            retry_in_s=round(wait_s, 1),
        )
        await asyncio.sleep(wait_s)
