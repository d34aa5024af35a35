"""What of each stream is saved, remembered beside the rows. SHELL.

nats-server before 2.11 writes a durable's state in place; killed meanwhile it begins at the first
message of the stream again. What the database remembers lets savers pass over what is stored; where
that is much, they have the server go on behind it.

A batch's transaction writes down which messages it saves (`Saved`). So the record says neither more
nor less than the rows: an empty database claims nothing, one from a backup what it had then.

A message is passed over only when three things agree: its sequence, the time at which the server
stored it (a stream that lost its end gives sequences out again; seen short, or with a later message
in the place of one that was saved, its end is forgotten here too), and the creation time of the
stream it came from (a stream made anew gives all of them out again).
"""

import asyncio
import contextlib
import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any, Final

import msgspec
import structlog

from market_ingestor.bus import subjects
from market_ingestor.bus.durables import move_durable
from market_ingestor.bus.jetstream import TROUBLE, Bus, ConsumerState, StreamState
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import at, microseconds
from market_ingestor.storage.timescale import Database, Record, Statement

_log = structlog.get_logger(__name__)

STREAMS: Final = (subjects.RAW_STREAM, subjects.KLINE_STREAM, subjects.EVENT_STREAM)
INTERVAL_S: Final = 1.0  # what another saver saved within is saved again, and is a duplicate then
BEGIN_S: Final = 3.0  # both servers answer in milliseconds, or the record has to wait
KNOWN_MAX_S: Final = 3.0  # what was read before that may be of a database that is gone
STRETCHES_MAX: Final = 1_000  # kept of a stream; savers that take turns leave one or two
ASK_S: Final = 2.0  # messages in hand wait for the answer, and come again after six seconds
MOVE_S: Final = 2.0  # it takes milliseconds, unless the server died with the question
PASSED_MAX: Final = 5_000  # messages looked at one by one, in half a second; more are left out
MISSING_MAX: Final = 5_000  # messages asked for one by one before a durable is moved behind them
MISSING_AT_ONCE: Final = 1_000
ASKED_AT_ONCE: Final = 100
JOINING: Final = 0x6D61726B65740005  # advisory lock: "market" in ASCII, the duty's number


class Saved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stretch of a stream of which all was committed, became a dead letter or holds nothing.

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


