"""How far savers have come, remembered beside the rows. SHELL.

nats-server writes a durable's state in place; killed meanwhile it begins at the first message of
the stream again. What the database remembers lets savers pass over what is stored. It lies there,
and not in NATS, so that an empty database, or one from a backup, knows as much as it has.

A message is passed over only when three things agree: its sequence, the time at which the server
stored it (a stream that lost its end gives sequences out again), and the stream's own creation
time, asked for after the message arrived (a stream made anew gives all of them out again).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import at, microseconds
from market_ingestor.storage.timescale import Database, Record

_log = structlog.get_logger(__name__)

STREAMS: Final = (subjects.RAW_STREAM, subjects.KLINE_STREAM, subjects.EVENT_STREAM)
INTERVAL_S: Final = 1.0  # what is acknowledged within is saved again, and is a duplicate then
BEGIN_S: Final = 3.0  # both servers answer in milliseconds, or the record has to wait
ASK_S: Final = 2.0  # messages in hand wait for the answer, and come again after six seconds


class Saved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a stream was committed, or became a dead letter.

    Attributes:
        created: When the stream was made (`bus.streams.created`).
        since: Below and at this sequence nothing is known.
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

    def is_news_to(self, known: "Saved | None") -> bool:
        """Return whether this says more than what is known, or is about another stream. Pure."""
        return known is None or known.created != self.created or known.through < self.through


class SavedRecord:
    """Writes the savers' ack floors down, and tells which messages lie behind them.

    An ack follows its commit, so whoever reads a floor may write it down; savers may do so at once.
    """

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._known: dict[str, Saved] = {}

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
        news = [each for each in found if each.is_news_to(self._known.get(each.stream))]
        try:
            rows = await self._exchange(news)
        except (StoreUnavailableError, RowRefusedError):
            self._known = {}
            raise
        self._known = {row["stream"]: _saved(row) for row in rows}

    async def _exchange(self, news: Sequence[Saved]) -> list[Record]:
        async with self._database.transaction() as session:
            if news:
                await session.fetch(
                    QUERIES["note_saved"],
                    [each.stream for each in news],
                    [each.created for each in news],
                    [each.through for each in news],
                    [at(each.stored_us) for each in news],
                )
            return await session.fetch(QUERIES["saved"])

    async def _floors(self) -> list[Saved]:
        """Return how far the savers have come in each stream, as far as the bus answers."""
        found: list[Saved] = []
        for stream in STREAMS:
            with contextlib.suppress(*TROUBLE):
                found.append(await self._floor(stream))
        return found

    async def _floor(self, stream: str) -> Saved:
        """Return how far the savers have come in a stream.

        The stream is asked first: all it held then that lies at or below the floor is acknowledged,
        whether it is deleted, or loses its end and fills again, before the floor is read.
        """
        info = await self._bus.api(f"STREAM.INFO.{stream}", timeout_s=ASK_S)
        durable = await self._bus.consumer_state(stream, subjects.SAVE_DURABLE)
        floor = durable.ack_floor if durable is not None else 0
        through = min(floor, info["state"]["last_seq"])
        return Saved(
            stream=stream,
            created=streams.created(info),
            since=through,
            through=through,
            stored_us=_time_us(info["state"]["last_ts"]),
        )

    async def covered(self, stream: str, arrived: Sequence[Delivery]) -> frozenset[int]:
        """Return the sequences of those messages that were saved before, none in doubt."""
        known = self._known.get(stream)
        if known is None:
            return frozenset()
        found = frozenset(each.sequence for each in arrived if known.covers(each))
        if found and not await self._is_of(stream, known.created):
            return frozenset()
        return found

    async def _is_of(self, stream: str, created: str) -> bool:
        """Return whether a stream is, by now, the one that was made then."""
        try:
            async with asyncio.timeout(ASK_S):
                return (await self._bus.stream_state(stream)).created == created
        except TROUBLE:
            return False


def _time_us(text: str) -> int:
    """Return a time of the server, 1970 for the year 1 that an empty stream says."""
    return max(microseconds(datetime.fromisoformat(text)), 0)


def _saved(row: Record) -> Saved:
    return Saved(
        stream=row["stream"],
        created=row["created"],
        since=row["since"],
        through=row["through"],
        stored_us=microseconds(row["stored_at"]),
    )
