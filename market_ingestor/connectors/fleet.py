"""Everything that runs for one exchange: sessions, gaps, refills, instruments. SHELL.

Owns which instruments are wanted and brings what runs into line with it (`want`); shares its
knowledge of each instrument between the connections that carry it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.listings import ListingWriter
from market_ingestor.connectors.context import ExchangeContext
from market_ingestor.connectors.gap_news import GapNews, key_of
from market_ingestor.connectors.gaps import FoundGap, GapFinder
from market_ingestor.connectors.history import KnownIds, StoredIds, ask_known, read_back
from market_ingestor.connectors.instruments import load_instruments
from market_ingestor.connectors.intake import Track
from market_ingestor.connectors.listings import listing_of
from market_ingestor.connectors.outbox import now_us
from market_ingestor.connectors.refill import Refiller
from market_ingestor.connectors.rest import RestClient
from market_ingestor.connectors.session import Session
from market_ingestor.connectors.tails import TailCheck
from market_ingestor.errors import excerpt
from market_ingestor.model.control import MemberFeed
from market_ingestor.model.instrument import Instrument, InstrumentTable, stripped

_log = structlog.get_logger(__name__)

LOOK_S: Final = 0.05  # between looks at jumps in ids; small against the reorder wait
MARK_S: Final = 1.0  # the contract's once a second
LATE_S_MAX: Final = 0.5  # a timer so late means that sockets wait unread: say nothing yet
REFRESH_S: Final = 3_600.0  # instruments are listed and delisted on the scale of days
UNKNOWN_FIRST_S: Final = 60.0  # sooner while one that is wanted is not listed: then 2, 4, 8 minutes
QUESTIONS_AT_ONCE: Final = 8  # about ids, to the database
STALE_REPLACE_S: Final = 600.0  # between replacements of a session because symbols fell silent
CHANGE_INTERVAL_S: Final = 0.5  # between changes of what is wanted: each may cost a connection

Owner = Callable[[str, str], bool]


class Fleet:
    """The feeds of one exchange.

    Args:
        symbols: As configured, in any spelling.
        sockets: How many sessions carry each symbol side by side.
        owns: Whether this process is for (exchange, symbol); the others are another shard's.
        known_ids: Asked where the stream holds nothing of an instrument.
        listings: Told what the venue lists of the instruments carried.
    """

    def __init__(
        self,
        context: ExchangeContext,
        *,
        rest_url: str,
        symbols: Iterable[str],
        sockets: int,
        bus: Bus,
        owns: Owner,
        known_ids: KnownIds | None = None,
        listings: ListingWriter | None = None,
    ) -> None:
        self.context = context
        self._rest = RestClient(
            context.exchange, rest_url, requests_per_s=context.venue.limits.rest_requests_per_s
        )
        self.refiller = Refiller(context, self._rest)
        self._tails = TailCheck(context, self._rest)
        self._configured = tuple(symbols)
        self._wanted = tuple(dict.fromkeys(self._configured))
        self._dropped: frozenset[str] = frozenset()
        self._news = asyncio.Event()
        self._news.set()
        self._gap_news = GapNews(bus, context.exchange)
        self._ending: set[asyncio.Task[None]] = set()
        self._bus = bus
        self._owns = owns
        self._known_ids = known_ids
        self._listings = listings
        self._table: InstrumentTable | None = None
        self._load_problem = ""
        self._unknown: list[str] = []
        self._unknown_changed = asyncio.Event()
        self._known: dict[str, Instrument] = {}
        self._tracks: dict[str, Track] = {}
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._lines: list[list[Session]] = [[] for _ in range(sockets)]
        self._replaced_at: dict[Session, float] = {}
        self._doubted: set[Session] = set()
        self._scan = asyncio.Lock()
        self._questions = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None

    # -- what the role asks

    @property
    def is_up(self) -> bool:
        """Return whether, on one line at least, every session has confirmed symbols."""
        return any(line and all(session.is_up for session in line) for line in self._lines)

    @property
    def is_idle(self) -> bool:
        """Return whether there is nothing to carry: all symbols are another shard's, or none."""
        return self._table is not None and not self._news.is_set() and not self._tracks

    @property
    def is_settled(self) -> bool:
        """Return whether what runs is what is wanted, as far as the venue lets it."""
        if self._table is None or self._news.is_set() or self._ending:
            return False
        return all(session.is_settled for session in self._sessions)

    @property
    def problems(self) -> list[str]:
        """Return what is wrong with this exchange, one clause each."""
        name = self.context.exchange
        if self._table is None:
            why = f": {self._load_problem}" if self._load_problem else ""
            return [f"{name}: instruments not loaded yet{why}"]
        found = [f"{name}: {each.problem}" for each in self._sessions if each.problem]
        if self._unknown:
            found.append(f"{name}: not listed: {', '.join(self._unknown[:5])}")
        stale = [symbol for symbol, track in self._tracks.items() if track.is_stale]
        if stale:
            found.append(f"{name}: silent: {', '.join(stale[:5])}")
        return found

    @property
    def symbols(self) -> list[str]:
        """Return the symbols that are carried."""
        return sorted(self._tracks)

    def details(self) -> dict[str, object]:
        """Return facts for ``/health``."""
        return {
            "symbols": self.symbols,
            "connections": sum(len(session.feeds) for session in self._sessions),
            "open_gaps": self.refiller.open_holes,
        }

    def carried(self) -> MemberFeed:
        """Return what is carried, and how well."""
        connections = [each for session in self._sessions for each in session.feeds]
        confirmed = set[str]().union(*(each.subscriptions.confirmed for each in connections))
        up = {
            symbol
            for symbol, track in self._tracks.items()
            if track.instrument.venue.venue_symbol in confirmed
        }
        return MemberFeed(
            up=sorted(up),
            pending=sorted(self._tracks.keys() - up),
            stale=sorted(name for name, track in self._tracks.items() if track.is_stale),
        )

    def symbol_of(self, spelling: str) -> str | None:
        """Return the symbol a person means, None when the venue has no such instrument.

        Raises:
            LookupError: The venue's list is not loaded yet.
        """
        if self._table is None:
            raise LookupError(self.context.exchange)
        found = self._table.resolve(spelling)
        if found is not None:
            return found.symbol
        # What was delisted while it was wanted can still be dropped.
        return next(
            (name for name in map(stripped, self._wanted) if name == stripped(spelling)), None
        )

    # -- running

    async def run(self) -> None:
        """Feed the bus until cancelled."""
        async with self._rest:
            self._table = await self._load()
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self.refiller.run())
                tasks.create_task(self._tails.run())
                tasks.create_task(self._look())
                tasks.create_task(self._mark())
                tasks.create_task(self._refresh())
                tasks.create_task(self._change())
                tasks.create_task(
                    self._gap_news.watch(
                        lambda: self._tracks, lambda: self.refiller.unsettled, self._adopt
                    )
                )

    async def load(self) -> InstrumentTable:
        """Return the venue's list of instruments without running."""
        async with self._rest:
            return await self._load()

    async def _load(self) -> InstrumentTable:
        context = self.context
        return await load_instruments(
            context.exchange, context.venue, self._rest, self._wanted, self._on_load_problem
        )

    def _on_load_problem(self, problem: str) -> None:
        self._load_problem = excerpt(self.context.redacted(problem))

    def want(self, added: Iterable[str], dropped: frozenset[str]) -> None:
        """Carry the configured symbols and the added ones without the dropped ones, soon.

        Args:
            added: In any spelling.
            dropped: In ours.
        """
        wanted = tuple(dict.fromkeys((*self._configured, *added)))
        if (wanted, dropped) != (self._wanted, self._dropped):
            self._wanted, self._dropped = wanted, dropped
            self._news.set()

    async def _change(self) -> None:
        """Bring what runs into line with what is wanted, whenever that changes."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._apply()
            await asyncio.sleep(CHANGE_INTERVAL_S)

    def apply(self, symbols: Iterable[str]) -> None:
        """Bring what runs into line with these symbols, in any spelling, at once."""
        self._wanted, self._dropped = tuple(dict.fromkeys(symbols)), frozenset()
        self._apply()

    def _apply(self) -> None:
        """Bring what runs into line with what is wanted.

        Sessions that lose instruments get a new connection before the old one goes.
        """
        if self._table is None or self._tasks is None:
            return
        wanted = self._resolve(self._table)
        self._tell(self._table, wanted)
        for session in list(self._sessions):
            kept = [each for each in session.tracks if each.instrument.symbol in wanted]
            if not kept:
                self._end(self._sessions.pop(session))
                for line in self._lines:
                    if session in line:
                        line.remove(session)
                self._doubted.discard(session)
                self._replaced_at.pop(session, None)
            elif len(kept) < len(session.tracks):
                session.change(kept)
        for name in self._tracks.keys() - wanted.keys():
            self._drop(self._tracks.pop(name))
        added = [each for name, each in wanted.items() if name not in self._tracks]
        tracks = [self._track(each) for each in added]
        for line in self._lines:
            self._add(line, tracks)
        if self.context.venue.limits.has_contiguous_ids and tracks:
            self._tasks.create_task(self._restore_all(tracks))

    def _end(self, session: "asyncio.Task[None]") -> None:
        session.cancel()
        self._ending.add(session)
        session.add_done_callback(self._ending.discard)

    def _drop(self, track: Track) -> None:
        """Leave an instrument; its open holes wait for the day it is wanted again."""
        self.refiller.drop(track)
        self.context.suspects.discard(track)

    def _resolve(self, table: InstrumentTable) -> dict[str, Instrument]:
        """Return the wanted instruments of this shard by symbol."""
        wanted: dict[str, Instrument] = {}
        unknown: list[str] = []
        for spelling in self._wanted:
            instrument = table.resolve(spelling)
            if (stripped(spelling) if instrument is None else instrument.symbol) in self._dropped:
                continue
            if instrument is None:
                unknown.append(spelling)
                instrument = self._known.get(spelling)
            if instrument is None:
                continue
            # What was listed once stays subscribed: it may come back, and a list may be wrong.
            self._known[spelling] = instrument
            if self._owns(self.context.exchange, instrument.symbol):
                wanted[instrument.symbol] = instrument
        if unknown and unknown != self._unknown:
            _log.warning("symbols_not_listed", exchange=self.context.exchange, symbols=unknown)
        if unknown != self._unknown:
            self._unknown = unknown
            self._unknown_changed.set()
        self._known = {each: self._known[each] for each in self._wanted if each in self._known}
        return wanted

    def _tell(self, table: InstrumentTable, wanted: Mapping[str, Instrument]) -> None:
        """Have the other roles know what is carried, and what was and is listed no more."""
        if self._listings is None:
            return
        exchange, venue = self.context.exchange, self.context.venue
        for symbol, instrument in wanted.items():
            is_listed = table.resolve(symbol) is not None
            self._listings.put(listing_of(exchange, venue, instrument, is_listed=is_listed))
        for symbol, track in self._tracks.items():
            if symbol not in wanted and table.resolve(symbol) is None:
                gone = listing_of(exchange, venue, track.instrument, is_listed=False)
                self._listings.put(gone)

    def _track(self, instrument: Instrument) -> Track:
        wait_s = self.context.settings.reorder_wait_ms / 1000
        track = Track(
            instrument,
            GapFinder(reorder_wait_s=wait_s),
            silence_min_s=self.context.settings.read_timeout_s,
        )
        self._tracks[instrument.symbol] = track
        return track

    def _add(self, line: list[Session], tracks: list[Track]) -> None:
        """Give tracks to sessions of a line with room, then to new ones."""
        assert self._tasks is not None  # noqa: S101 - `apply` looked
        room = self.context.venue.limits.symbols_per_connection
        for session in line:
            taken, tracks = (
                tracks[: room - len(session.tracks)],
                tracks[room - len(session.tracks) :],
            )
            if taken:
                session.add(taken)
        for begin in range(0, len(tracks), room):
            session = Session(self.context, tracks[begin : begin + room])
            line.append(session)
            self._sessions[session] = self._tasks.create_task(session.run())

    async def _restore_all(self, tracks: Sequence[Track]) -> None:
        """Learn which ids were delivered; what is missing below the first live id is a gap."""
        exchange = self.context.exchange
        stored: dict[str, StoredIds] = {}
        symbols = [track.instrument.symbol for track in tracks]
        async with self._scan:
            # First of all it asks where the stream ends: before our own trades are in it.
            async for stored in read_back(self._bus, exchange, symbols):
                await self._gap_news.read()
                for track in tracks:
                    self._restore(track, stored[track.instrument.symbol])
        async with asyncio.TaskGroup() as tasks:
            for track in tracks:
                if stored[track.instrument.symbol].is_empty:
                    tasks.create_task(self._restore_known(track))
        for track in tracks:
            self._resume(track)

    def _restore(self, track: Track, stored: StoredIds) -> None:
        """Have what the stream holds, as far as it was read, count as there."""
        if stored.is_empty:
            return
        now = asyncio.get_running_loop().time()
        given_up = self._gap_news.said.given_up(track.instrument.symbol)
        track.finder.restore(stored.intervals, stored.time_us, now, given_up, begin=stored.begin)
        if track.finder.needs_look:
            self.context.suspects.add(track)

    async def _restore_known(self, track: Track) -> None:
        """Begin at what was saved, where the stream holds nothing."""
        if self._known_ids is None:
            return
        async with self._questions:
            known = await ask_known(self._known_ids, self.context.exchange, track.instrument.symbol)
        if known is not None:
            time_us, now = known.time_us, asyncio.get_running_loop().time()
            track.finder.restore([(known.id, known.id)], lambda _: time_us, now)
            if track.finder.needs_look:
                self.context.suspects.add(track)

    def _resume(self, track: Track) -> None:
        """Settle what others found and left, now that it is known what of it is there."""
        symbol, ours = track.instrument.symbol, self.refiller.unsettled
        for gap in self._gap_news.said.open(symbol):
            if key_of(symbol, gap) not in ours:
                self.refiller.resume(track, gap)

    def _adopt(self, symbol: str, gap: FoundGap) -> None:
        """Settle a hole that another process, still alive when we started, left behind."""
        track = self._tracks.get(symbol)
        if track is not None and self.context.venue.limits.has_contiguous_ids:
            self.refiller.resume(track, gap)

    async def _look(self) -> None:
        """Turn jumps that nothing filled in time into gaps."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            for track in list(self.context.suspects):
                for finding in track.finder.due(loop.time()):
                    self.refiller.found(track, finding)
                if not track.finder.needs_look:
                    self.context.suspects.discard(track)

    async def _mark(self) -> None:
        """Once a second, let every feed say that it is alive and has sent all it had."""
        loop = asyncio.get_running_loop()
        due = loop.time() + MARK_S
        while True:
            await asyncio.sleep(max(due - loop.time(), 0.0))
            is_late = loop.time() - due > LATE_S_MAX
            due = loop.time() + MARK_S
            if is_late:
                due = loop.time() + LOOK_S  # what waits in the sockets comes first
                continue
            time_us = now_us()
            for session in self._sessions:
                for connection in session.feeds:
                    connection.mark(time_us)
            self._watch_silence(time_us)

    def _watch_silence(self, time_us: int) -> None:
        """Report symbols that are silent for longer than their own rate explains.

        A subscription may have died alone, so the next connection subscribes all of them again:
        once for each symbol that falls silent, now and then while all of them are.
        """
        if not self.context.venue.limits.trades_always:
            return
        now = asyncio.get_running_loop().time()
        fallen = self._fallen_silent(time_us)
        for session in self._sessions:
            known = sum(track.silence_max_us() is not None for track in session.tracks)
            silent = sum(track.is_stale for track in session.tracks)
            if not fallen.isdisjoint(session.tracks):
                self._doubted.add(session)
            replaced_at = self._replaced_at.get(session, -STALE_REPLACE_S)
            if not silent:
                self._doubted.discard(session)
            is_doubted = session in self._doubted or silent == known > 0
            if is_doubted and now - replaced_at >= STALE_REPLACE_S:
                self._replaced_at[session] = now
                self._doubted.discard(session)
                session.replace()

    def _fallen_silent(self, time_us: int) -> set[Track]:
        """Return the symbols that have just become stale on sessions that are up."""
        carried = {track for each in self._sessions if each.is_up for track in each.tracks}
        fallen: set[Track] = set()
        for track in self._tracks.values():
            limit = track.silence_max_us()
            if limit is None:
                continue
            was_stale = track.is_stale
            track.is_stale = track in carried and time_us - track.last_trade_us > limit
            if track.is_stale and not was_stale:
                fallen.add(track)
                seconds = (time_us - track.last_trade_us) / 1e6
                self.context.feed_event(
                    "feed_stale", f"no trade for {seconds:.0f} s", track.instrument.symbol
                )
        return fallen

    def _welcome(self, spellings: set[str]) -> None:
        """Subscribe anew what is listed again: the venue may have dropped it without a word."""
        venue_symbols = {
            self._known[each].venue.venue_symbol for each in spellings & self._known.keys()
        }
        for session in self._sessions:
            if session.carries(venue_symbols):
                session.welcome(venue_symbols)

    async def _refresh(self) -> None:
        """Load the instruments again now and then, sooner while some that are wanted lack."""
        loop = asyncio.get_running_loop()
        wait_s, loaded_at = UNKNOWN_FIRST_S, loop.time()
        while True:
            self._unknown_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(loaded_at + (wait_s if self._unknown else REFRESH_S)):
                    await self._unknown_changed.wait()
                    continue
            self._table = await self._load()
            loaded_at = loop.time()
            before = set(self._unknown)
            self._apply()
            self._welcome(before - set(self._unknown))
            wait_s = min(wait_s * 2, REFRESH_S) if self._unknown else UNKNOWN_FIRST_S