class Gone(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a durable may go on behind what is saved.

    Attributes:
        behind: The last stretch that is left out.
        missing: Sequences before its end that may not be saved, ascending.
        stretches: All of those it goes by.
    """

    behind: Saved
    missing: Sequence[int]
    stretches: Sequence[Saved]


def stretches(stream: str, created: str, messages: Iterable[Delivery]) -> list[Saved]:
    """Return what a saver took of a stream, as few stretches as may be. Pure."""
    found: list[Saved] = []
    for each in sorted(messages, key=lambda message: message.sequence):
        if found and each.sequence <= found[-1].through + 1:
            last = found.pop()
            since, stored_us = last.since, max(last.stored_us, each.stored_us)
        else:
            since, stored_us = each.sequence - 1, each.stored_us
        found.append(
            Saved(
                stream=stream,
                created=created,
                since=since,
                through=each.sequence,
                stored_us=stored_us,
            )
        )
    return found


def note(saved: Sequence[Saved]) -> Statement:
    """Return what writes down stretches of one stream; for the transaction that saves them."""
    first = saved[0]
    return Statement(
        sql=QUERIES["note_saved"],
        args=(
            first.stream,
            first.created,
            [each.since for each in saved],
            [each.through for each in saved],
            [at(each.stored_us) for each in saved],
        ),
    )


def left_out(
    known: Sequence[Saved], state: StreamState, durable: ConsumerState | None
) -> Gone | None:
    """Return how a durable that is far from the end of what is saved may be moved there. Pure.

    Args:
        known: What the database says of the stream, ascending.

    Returns:
        None when the end is near, or too much before it may not be saved.
    """
    if durable is None or not durable.has_all or not state.is_dated:
        return None
    reached = max(durable.ack_floor, state.first_sequence - 1)
    missing: list[int] = []
    used: list[Saved] = []
    found: Gone | None = None
    for each in known:
        if each.created != state.created or each.through <= reached:
            continue
        if each.through > state.last_sequence or len(missing) + each.since - reached > MISSING_MAX:
            break
        missing += range(reached + 1, each.since + 1)
        reached = each.through
        used.append(each)
        found = Gone(behind=each, missing=tuple(missing), stretches=tuple(used))
    if found is None or found.behind.through <= durable.delivered + PASSED_MAX:
        return None
    return found


class Known(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a database says was saved of one stream.

    Attributes:
        stretches: Ascending.
        ends: The furthest sequence that they, up to each, reach.
    """

    stretches: Sequence[Saved] = ()
    ends: Sequence[int] = ()

    def holding(self, sequence: int) -> Iterator[Saved]:
        """Yield the stretches that have a sequence."""
        for each in self.stretches[bisect_right(self.ends, sequence - 1) :]:
            if each.since >= sequence:
                return
            if each.through >= sequence:
                yield each


_NOTHING: Final = Known()


class SavedRecord:
    """Reads what the database says was saved, and tells which messages that covers."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._known: dict[tuple[str, str], Known] = {}
        self._known_at = -math.inf
        self._passed: list[Saved] = []
        self._doubts: list[Statement] = []

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

    def pass_by(self, passed: Sequence[Saved]) -> None:
        """Take over what holds nothing to be saved; it is written down at the next look."""
        self._passed += passed

    def notes(self, saved: Sequence[Saved]) -> list[Statement]:
        """Return what writes down stretches of one stream, in the transaction that saves them."""
        return [*self._doubts, note(saved)] if saved else []

    async def look(self) -> None:
        """Read what is known by now, and make it short.

        Raises:
            StoreUnavailableError: The database cannot answer now. It may be another one when it
                comes back, so nothing is known until then.
        """
        began_at = time.monotonic()
        passed, self._passed = self._passed, []
        doubts = tuple(self._doubts)
        try:
            async with self._database.transaction() as session:
                for statement in (*doubts, *map(note, _by_stream(passed))):
                    await session.fetch(statement.sql, *statement.args)
                if await session.value(QUERIES["try_duty"], JOINING):
                    await session.fetch(QUERIES["take_notes"])
                    await session.fetch(QUERIES["drop_contradicted"])
                    await session.fetch(QUERIES["join_saved"])
                    await session.fetch(QUERIES["prune_saved"], STRETCHES_MAX)
                self._learn(await session.fetch(QUERIES["saved"]), began_at)
        except (StoreUnavailableError, RowRefusedError):
            self._known = {}
            raise
        self._doubts = [each for each in self._doubts if each not in doubts]

    def _learn(self, rows: Sequence[Record], read_at: float) -> None:
        found: dict[tuple[str, str], list[Saved]] = {}
        for each in map(_saved, rows):
            found.setdefault((each.stream, each.created), []).append(each)
        self._known = {
            stream: Known(
                stretches=known, ends=list(accumulate((each.through for each in known), max))
            )
            for stream, known in found.items()
        }
        self._known_at = read_at

    def _knows(self, stream: str, created: str) -> Known:
        if time.monotonic() - self._known_at > KNOWN_MAX_S:
            return _NOTHING
        return self._known.get((stream, created), _NOTHING)

    async def write(self, saved: Sequence[Saved]) -> None:
        """Write down stretches of one stream by themselves: those without rows.

        Raises:
            StoreUnavailableError: The database cannot do this now.
        """
        async with self._database.transaction() as session:
            for statement in self.notes(saved):
                await session.fetch(statement.sql, *statement.args)

    async def covered(
        self, stream: str, created: str, arrived: Sequence[Delivery]
    ) -> frozenset[int]:
        """Return the sequences of those messages that were saved before, none in doubt.

        Args:
            created: When the stream was made that they came from.
        """
        known = self._knows(stream, created)
        saved = {
            message.sequence
            for message in arrived
            for each in known.holding(message.sequence)
            if each.covers(message) or self._doubt(each, message)
        }
        if not saved:
            return frozenset()
        state = await self._state(stream)
        if state is None or state.created != created:
            return frozenset()
        if known.ends[-1] > state.last_sequence:
            await self._cut(state)
            return frozenset()
        return frozenset(saved)

    def _doubt(self, stretch: Saved, message: Delivery) -> bool:
        """Give up a stretch because a later message is in its place: the stream lost its end."""
        self._doubts.append(
            Statement(
                sql=QUERIES["doubt_saved"],
                args=(stretch.stream, stretch.created, message.sequence, at(message.stored_us)),
            )
        )
        self._known_at = -math.inf
        return False

    async def left_out(self, stream: str, durable: str) -> Gone | None:
        """Return how the server may go on behind what is saved, None if it is near its end.

        Raises:
            StoreUnavailableError: The database cannot answer.
            Exception: One of `TROUBLE`.
        """
        async with asyncio.timeout(MOVE_S):
            await self.look()
            state = await self._bus.stream_state(stream)
            info = await self._bus.consumer_state(stream, durable)
            found = left_out(self._knows(stream, state.created).stretches, state, info)
            if found is None or not await self._are_there(found.stretches):
                return None
        return found

    async def _are_there(self, saved: Sequence[Saved]) -> bool:
        """Return whether the ends of stretches are what they were when those were saved."""
        for first in range(0, len(saved), ASKED_AT_ONCE):
            some = saved[first : first + ASKED_AT_ONCE]
            ends = await asyncio.gather(
                *(self._bus.message_at(each.stream, each.through) for each in some)
            )
            for each, end in zip(some, ends, strict=True):
                if end is None or end.stored_us > each.stored_us:
                    return False
        return True

    async def missing(self, found: Gone) -> list[Delivery]:
        """Return the first of the messages that may not be saved; none can be acknowledged.

        Raises:
            Exception: One of `TROUBLE`.
        """
        stream, wanted = found.behind.stream, found.missing[:MISSING_AT_ONCE]
        got: list[Delivery] = []
        for first in range(0, len(wanted), ASKED_AT_ONCE):
            some = wanted[first : first + ASKED_AT_ONCE]
            answers = await asyncio.gather(*(self._bus.message_at(stream, each) for each in some))
            got += [
                Delivery(
                    subject=each.subject,
                    payload=each.payload,
                    sequence=each.sequence,
                    stored_us=each.stored_us,
                    pending=0,
                    reply="",
                    consumer_sequence=0,
                )
                for each in answers
                if each is not None
            ]
        return got

    async def move(self, config: dict[str, Any], found: Gone) -> None:
        """Have the server go on behind what is saved.

        Raises:
            Exception: One of `TROUBLE`.
        """
        last = found.behind
        async with asyncio.timeout(MOVE_S):
            await move_durable(
                self._bus, last.stream, config, behind=last.through, created=last.created
            )

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
        self._known = {}
        with contextlib.suppress(StoreUnavailableError, RowRefusedError):
            async with self._database.transaction() as session:
                await session.fetch(
                    QUERIES["cut_saved"], state.name, state.created, state.last_sequence
                )


def _saved(row: Record) -> Saved:
    return Saved(
        stream=row["stream"],
        created=row["created"],
        since=row["since"],
        through=row["through"],
        stored_us=microseconds(row["stored_at"]),
    )


def _by_stream(saved: Iterable[Saved]) -> Iterator[list[Saved]]:
    """Yield stretches, those of a stream together."""
    ordered = sorted(saved, key=lambda each: (each.stream, each.created))
    for _, some in groupby(ordered, key=lambda each: (each.stream, each.created)):
        yield list(some)
