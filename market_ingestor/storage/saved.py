"""How far savers have come, remembered beside the rows. SHELL.

nats-server writes a durable's state in place; killed meanwhile it begins at the first message of
the stream again. What the database remembers lets savers pass over what is stored; where that is
much, they have the server go on behind it. It lies there, and not in NATS, so that an empty
database, or one from a backup, knows as much as it has.

A message is passed over only when three things agree: its sequence, the time at which the server
stored it (a stream that lost its end gives sequences out again; seen short, its end is forgotten
here too), and the stream's own creation time, asked for after the message arrived (a stream made
anew gives all of them out again).

What was given out while nobody watched may have been saved into another database, and this one be
a backup put in its place: then a new stretch begins behind it.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.durables import move_durable
from market_ingestor.bus.jetstream import TROUBLE, Bus, ConsumerState, StreamState
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import at, microseconds
from market_ingestor.storage.timescale import Database, Record, Session

_log = structlog.get_logger(__name__)

STREAMS: Final = (subjects.RAW_STREAM, subjects.KLINE_STREAM, subjects.EVENT_STREAM)
INTERVAL_S: Final = 1.0  # what is acknowledged within is saved again, and is a duplicate then
BEGIN_S: Final = 3.0  # both servers answer in milliseconds, or the record has to wait
STRETCHES_MAX: Final = 8  # of a stream; one begins with a saver that found more acknowledged
MOVE_S: Final = 5.0  # messages in hand come again after six
PASSED_MAX: Final = 5_000  # messages looked at one by one, in half a second; more are left out
ASK_S: Final = 2.0  # messages in hand wait for the answer, and come again after six seconds


class Saved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stretch of a stream of which all was committed, or became a dead letter.

    Attributes:
        created: When the stream was made (`bus.streams.created`).
        since: The sequence behind which it begins.
        through: The last sequence.
        stored_us: No message that the server stored later is meant, UTC microseconds.
    """

    stream: str
    created: str
    since: int
    through: int
    stored_us: int

    def covers(self, message: Delivery) -> bool:
        """Return whether a message of this very stream was saved. Pure."""
        return self.since < message.sequence <= self.through and message.stored_us <= self.stored_us


def watched(now: Saved, before: Saved | None) -> Saved:
    """Return what a saver itself has watched of a stream, at first nothing. Pure.

    Args:
        now: From the newest message given out to the ack floor.
        before: What this returned before, None when the database may have been another one then.
    """
    if before is None or before.created != now.created:
        return msgspec.structs.replace(now, through=now.since)
    return msgspec.structs.replace(
        now, since=before.since, through=max(before.through, now.through)
    )


def news(seen: Saved, before: Saved | None, known: Sequence[Saved]) -> Saved | None:
    """Return what is new in what was watched, None when that is nothing. Pure.

    Args:
        seen: What was watched until now.
        before: What was watched at the last look.
        known: What the database says.

    Returns:
        A known stretch that goes on, or else a new one.
    """
    if before is None or before.created != seen.created or seen.through <= before.through:
        return None
    continued = [
        each
        for each in known
        if each.created == seen.created and each.since <= before.through <= each.through
    ]
    if any(each.through >= seen.through for each in continued):
        return None  # another saver was faster
    since = min((each.since for each in continued), default=before.through)
    return msgspec.structs.replace(seen, since=since)


def all_saved(
    known: Sequence[Saved], message: Delivery, state: StreamState, durable: ConsumerState | None
) -> Saved | None:
    """Return a stretch whose end a durable is far from, and may be moved behind. Pure.

    Args:
        known: What the database says.
        message: One that was given out although it was saved.

    Returns:
        None when its end is near, or something before it would still be given out that may not
        have been saved.
    """
    if durable is None or not durable.has_all or not state.is_dated:
        return None
    gone = max(durable.ack_floor, state.first_sequence - 1)
    far = durable.delivered + PASSED_MAX
    found = [
        each
        for each in known
        if each.created == state.created
        and each.covers(message)
        and each.since <= gone
        and far < each.through <= state.last_sequence
    ]
    return max(found, key=_reach, default=None)


def has_lost(known: Sequence[Saved], before: Sequence[Saved]) -> bool:
    """Return whether a database forgot what it said before: it is another one by now. Pure."""
    reached = {each.created: each.through for each in sorted(known, key=_reach)}
    return any(each.through > reached.get(each.created, 0) for each in before)


