"""The role ``save``: everything on the bus that belongs into the database. SHELL.

Owns the wiring: one lane per stream, and the duties that come with being the only writer: counts
per symbol, partitions ahead of time, retention, room in MARKET_RAW, gaps that closed. Savers may be
many; they share the streams' durables, and each duty is done by one of them at a time.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from market_ingestor import metrics
from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.listings import follow_listings
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.publisher_metrics import PublisherMetrics
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.runtime.role import Health
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.dead import ROLE, DeadLetters
from market_ingestor.storage.duties import Duty
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.gap_keeper import GapKeeper
from market_ingestor.storage.janitor import Janitor
from market_ingestor.storage.lane import Lane, Sorted
from market_ingestor.storage.listings import ListingTable
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.rows import gap_row, kline_row, trade_rows
from market_ingestor.storage.saved import SavedRecord
from market_ingestor.storage.timescale import Database
from market_ingestor.storage.writers import GapWriter, KlineWriter, TradeWriter

_log = structlog.get_logger(__name__)

TRADE_WRITERS: Final = 2  # overlapped connections: 46 % more rows a second when measured
OTHER_WRITERS: Final = 1  # candles and gaps are few
CONNECTIONS: Final = TRADE_WRITERS + 2 * OTHER_WRITERS + 2  # one for the duties, one for gaps
DUTY_INTERVAL_S: Final = 10.0  # how old the counts in market_symbols may be
PARTITION_INTERVAL_S: Final = 3_600.0
DAYS_AHEAD: Final = 2  # a database away over midnight still has tomorrow's partition
KLINE_DAYS_AHEAD: Final = 31
# Live trades are at most a day old, and a refill asks for what a stream of two days has lost.
# Later ones still go in, only slower.
COLUMNSTORE_AFTER_S: Final = 7 * 86_400.0
LOCK_WAIT: Final = "SET LOCAL lock_timeout = '2s'"  # nobody waits behind a policy that waits
DEAD_LETTERS_IN_FLIGHT: Final = 64
STOP_GRACE_S: Final = 8.0  # leaves time to close connections within the default 10 s
GAUGE_INTERVAL_S: Final = 1.0
# Newest versions of candles stay rows: the API reads them, and corrections update them.
COLUMNSTORES: Final = ("market_trades", "market_kline_revisions")


class BatchSaver:
    """Writes trades, candles and gaps; acknowledges what is committed.

    Args:
        database: Opened with ``stages=True`` and at least `CONNECTIONS` connections.
        trade_retention_s: Trades older than this are dropped, 0 keeps them.
        kline_retention_s: As above, for candles and their versions.
        columnstore_after_s: TimescaleDB keeps trades and versions older than this as columns, 0
            never.
        stop_grace_s: How long `stop` may take to commit what is in hand.
    """

    name = ROLE

    def __init__(
        self,
        bus: Bus,
        database: Database,
        *,
        limits: SaveLimits | None = None,
        trade_retention_s: float = 0,
        kline_retention_s: float = 0,
        columnstore_after_s: float = COLUMNSTORE_AFTER_S,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        if not database.stages:
            raise ValueError("the saver needs a Database opened with stages=True")
        self._bus = bus
        self._database = database
        self._retention_s = {
            "market_trades": trade_retention_s,
            "market_klines": kline_retention_s,
            "market_kline_revisions": kline_retention_s,
        }
        self._columnstore_after_s = columnstore_after_s
        self._stop_grace_s = stop_grace_s
        self._publisher = Publisher(bus, items_max=DEAD_LETTERS_IN_FLIGHT)
        self._janitor = Janitor(bus, self._publisher)
        # What is dropped proves nothing, and among columns an id is expensive to find.
        reaches = [each for each in (trade_retention_s, columnstore_after_s) if each]
        self._gap_keeper = GapKeeper(database, self._publisher, reach_s=min(reaches, default=0))
        self._listings = ListingTable()
        self._record = SavedRecord(bus, database)
        self._started = False
        self._stopping = False
        self._partitions_due = 0.0
        self._policies_due = 0.0
        limits = limits or SaveLimits()
        dead_letters = DeadLetters(self._publisher)
        gaps = GapWriter(database)
        shared: dict[str, Any] = {
            "gaps": gaps,
            "dead_letters": dead_letters,
            "record": self._record,
            "limits": limits,
        }
        self.trades = Lane(
            bus,
            subjects.RAW_STREAM,
            sort=sort_raw,
            writer=TradeWriter(database),
            writers_max=TRADE_WRITERS,
            **shared,
        )
        self.klines = Lane(
            bus,
            subjects.KLINE_STREAM,
            sort=_sort_kline,
            writer=KlineWriter(database),
            writers_max=OTHER_WRITERS,
            **shared,
        )
        self.events = Lane(
            bus,
            subjects.EVENT_STREAM,
            sort=_sort_event,
            writer=gaps,
            writers_max=OTHER_WRITERS,
            **shared,
        )
        self._lanes = (self.trades, self.klines, self.events)

    async def run(self) -> None:
        """Save until `stop`; then commit and acknowledge what is in hand, and return."""
        await self._record.begin()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(each)
                for each in (
                    self._publisher.run(),
                    self._database.watch(),
                    self._do_duties(),
                    self._record.run(),
                    self._janitor.run(),
                    self._gap_keeper.run(),
                    follow_listings(self._bus, self._listings.put),
                    self._keep_gauges(),
                )
            ]
            self._started = True
            try:
                async with asyncio.TaskGroup() as lanes:
                    for lane in self._lanes:
                        lanes.create_task(lane.run())
                    if self._stopping:  # stopped before anything ran
                        self._stop_lanes()
            finally:
                for task in background:
                    task.cancel()

    def stop(self) -> None:
        """Pull nothing more, commit and acknowledge what is in hand, return from `run`."""
        self._stopping = True
        if self._started:
            self._stop_lanes()

    def _stop_lanes(self) -> None:
        for lane in self._lanes:
            lane.stop(self._stop_grace_s)

    def health(self) -> Health:
        """Return whether rows can be written: the bus is there and the database takes them."""
        problems = [
            f"{lane.stream} waits for the database: {lane.problem}"
            for lane in self._lanes
            if lane.problem is not None
        ]
        if not self._bus.is_up:
            problems.append("NATS does not answer")
        if not self._database.is_up:
            problems.append("the database does not answer")
        is_ready = self._started and not self._stopping and not problems
        for lane in self._lanes:
            problems += lane.lag_problems()
        return Health(
            is_ready=is_ready,
            problems=tuple(problems),
            details={
                lane.stream: {
                    "committed": lane.committed,
                    "duplicate": lane.duplicate,
                    "conflicting": lane.conflicting,
                    "dead": lane.dead,
                    "skipped": lane.skipped,
                    "pending": lane.pending,
                    "committed_at": lane.committed_at,
                }
                for lane in self._lanes
            },
        )

    # -- duties

    async def _do_duties(self) -> None:
        """Keep counts and partitions; failures are the lanes' to report, and tried again."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= self._partitions_due:
                    await self._keep_partitions()
                    self._partitions_due = loop.time() + PARTITION_INTERVAL_S
                await sum_symbols(self._database)
                await self._listings.save(self._database)
                if loop.time() >= self._policies_due:  # last: nothing else may hang on them
                    self._policies_due = loop.time() + PARTITION_INTERVAL_S
                    await self.keep_policies()
            except (StoreUnavailableError, RowRefusedError) as problem:
                _log.debug("duty_postponed", error=str(problem))
            await asyncio.sleep(DUTY_INTERVAL_S)

    async def _keep_partitions(self) -> None:
        now = datetime.now(UTC)
        days = [now + timedelta(days=each) for each in range(DAYS_AHEAD + 1)]
        months = [now, now + timedelta(days=KLINE_DAYS_AHEAD)]
        ahead = {
            "market_trades": days,
            "market_klines": months,
            "market_kline_revisions": months,
        }
        async with self._database.transaction() as session:
            if not await session.value(QUERIES["try_duty"], Duty.MAKE_PARTITIONS):
                return
            for table, times in ahead.items():
                await session.value(QUERIES["ensure_partitions"], table, times)
            for table, retention_s in self._retention_s.items():
                if not retention_s:
                    continue
                cutoff = now - timedelta(seconds=retention_s)
                dropped = await session.value(QUERIES["drop_before"], table, cutoff)
                if dropped:
                    _log.info("retention_dropped", table=table, chunks=dropped)

    async def keep_policies(self) -> None:
        """Bring TimescaleDB's own jobs to what is configured, where it has them.

        What they do about retention is done by `_keep_partitions` as well: a job that fails says
        so in a catalog only, and a licence may be without them.
        """
        settled = timedelta(seconds=self._columnstore_after_s) or None
        wanted = [("set_columnstore", table, settled) for table in COLUMNSTORES] + [
            ("set_retention", table, timedelta(seconds=retention_s) or None)
            for table, retention_s in self._retention_s.items()
        ]
        async with self._database.transaction() as session:
            await session.script(LOCK_WAIT)
            if not await session.value(QUERIES["try_duty"], Duty.SET_POLICIES):
                return
            for query, table, after in wanted:
                if await session.value(QUERIES[query], table, after):
                    _log.info("policy_changed", policy=query, table=table, after=str(after))

    async def _keep_gauges(self) -> None:
        published = PublisherMetrics(self._publisher, ROLE)
        while True:
            published.export()
            oldest_us = self.trades.oldest_us
            metrics.raw_unsaved_oldest_timestamp_seconds.set((oldest_us or 0) / 1e6)
            await asyncio.sleep(GAUGE_INTERVAL_S)


async def sum_symbols(database: Database) -> None:
    """Bring ``market_symbols`` up to what is committed, unless somebody else is at it.

    Raises:
        StoreUnavailableError: The database cannot do it now.
    """
    async with database.transaction() as session:
        if await session.value(QUERIES["try_duty"], Duty.COUNT_SYMBOLS):
            await session.fetch(QUERIES["sum_symbols"])


def sort_raw(message: Delivery) -> Sorted:
    """Return the rows of a message of MARKET_RAW."""
    if message.subject.endswith(f".{subjects.MARK_TOKEN}"):
        return Sorted()  # a mark: klines reads it, there is nothing to save
    found = trade_rows(message.subject, message.payload, message.sequence)
    return Sorted(rows=found.rows, refused=found.refused, alone=found.source == "rest")


def _sort_kline(message: Delivery) -> Sorted:
    return Sorted(rows=[kline_row(message.subject, message.payload, message.sequence)])


def _sort_event(message: Delivery) -> Sorted:
    row = gap_row(message.subject, message.payload, message.sequence)
    return Sorted() if row is None else Sorted(rows=[row])
