"""What of each stream is saved, remembered beside the rows. SHELL.

nats-server (2.9, 2.10, 2.11.0) writes a durable's state in place; killed meanwhile it begins at the
first message of the stream again. What the database remembers lets savers pass over what is stored
(`Lane`), or have the server go on behind it (`storage.leaving`).

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
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate, chain, groupby
from typing import Final

import msgspec
import structlog

from market_ingestor.bus.jetstream import TROUBLE, Bus, StreamState
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.duties import Duty
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import at, microseconds
from market_ingestor.storage.timescale import Database, Record, Session, Statement

_log = structlog.get_logger(__name__)

INTERVAL_S: Final = 1.0  # what another saver saved within is saved again, and is a duplicate then
BEGIN_S: Final = 3.0  # both servers answer in milliseconds, or the record has to wait
KNOWN_MAX_S: Final = 3.0  # what was read before that may be of a database that is gone
STRETCHES_MAX: Final = 1_000  # kept of a stream; savers that take turns leave one or two
ASK_S: Final = 2.0  # messages in hand wait for the answer, and come again after six seconds


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


def stretches(stream: str, created: str, messages: Iterable[Delivery]) -> list[Saved]:
    """Return what a saver took of a stream, as few stretches as may be. Pure."""
    taken = sorted({each.sequence: each.stored_us for each in messages}.items())
    # Within a run, sequences grow as fast as places do.
    runs = groupby(enumerate(taken), key=lambda placed: placed[1][0] - placed[0])
    found: list[Saved] = []
    for _, placed in runs:
        run = [each for _, each in placed]
        found.append(
            Saved(
                stream=stream,
                created=created,
                since=run[0][0] - 1,
                through=run[-1][0],
                stored_us=max(stored_us for _, stored_us in run),
            )
        )
    return found


def joined(saved: Iterable[Saved]) -> list[Saved]:
    """Return stretches of one stream as few as may be, ascending. Pure.

    What lies within another and was stored later took the place of what the stream has lost: the
    other one is not believed.
    """
    ordered = sorted(saved, key=lambda each: (each.since, -each.through))
    open_: list[Saved] = []
    refuted: set[Saved] = set()
    for each in ordered:
        open_ = [wide for wide in open_ if wide.through > each.since]
        refuted.update(
            wide
            for wide in open_
            if each.through <= wide.through and each.stored_us > wide.stored_us
        )
        open_.append(each)
    found: list[Saved] = []
    for each in ordered:
        if each in refuted:
            continue
        if found and each.since <= found[-1].through:
            last = found.pop()
            each = msgspec.structs.replace(  # noqa: PLW2901 - both become one
                last,
                through=max(last.through, each.through),
                stored_us=max(last.stored_us, each.stored_us),
            )
        found.append(each)
    return found


def kept(saved: Iterable[Saved]) -> set[Saved]:
    """Return what is worth knowing of stretches of any streams. Pure.

    A stream that was made anew gives all out again, so only the one of that name counts that was
    written to last. Of each the longest are kept: what is forgotten may be saved again.
    """
    found: set[Saved] = set()
    ordered = sorted(saved, key=lambda each: each.stream)
    for _, some in groupby(ordered, key=lambda each: each.stream):
        of_stream = list(some)
        newest = max(of_stream, key=lambda each: each.stored_us).created
        whole = joined(each for each in of_stream if each.created == newest)
        found.update(sorted(whole, key=lambda each: each.since - each.through)[:STRETCHES_MAX])
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
        for index in range(bisect_right(self.ends, sequence - 1), len(self.stretches)):
            each = self.stretches[index]
            if each.since >= sequence:
                return
            if each.through >= sequence:
                yield each

    def is_before(self, messages: Sequence[Delivery]) -> bool:
        """Return whether all ends before the first of messages, as it does nearly always."""
        first = min((each.sequence for each in messages), default=0)
        return not self.ends or first > self.ends[-1]


_NOTHING: Final = Known()


class SavedRecord:
    """Reads what the database says was saved, and tells which messages that covers."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._known: dict[tuple[str, str], Known] = {}
        self._known_at = -math.inf
        self._passed: list[Saved] = []
        self._doubts: dict[Saved, Statement] = {}

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
        return [*self._doubting(), note(saved)] if saved else []

    def _doubting(self) -> list[Statement]:
        """Return what takes stretches back that are in doubt, and no join undoes."""
        if not self._doubts:
            return []
        wait = Statement(sql=QUERIES["await_duty"], args=(Duty.JOIN_SAVED,))
        return [wait, *self._doubts.values()]

    async def look(self) -> None:
        """Read what is known by now, and make it short.

        Raises:
            StoreUnavailableError: The database cannot answer now. It may be another one when it
                comes back, so nothing is known until then.
        """
        began_at = time.monotonic()
        passed, self._passed = self._passed, []
        doubts = tuple(self._doubts)
        statements = [*self._doubting(), *map(note, _by_stream(passed))]
        try:
            async with self._database.transaction() as session:
                for each in statements:
                    await session.fetch(each.sql, *each.args)
                if await session.value(QUERIES["try_duty"], Duty.JOIN_SAVED):
                    found: Collection[Saved] = await self._join(session)
                else:
                    found = await _read(session)
        except (StoreUnavailableError, RowRefusedError):
            self._known = {}
            raise
        for doubted in doubts:
            self._doubts.pop(doubted, None)
        self._learn(found, began_at)

    @staticmethod
    async def _join(session: Session) -> set[Saved]:
        """Add what batches noted to what is known, as few stretches as may be."""
        notes = await session.fetch(QUERIES["take_notes"])
        before = set(await _read(session))
        found = kept(chain(before, *map(_noted, notes)))
        gone, new = before - found, found - before
        if gone:
            await session.fetch(
                QUERIES["drop_saved"], [each.stream for each in gone], [each.since for each in gone]
            )
        if new:
            await session.fetch(
                QUERIES["add_saved"],
                [each.stream for each in new],
                [each.created for each in new],
                [each.since for each in new],
                [each.through for each in new],
                [at(each.stored_us) for each in new],
            )
        return found

    def _learn(self, found: Iterable[Saved], read_at: float) -> None:
        known: dict[tuple[str, str], list[Saved]] = {}
        for each in sorted(found, key=lambda each: each.since):
            known.setdefault((each.stream, each.created), []).append(each)
        self._known = {
            stream: Known(stretches=some, ends=list(accumulate((e.through for e in some), max)))
            for stream, some in known.items()
        }
        self._known_at = read_at

    def knows(self, stream: str, created: str) -> Known:
        """Return what is known of a stream, by when it was made; nothing if that is too old."""
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
        known = self.knows(stream, created)
        if known.is_before(arrived):
            return frozenset()
        saved: set[int] = set()
        for message in arrived:
            for each in known.holding(message.sequence):
                if each.covers(message):
                    saved.add(message.sequence)
                else:
                    self._doubt(each, message)
        if not saved:
            return frozenset()
        state = await self._state(stream)
        if state is None or state.created != created:
            return frozenset()
        if known.ends[-1] > state.last_sequence:
            await self._cut(state)
            return frozenset()
        return frozenset(saved)

    def _doubt(self, stretch: Saved, message: Delivery) -> None:
        """Give up a stretch because a later message is in its place: the stream lost its end."""
        if stretch in self._doubts:
            return
        self._doubts[stretch] = Statement(
            sql=QUERIES["doubt_saved"],
            args=(stretch.stream, stretch.created, message.sequence, at(message.stored_us)),
        )
        self._known = {}

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
                await session.fetch(QUERIES["await_duty"], Duty.JOIN_SAVED)
                await session.fetch(
                    QUERIES["cut_saved"], state.name, state.created, state.last_sequence
                )


async def _read(session: Session) -> list[Saved]:
    return [
        _saved(row, row["since"], row["through"], row["stored_at"])
        for row in await session.fetch(QUERIES["saved"])
    ]


def _noted(row: Record) -> list[Saved]:
    return [
        _saved(row, *each)
        for each in zip(row["since"], row["through"], row["stored_at"], strict=True)
    ]


def _saved(row: Record, since: int, through: int, stored_at: datetime) -> Saved:
    return Saved(
        stream=row["stream"],
        created=row["created"],
        since=since,
        through=through,
        stored_us=microseconds(stored_at),
    )


def _by_stream(saved: Iterable[Saved]) -> Iterator[list[Saved]]:
    """Yield stretches, those of a stream together."""
    ordered = sorted(saved, key=lambda each: (each.stream, each.created))
    for _, some in groupby(ordered, key=lambda each: (each.stream, each.created)):
        yield list(some)