class SavedRecord:
    """Writes the savers' ack floors down, and tells which messages lie behind them.

    An ack follows its commit, so whoever reads a floor may write it down; savers may do so at once.
    """

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._known: dict[str, tuple[Saved, ...]] = {}
        self._watched: dict[str, Saved] = {}

    async def begin(self) -> None:
        """Read the record before anything is judged by it; without it all is saved again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_S):
                await self._try()

    async def run(self) -> None:
        """Keep the record until cancelled."""
        while True:
            await self._try()
            await asyncio.sleep(INTERVAL_S)

    async def _try(self) -> None:
        try:
            await self.look()
        except (StoreUnavailableError, RowRefusedError) as problem:
            _log.debug("saved_postponed", error=str(problem))

    async def look(self) -> None:
        """Write down how far the savers have come, and read what is known by now.

        Raises:
            StoreUnavailableError: The database cannot answer now. It may be another one when it
                comes back, so nothing is known until then.
        """
        found = await self._floors()
        try:
            self._known = await self._exchange(found)
        except (StoreUnavailableError, RowRefusedError):
            self._known, self._watched = {}, {}
            raise

    async def _exchange(self, floors: Sequence[Saved]) -> dict[str, tuple[Saved, ...]]:
        async with self._database.transaction() as session:
            known = _by_stream(await session.fetch(QUERIES["saved"]))
            if any(has_lost(known.get(each, ()), self._known[each]) for each in self._known):
                self._watched = {}
            noted: list[Saved] = []
            for each in floors:  # always in the same order, so that savers never lock each other
                before = self._watched.get(each.stream)
                self._watched[each.stream] = seen = watched(each, before)
                stretches = known.get(each.stream, ())
                found = news(seen, before, stretches)
                if found is not None:
                    await self._note(session, found, stretches)
                    noted.append(found)
            return _by_stream(await session.fetch(QUERIES["saved"])) if noted else known

    @staticmethod
    async def _note(session: Session, found: Saved, known: Sequence[Saved]) -> None:
        time = at(found.stored_us)
        if any((each.created, each.since) == (found.created, found.since) for each in known):
            await session.fetch(
                QUERIES["prolong_saved"],
                found.stream,
                found.created,
                found.since,
                found.through,
                time,
            )
            return
        await session.fetch(QUERIES["prune_saved"], found.stream, found.created, STRETCHES_MAX - 1)
        await session.fetch(
            QUERIES["begin_saved"], found.stream, found.created, found.since, found.through, time
        )

    async def _floors(self) -> list[Saved]:
        """Return how far the savers have come in each stream that the bus tells of."""
        found: list[Saved] = []
        for stream in STREAMS:
            with contextlib.suppress(*TROUBLE):
                found.append(await self._floor(stream))
        return found

    async def _floor(self, stream: str) -> Saved:
        """Return what lies between the newest message given out and the savers' ack floor.

        The stream is asked first: all it held then that lies at or below the floor is acknowledged,
        whether it is deleted, or loses its end and fills again, before the floor is read.
        """
        info = await self._bus.api(f"STREAM.INFO.{stream}", timeout_s=ASK_S)
        durable = await self._bus.consumer_state(stream, subjects.SAVE_DURABLE)
        if durable is not None and not durable.has_all:
            durable = None  # made by hand to begin later: its floor tells nothing
        floor = durable.ack_floor if durable is not None else 0
        return Saved(
            stream=stream,
            created=streams.created(info),
            since=durable.delivered if durable is not None else 0,
            through=min(floor, info["state"]["last_seq"]),
            stored_us=streams.time_us(info["state"]["last_ts"]),
        )

    async def covered(self, stream: str, arrived: Sequence[Delivery]) -> frozenset[int]:
        """Return the sequences of those messages that were saved before, none in doubt."""
        known = self._known.get(stream, ())
        if not any(each.covers(message) for message in arrived for each in known):
            return frozenset()
        state = await self._state(stream)
        if state is None:
            return frozenset()
        known = tuple(each for each in known if each.created == state.created)
        if any(each.through > state.last_sequence for each in known):
            await self._cut(state)
            return frozenset()
        return frozenset(
            message.sequence for message in arrived if any(each.covers(message) for each in known)
        )

    async def move_on(self, stream: str, config: dict[str, Any], message: Delivery) -> bool:
        """Have the server go on behind what was saved, if that is far away.

        Args:
            config: Of the durable.
            message: One it gave out although it was saved.

        Returns:
            Whether nothing went wrong.
        """
        try:
            async with asyncio.timeout(MOVE_S):
                state = await self._bus.stream_state(stream)
                durable = await self._bus.consumer_state(stream, config["durable_name"])
                found = all_saved(self._known.get(stream, ()), message, state, durable)
                if found is None:
                    return True
                last = await self._bus.message_at(stream, found.through)
                if last is None or last.stored_us > found.stored_us:
                    return True
                await move_durable(
                    self._bus, stream, config, behind=found.through, created=found.created
                )
        except TROUBLE as problem:
            _log.warning("saved_not_left_out", stream=stream, error=str(problem))
            return False
        _log.warning("saved_left_out", stream=stream, after=message.sequence, through=found.through)
        return True

    async def _state(self, stream: str) -> StreamState | None:
        """Return what the stream that is there by now holds, None without an answer."""
        try:
            async with asyncio.timeout(ASK_S):
                return await self._bus.stream_state(stream)
        except TROUBLE:
            return None

    async def _cut(self, state: StreamState) -> None:
        """Forget what a stream has lost: its clock may lag, too, and the times tell nothing."""
        _log.warning("saved_cut", stream=state.name, last_sequence=state.last_sequence)
        try:
            async with self._database.transaction() as session:
                await session.fetch(
                    QUERIES["cut_saved"], state.name, state.created, state.last_sequence
                )
                self._known = _by_stream(await session.fetch(QUERIES["saved"]))
        except (StoreUnavailableError, RowRefusedError):
            self._known, self._watched = {}, {}


def _saved(row: Record) -> Saved:
    return Saved(
        stream=row["stream"],
        created=row["created"],
        since=row["since"],
        through=row["through"],
        stored_us=microseconds(row["stored_at"]),
    )


def _by_stream(rows: Sequence[Record]) -> dict[str, tuple[Saved, ...]]:
    found: dict[str, tuple[Saved, ...]] = {}
    for each in map(_saved, rows):
        found[each.stream] = (*found.get(each.stream, ()), each)
    return found


def _reach(stretch: Saved) -> int:
    return stretch.through
