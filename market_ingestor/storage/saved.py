"""What of each stream is saved, remembered beside the rows. SHELL.

nats-server before 2.11 writes a durable's state in place; killed meanwhile it begins at the first
message of the stream again. What the database remembers lets savers pass over what is stored; where
that is much, they have the server go on behind it.

A batch's transaction writes down which messages it saves (`Saved`). So the record says neither more
nor less than the rows: an empty database claims nothing, one from a backup what it had then.

A message is passed over only when three things agree: its sequence, the time at which the server
stored it (a stream that lost its end gives sequences out again; seen short, its end is forgotten
here too), and the stream's own creation time, asked for after the message arrived (a stream made
anew gives all of them out again).
"""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
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
STALE_S: Final = 30 * 86_400.0  # streams keep two days and two weeks unless told otherwise
ASK_S: Final = 2.0  # messages in hand wait for the answer, and come again after six seconds
MOVE_S: Final = 2.0  # it takes milliseconds, unless the server died with the question
PASSED_MAX: Final = 5_000  # messages looked at one by one, in half a second; more are left out
MISSING_MAX: Final = 5_000  # messages asked for one by one before a durable is moved behind them
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
    """

    behind: Saved
    missing: Sequence[int]


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
    found: Gone | None = None
    for each in known:
        if each.created != state.created or each.through <= reached:
            continue
        if each.through > state.last_sequence or len(missing) + each.since - reached > MISSING_MAX:
            break
        missing += range(reached + 1, each.since + 1)
        reached = each.through
        found = Gone(behind=each, missing=tuple(missing))
    if found is None or found.behind.through <= durable.delivered + PASSED_MAX:
        return None
    return found


class SavedRecord:
    """Reads what the database says was saved, and tells which messages that covers."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._known: dict[str, tuple[Saved, ...]] = {}
        self._passed: list[Saved] = []

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

    async def look(self) -> None:
        """Read what is known by now, and make it short.

        Raises:
            StoreUnavailableError: The database cannot answer now. It may be another one when it
                comes back, so nothing is known until then.
        """
        passed, self._passed = self._passed, []
        try:
            async with self._database.transaction() as session:
                for each in passed:
                    statement = note([each])
                    await session.fetch(statement.sql, *statement.args)
                if await session.value(QUERIES["try_duty"], JOINING):
                    await session.fetch(QUERIES["join_saved"])
                    await session.fetch(QUERIES["prune_saved"], STALE_S)
                self._known = _by_stream(await session.fetch(QUERIES["saved"]))
        except (StoreUnavailableError, RowRefusedError):
            self._known = {}
            raise

    async def write(self, saved: Sequence[Saved]) -> None:
        """Write down stretches by themselves: those without rows.

        Raises:
            StoreUnavailableError: The database cannot do this now.
        """
        statement = note(saved)
        async with self._database.transaction() as session:
            await session.fetch(statement.sql, *statement.args)

    async def covered(self, stream: str, arrived: Sequence[Delivery]) -> frozenset[int]:
        """Return the sequences of those messages that were saved before, none in doubt."""
        known = self._known.get(stream, ())
        if not _covered(known, arrived):
            return frozenset()
        state = await self._state(stream)
        if state is None:
            return frozenset()
        known = tuple(each for each in known if each.created == state.created)
        if any(each.through > state.last_sequence for each in known):
            await self._cut(state)
            return frozenset()
        return _covered(known, arrived)

    async def left_out(self, stream: str, durable: str) -> Gone | None:
        """Return how the server may go on behind what is saved, None if it is near its end.

        Raises:
            Exception: One of `TROUBLE`.
        """
        async with asyncio.timeout(MOVE_S):
            state = await self._bus.stream_state(stream)
            info = await self._bus.consumer_state(stream, durable)
            found = left_out(self._known.get(stream, ()), state, info)
            if found is None:
                return None
            last = await self._bus.message_at(stream, found.behind.through)
        if last is None or last.stored_us > found.behind.stored_us:
            return None
        return found

    async def missing(self, found: Gone) -> list[Delivery]:
        """Return what there is of the messages that may not be saved; none can be acknowledged.

        Raises:
            Exception: One of `TROUBLE`.
        """
        stream, wanted = found.behind.stream, found.missing
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
        try:
            async with self._database.transaction() as session:
                await session.fetch(
                    QUERIES["cut_saved"], state.name, state.created, state.last_sequence
                )
                self._known = _by_stream(await session.fetch(QUERIES["saved"]))
        except (StoreUnavailableError, RowRefusedError):
            self._known = {}


def _covered(known: Sequence[Saved], arrived: Iterable[Delivery]) -> frozenset[int]:
    """Return the sequences that stretches cover; those are ascending."""
    ends: list[int] = []
    for each in known:  # an older one may reach further than the next, before they are joined
        ends.append(max(each.through, ends[-1] if ends else 0))
    found: set[int] = set()
    for message in arrived:
        first = bisect_right(ends, message.sequence - 1)
        for each in known[first:]:
            if each.since >= message.sequence:
                break
            if each.covers(message):
                found.add(message.sequence)
                break
    return frozenset(found)


def _saved(row: Record) -> Saved:
    return Saved(
        stream=row["stream"],
        created=row["created"],
        since=row["since"],
        through=row["through"],
        stored_us=microseconds(row["stored_at"]),
    )


def _by_stream(rows: Sequence[Record]) -> dict[str, tuple[Saved, ...]]:
    known = [_saved(each) for each in rows]
    return {
        stream: tuple(each for each in known if each.stream == stream)
        for stream in {each.stream for each in known}
    }
