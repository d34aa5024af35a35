"""Closes gaps whose ids are all stored, whoever delivered them. SHELL.

The process that found a hole says what became of it, but it may die before; and that trades cannot
be had is only its opinion: another process may have delivered them. What is stored decides. A hole
found closed is told as ``gap_filled``, and its row changes as for every such event.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.publisher import Publisher
from market_ingestor.errors import BusError, StoreUnavailableError
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.trade import WIRE_VERSION
from market_ingestor.storage.duties import Duty
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import FAR_FUTURE, FAR_PAST, at, microseconds, probe_bounds
from market_ingestor.storage.timescale import Database, Record

_log = structlog.get_logger(__name__)

INTERVAL_S: Final = 5.0
GAPS_PER_TURN: Final = 100  # of the newest, and as many of the others; one that stays costs an id
IDS_PER_TURN: Final = 50_000  # looked up in the key's index
IDS_PER_QUESTION: Final = 10_000
GROWTH: Final = 10  # of questions about one gap: the first one is about one id
# An open hole is being refilled by whoever found it, who will say so; then it must have died.
OPEN_GRACE: Final = timedelta(seconds=30)
REMEMBERED_MAX: Final = 10_000  # gaps; beyond that all of them are walked anew
DETAIL: Final = "every id is stored, whoever delivered it"


class Key(NamedTuple):
    """The key of a row of ``market_gaps``."""

    exchange: str
    symbol: str
    after_id: str
    before_id: str


class Gap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A gap that is not filled, between ids that are numbers and trades whose times are known."""

    key: Key
    missing: int
    from_time: datetime
    to_time: datetime

    @property
    def place(self) -> tuple[object, ...]:
        """Where it lies on the way from the newest gap to the oldest."""
        return self.from_time, *self.key


FIRST_PLACE: Final = (FAR_FUTURE, "", "", "", "")


class GapKeeper:
    """Looks at a bounded number of gaps a turn: always at the newest, and in time at the others.

    Args:
        reach_s: Gaps over trades older than this are left alone, 0 for none.

    Attributes:
        closed: Gaps found closed.
    """

    def __init__(self, database: Database, publisher: Publisher, *, reach_s: float = 0) -> None:
        self._database = database
        self._publisher = publisher
        self._reach_s = reach_s
        self._place: tuple[object, ...] = FIRST_PLACE
        self._reached: dict[Key, int] = {}  # every id below is stored
        self.closed = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except (StoreUnavailableError, BusError) as problem:
                _log.debug("gaps_postponed", error=str(problem))
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Do one turn, unless another saver is choosing gaps at this moment.

        Raises:
            StoreUnavailableError: The database cannot answer now.
            BusError: The bus refuses events.
        """
        newest, others = await self._choose()
        ids_left = await self._visit(newest, IDS_PER_TURN)
        known = {gap.key for gap in newest}
        for gap in others:
            if not ids_left:
                return  # the next turn begins with this one
            if gap.key not in known:
                ids_left = await self._visit([gap], ids_left)
            self._place = gap.place
        if len(others) < GAPS_PER_TURN:
            self._place = FIRST_PLACE

    async def _visit(self, gaps: Sequence[Gap], ids_max: int) -> int:
        """Walk gaps, and close those whose ids are all there; return how many ids are left."""
        for gap in gaps:
            if not ids_max:
                break
            ids_max -= await self._walk(gap, ids_max)
            if self._reached[gap.key] == int(gap.key.before_id):
                await self._close(gap)
        return ids_max

    async def _choose(self) -> tuple[list[Gap], list[Gap]]:
        """Return the newest gaps, and those that follow the last ones visited."""
        now = at(time.time_ns() // 1_000)
        since = now - timedelta(seconds=self._reach_s) if self._reach_s else FAR_PAST
        bounds = (since, now - OPEN_GRACE, GAPS_PER_TURN)
        async with self._database.transaction() as session:
            if not await session.value(QUERIES["try_duty"], Duty.KEEP_GAPS):
                return [], []
            newest = await session.fetch(QUERIES["unsettled_gaps"], *FIRST_PLACE, *bounds)
            others = await session.fetch(QUERIES["unsettled_gaps"], *self._place, *bounds)
        return list(map(_gap, newest)), list(map(_gap, others))

    async def _walk(self, gap: Gap, ids_max: int) -> int:
        """Look ids up from where the last walk ended to the next missing one; return how many.

        So a gap that stays costs one id a turn: the one that was missing before.
        """
        first, end = self._reached.get(gap.key, int(gap.key.after_id) + 1), int(gap.key.before_id)
        taken, count = 0, 1
        while first < end and taken < ids_max:
            count = min(count, end - first, ids_max - taken)
            missing = await self._first_missing(gap, first, first + count - 1)
            taken += count
            if missing is not None:
                first = missing
                break
            first += count
            count = min(count * GROWTH, IDS_PER_QUESTION)
        if len(self._reached) >= REMEMBERED_MAX:
            self._reached.clear()
        self._reached[gap.key] = first
        return taken

    async def _first_missing(self, gap: Gap, first: int, last: int) -> int | None:
        found: int | None = await self._database.value(
            QUERIES["first_missing"],
            gap.key.exchange,
            gap.key.symbol,
            first,
            last,
            *probe_bounds((microseconds(gap.from_time), microseconds(gap.to_time))),
        )
        return found

    async def _close(self, gap: Gap) -> None:
        """Say that a gap is filled; said again before its row is, it is no second event."""
        event = _filled(gap, time.time_ns() // 1_000)
        subject = subjects.event(event.exchange, event.symbol)
        await self._publisher.publish(subject, codec.encode(event), f"filled.{'.'.join(gap.key)}")
        self.closed += 1
        _log.info(
            "gap_closed",
            exchange=event.exchange,
            symbol=event.symbol,
            after_id=event.after_id,
            before_id=event.before_id,
        )


def _gap(row: Record) -> Gap:
    return Gap(
        key=Key(row["exchange"], row["symbol"], row["after_id"], row["before_id"]),
        missing=row["missing"],
        from_time=row["from_time"],
        to_time=row["to_time"],
    )


def _filled(gap: Gap, now_us: int) -> MarketEvent:
    return MarketEvent(
        v=WIRE_VERSION,
        exchange=gap.key.exchange,
        symbol=gap.key.symbol,
        type="gap_filled",
        time_us=now_us,
        after_id=gap.key.after_id,
        before_id=gap.key.before_id,
        missing=gap.missing,
        from_time=microseconds(gap.from_time) // 1_000,
        to_time=microseconds(gap.to_time) // 1_000,
        detail=DETAIL,
        simulated=is_simulated(gap.key.exchange),
    )
