"""Fills holes from the venue's REST history. SHELL.

One task per exchange. Each walk is a feed of its own with source ``rest``. What the venue no
longer has is said to be unfillable; what it does not have yet is asked for again.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from market_ingestor.connectors.backoff import Backoff
from market_ingestor.connectors.context import ExchangeContext
from market_ingestor.connectors.feed import Lane
from market_ingestor.connectors.gap_news import GapKey, key_of
from market_ingestor.connectors.gaps import FoundGap, IdReset
from market_ingestor.connectors.intake import US_PER_S, Track
from market_ingestor.connectors.outbox import now_us
from market_ingestor.connectors.refill_queue import Hole, RefillQueue
from market_ingestor.connectors.rest import REST_FAILURES, RestClient
from market_ingestor.connectors.venue import Gap, RestRequest
from market_ingestor.connectors.walk import GapWalk, Run
from market_ingestor.errors import VenueRefusedError

_log = structlog.get_logger(__name__)

ERROR_WAIT_S_MAX: Final = 60.0  # between attempts while REST answers with errors
REFUSED_WAIT_S: Final = 2.0  # before the next request of another hole
UNPROVABLE: Final = "the venue's ids have holes by nature: gaps are not looked for any more"
PAGES_PER_TURN: Final = 20  # of a long walk before it makes way for a newer hole
PAGE_TRIES: Final = 5  # for a page of a walk that has to be whole; then it begins anew


class Refiller:
    """Takes found holes and settles each: filled, or unfillable.

    Attributes:
        states: How many holes were found, filled and given up (``gaps_total{state}``).
    """

    def __init__(self, context: ExchangeContext, rest: RestClient) -> None:
        self._context = context
        self._rest = rest
        self._queue = RefillQueue()
        self._wake = asyncio.Event()
        self._backoff = Backoff(max_s=ERROR_WAIT_S_MAX, rng=random.Random())
        self._paused_until = 0.0
        self._walked: Sequence[Hole] = ()
        self.states: Counter[str] = Counter()

    @property
    def open_holes(self) -> int:
        """Return how many holes wait."""
        return len(self._queue)

    def found(self, track: Track, finding: FoundGap | IdReset) -> None:
        """Publish a finding, and refill it if it can be."""
        if track.is_dropped:
            return
        symbol = track.instrument.symbol
        if isinstance(finding, IdReset):
            self.states["unfillable"] += 1
            detail = "the venue's ids jumped: a new numbering, nothing is refilled"
            self._context.gap_event("gap_unfillable", symbol, finding, detail)
            return
        self.states["found"] += 1
        self._context.gap_event("gap_found", symbol, finding, f"{finding.missing} ids jumped over")
        self._put(Hole(track=track, gap=finding))

    def resume(self, track: Track, gap: FoundGap) -> None:
        """Settle a hole that another process found and did not live to settle.

        Under its own name, also when nothing is missing any more: else its row stays open.
        """
        self.states["found"] += 1
        self._put(Hole(track=track, gap=gap))

    @property
    def unsettled(self) -> set[GapKey]:
        """Return the holes that wait or are being walked over."""
        holes = (*self._queue, *self._walked)
        return {key_of(hole.track.instrument.symbol, hole.gap) for hole in holes}

    def drop(self, track: Track) -> None:
        """Leave the holes of an instrument that is no longer wanted."""
        track.is_dropped = True
        self._queue.take_all(track)

    @property
    def _is_abandoned(self) -> bool:
        """Return whether the instrument that is walked for was dropped."""
        return any(hole.track.is_dropped for hole in self._walked)

    def _put(self, hole: Hole) -> None:
        if hole.track.is_dropped:
            return
        given_up = self._queue.put(hole)
        if given_up is not None:
            self._give_up(given_up, "too many holes wait")
        self._wake.set()

    async def run(self) -> None:
        """Refill until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self._paused_until - loop.time(), 0.0))
            holes = self._queue.take(loop.time())
            if holes:
                self._walked = holes
                await self._try(holes)
                self._walked = ()
                continue
            self._wake.clear()
            next_at = self._queue.next_at()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._wake.wait()

    async def _try(self, holes: Sequence[Hole]) -> None:
        """Walk over neighbouring holes once; whatever is not settled goes back."""
        loop = asyncio.get_running_loop()
        try:
            is_done = await self._walk(holes)
        except REST_FAILURES as problem:
            self._paused_until = loop.time() + self._failed(problem, holes[0].track)
            for hole in holes:
                hole.put_off(self._paused_until)
                self._put(hole)
            return
        if not is_done:
            for hole in holes:
                self._put(hole)

    def _failed(self, problem: Exception, track: Track) -> float:
        """Take note of a failed request; return for how many seconds nothing is asked for.

        The venue as a whole: one failing request at a time, whatever waits. One that it refuses
        says nothing about others, whose history may be short.
        """
        wait_s = self._backoff.next_s()
        if isinstance(problem, VenueRefusedError):
            wait_s = min(wait_s, REFUSED_WAIT_S)
        wait_s = self._rest.pause_s(problem, wait_s)
        _log.warning(
            "refill_failed",
            exchange=self._context.exchange,
            symbol=track.instrument.symbol,
            error=str(problem) or repr(problem),
            retry_in_s=round(wait_s, 1),
        )
        return wait_s

    async def _walk(self, holes: Sequence[Hole]) -> bool:
        """Fetch page after page; return False when it made way for a newer hole."""
        loop = asyncio.get_running_loop()
        track, span = holes[0].track, _span(holes)
        missing = track.finder.missing(span.after_id, span.before_id)
        if not missing:
            self._settle(holes, None)
            return True
        gap = _asked(track, span, missing)
        request = self._context.venue.history_request(gap)
        if request is None:
            for hole in holes:
                self._give_up(hole, "the venue keeps no history")
            return True
        slack_s = self._context.venue.limits.history_slack_s
        walk = GapWalk(span, track.finder, self._context.account, is_by_time=slack_s is not None)
        feed = self._context.feed("rest")
        lane = feed.lane(track.instrument.symbol)
        lane.is_confirmed = True
        try:
            if slack_s is not None and holes[0].reached is not None:
                request = holes[0].reached
            if not await self._pages(lane, walk, gap, request, holes):
                return False
            if slack_s is not None and walk.missing and not walk.may_come(walk.missing):
                walk = await self._walk_wide(lane, walk, gap, slack_s, track)
        finally:
            if feed.has_spoken:
                self._context.outbox.mark(feed, now_us(), end=True)
            if track.absences.note(walk.absent, loop.time()) and not track.finder.is_stopped:
                self._stop(track)
        if not track.is_dropped:
            self._settle(holes, walk)
        return True

    async def _pages(
        self,
        lane: Lane,
        walk: GapWalk,
        gap: Gap,
        request: RestRequest | None,
        holes: Sequence[Hole],
    ) -> bool:
        """Walk until nothing is missing or listed; return False when it made way for others."""
        loop = asyncio.get_running_loop()
        pages = 0
        while request is not None and walk.missing:
            request = await self._page(lane, walk, gap, request)
            pages += 1
            if self._is_abandoned:
                return False
            self._backoff.reset()
            for hole in holes:
                hole.failures = 0
                hole.reached = request
            is_turn_over = request is not None and pages % PAGES_PER_TURN == 0
            if is_turn_over and self._queue.has_newer(holes[-1], loop.time()):
                return False
        for hole in holes:
            hole.reached = None
        return True

    async def _walk_wide(
        self, lane: Lane, walk: GapWalk, gap: Gap, slack_s: float, track: Track
    ) -> GapWalk:
        """Look for what is missing at times where it does not belong; return that walk.

        What is nowhere between two neighbours that are listed does not exist. Only a whole walk
        proves that: no newer hole interrupts it, and a page that fails is asked for again.
        """
        slack_us = int(slack_s * US_PER_S)
        wide = msgspec.structs.replace(
            gap, from_time_us=gap.from_time_us - slack_us, to_time_us=gap.to_time_us + slack_us
        )
        span = msgspec.structs.replace(
            walk.gap, from_time_us=wide.from_time_us, to_time_us=wide.to_time_us
        )
        again = GapWalk(span, walk.finder, self._context.account, is_by_time=True)
        request = self._context.venue.history_request(wide)
        failures = 0
        while request is not None and again.missing and not self._is_abandoned:
            try:
                request = await self._page(lane, again, wide, request)
            except REST_FAILURES as problem:
                failures += 1
                if failures == PAGE_TRIES:
                    raise
                await asyncio.sleep(self._failed(problem, track))
                continue
            self._backoff.reset()
            failures = 0
        if not self._is_abandoned:
            self._post(lane, again.absences(), now_us())
        return again

    async def _page(
        self, lane: Lane, walk: GapWalk, gap: Gap, request: RestRequest
    ) -> RestRequest | None:
        """Fetch one page and publish what it has; return the request for the next."""
        response = await self._rest.get(request)
        received_us = now_us()
        await self._context.outbox.room(is_refilled=True)
        page = self._context.venue.decode_history(gap, response)
        self._post(lane, walk.page(page), received_us)
        return None if page.next == request else page.next  # never the same page for ever

    def _post(self, lane: Lane, runs: Sequence[Run], received_us: int) -> None:
        for run in runs:
            messages = lane.messages(run.trades, received_us, run.prev_id)
            self._context.outbox.post(lane.feed, messages)

    def _settle(self, holes: Sequence[Hole], walk: GapWalk | None) -> None:
        """Say what became of each hole after a complete walk."""
        now = asyncio.get_running_loop().time()
        for hole in holes:
            gap = hole.gap
            missing = hole.track.finder.missing(gap.after_id, gap.before_id)
            if not missing and hole.track.finder.given_up(gap.after_id, gap.before_id):
                self._give_up(hole, "another hole was given up that it shares ids with")
            elif not missing:
                self.states["filled"] += 1
                self._context.gap_event(
                    "gap_filled", hole.track.instrument.symbol, gap, "every id is there or absent"
                )
            elif walk is not None and walk.may_come(missing) and hole.try_later(now):
                self._put(hole)
            else:
                self._give_up(hole, "the venue does not give these trades any more")

    def _stop(self, track: Track) -> None:
        """Look for no more gaps of an instrument: its ids have holes by nature."""
        track.finder.stop()
        for hole in self._queue.take_all(track):
            self._give_up(hole, UNPROVABLE)
        newest = track.finder.newest or 0
        time_us = track.last_trade_us
        since = IdReset(
            after_id=newest, before_id=newest + 1, from_time_us=time_us, to_time_us=time_us
        )
        symbol = track.instrument.symbol
        self._context.gap_event("gap_unfillable", symbol, since, UNPROVABLE)
        _log.warning("symbol_unprovable", exchange=self._context.exchange, symbol=symbol)

    def _give_up(self, hole: Hole, why: str) -> None:
        """Say that a hole stays; its ids are not asked for again."""
        gap, finder = hole.gap, hole.track.finder
        finder.give_up(gap.after_id, gap.before_id)
        # No more than its finder missed: of one that another process found, long ago, we may not
        # know what is there.
        lost = min(finder.given_up(gap.after_id, gap.before_id), gap.missing)
        self.states["unfillable"] += 1
        remaining = msgspec.structs.replace(gap, missing=lost)
        self._context.gap_event("gap_unfillable", hole.track.instrument.symbol, remaining, why)
        _log.warning(
            "gap_unfillable",
            exchange=self._context.exchange,
            symbol=hole.track.instrument.symbol,
            after_id=gap.after_id,
            before_id=gap.before_id,
            missing=lost,
            reason=why,
        )


def _span(holes: Sequence[Hole]) -> FoundGap:
    """Return one gap over neighbouring holes."""
    gaps = [hole.gap for hole in holes]
    return FoundGap(
        after_id=min(gap.after_id for gap in gaps),
        before_id=max(gap.before_id for gap in gaps),
        missing=sum(gap.missing for gap in gaps),
        from_time_us=min(gap.from_time_us for gap in gaps),
        to_time_us=max(gap.to_time_us for gap in gaps),
    )


def _asked(track: Track, span: FoundGap, missing: Sequence[tuple[int, int]]) -> Gap:
    """Return what to ask the venue for: no more than is still missing, and its neighbours."""
    before_id = missing[-1][1] + 1
    if before_id + 1 in track.finder:
        before_id += 1  # a venue may list only what is below this: then the neighbour is listed too
    return Gap(
        instrument=track.instrument.venue,
        after_id=missing[0][0] - 1,
        before_id=before_id,
        from_time_us=span.from_time_us,
        to_time_us=span.to_time_us,
    )
