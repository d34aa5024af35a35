"""From one stream into its tables: gather, write, acknowledge. SHELL.

Owns the order "commit, then ack", the retrying and the bounds: at most one batch is gathered and
a fixed number is being written; while those wait for the database nothing more is pulled. Knows
neither what the rows mean nor how they are written.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec
import structlog

from market_ingestor import metrics
from market_ingestor.bus import streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import Delivery, Origin, PullReader
from market_ingestor.errors import DecodeError, StoreUnavailableError
from market_ingestor.runtime.role import lag_problems
from market_ingestor.storage.batch import (
    Batch,
    Bisection,
    Loss,
    SaveLimits,
    Suspect,
    is_due,
    wait_s,
)
from market_ingestor.storage.dead import ROLE, DeadLetters, DeliveryLoss, hole, row_loss
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.leaving import LeavingOut
from market_ingestor.storage.rows import Refused, Row, RowKey, gap
from market_ingestor.storage.saved import Saved, SavedRecord, stretches
from market_ingestor.storage.writers import GapWriter, Locks, Writer, Written

_log = structlog.get_logger(__name__)

# A killed saver's messages come again after this, so it is short: what a living saver still works
# on, however long that takes, is extended in time.
ACK_WAIT_S: Final = 6.0
EXTEND_AFTER_S: Final = ACK_WAIT_S / 3  # two extensions may be lost before a redelivery
PULL_MESSAGES: Final = 500  # asked for at a time: up to 750 of at most 256 KiB may arrive unread
SAVERS_EXPECTED: Final = 4  # max_ack_pending holds two full batches of messages for each
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0  # a database that is back must not wait long for us
LOG_INTERVAL_S: Final = 30.0


class Sorted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a message amounts to.

    Attributes:
        rows: To be written; a message without rows and losses is acknowledged at once.
        refused: Trades in it that cannot be stored.
        alone: The rows need their instrument's lock for themselves (`Batch.add`).
    """

    rows: Sequence[Row] = ()
    refused: Sequence[Refused] = ()
    alone: bool = False


Sort = Callable[[Delivery], Sorted]


class Lane:
    """Saves one stream.

    Args:
        sort: Returns what a message amounts to, or raises `DecodeError`.
        writer: Writes rows of this stream.
        gaps: Writes the holes that dead trades leave.
        record: Knows what was saved before, should the server have forgotten.
        writers_max: Batches written at the same time, each on a connection of its own.

    Attributes:
        committed: Rows committed, without duplicates.
        duplicate: Rows that were stored, or came twice in a batch.
        conflicting: Rows left out because their id has other facts.
        dead: Rows and messages that became dead letters.
        skipped: Messages that were saved before the server forgot, and only acknowledged again.
        given_up: Messages in hand that were neither committed nor acknowledged when time was up.
        problem: Why nothing can be written now, None when it can.
        committed_at: Unix seconds of the newest commit, None before the first.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        *,
        sort: Sort,
        writer: Writer,
        gaps: GapWriter,
        dead_letters: DeadLetters,
        record: SavedRecord,
        limits: SaveLimits,
        writers_max: int,
    ) -> None:
        self.stream = stream
        self._sort = sort
        self._writer = writer
        self._gaps = gaps
        self._dead_letters = dead_letters
        self._record = record
        self._limits = limits
        config = durable(limits)
        self._reader = PullReader(
            bus, stream, config, batch=min(PULL_MESSAGES, limits.batch_size_max)
        )
        self._leaving = LeavingOut(bus, record, stream, config, self._reader.doubt)
        self._writers = asyncio.Semaphore(writers_max)
        self._writers_max = writers_max
        self._batch: Batch[Delivery] = Batch()
        self._untaken: Sequence[Delivery] = ()
        self._held: set[Batch[Delivery]] = set()
        self._stopping = False
        self._life: asyncio.Timeout | None = None
        self._waiting: asyncio.Timeout | None = None
        self._logged_at = -LOG_INTERVAL_S
        self._skip_logged_at = -LOG_INTERVAL_S
        self._pending = metrics.consumer_pending_messages.labels(role=ROLE, stream=stream)
        self._queue = metrics.queue_items.labels(queue=f"save_{stream}")
        self._seconds = metrics.save_batch_seconds.labels(table=writer.table)
        metrics.queue_items_max.labels(queue=f"save_{stream}").set(
            limits.batch_size_max * (writers_max + 1)
        )
        self.committed = 0
        self.duplicate = 0
        self.conflicting = 0
        self.dead = 0
        self.skipped = 0
        self.given_up = 0
        self.problem: str | None = None
        self.committed_at: float | None = None

    @property
    def pending(self) -> int:
        """Return how many messages of the stream were not delivered yet."""
        return self._reader.pending

    @property
    def oldest_us(self) -> int | None:
        """Return when the oldest message in hand was stored in the stream, None without any."""
        heads = [each.messages[0].stored_us for each in self._in_hand() if each.messages]
        return min(heads, default=None)

    def lag_problems(self) -> tuple[str, ...]:
        """Return what there is to say when messages in hand are older than they should be."""
        rests_s = self._limits.flush_interval_s
        return lag_problems(self.stream, self.oldest_us, time.time_ns() // 1_000, rests_s=rests_s)

    def stop(self, grace_s: float) -> None:
        """Pull nothing more; commit what is in hand, within ``grace_s`` seconds.

        What is not committed by then stays unacknowledged and comes again to whoever saves next.
        """
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        if self._waiting is not None:
            self._waiting.reschedule(loop.time())
        if self._life is not None:
            self._life.reschedule(loop.time() + grace_s)

    async def run(self) -> None:
        """Save until stopped."""
        try:
            async with (
                self._reader,
                asyncio.timeout(None) as self._life,
                asyncio.TaskGroup() as tasks,
            ):
                keeper = tasks.create_task(self._keep())
                try:
                    await self._gather()
                finally:
                    keeper.cancel()
        except TimeoutError:
            _log.warning("save_given_up", stream=self.stream, messages=self.given_up)
        finally:
            self._life = None

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as flushes:
            while not self._stopping:
                arrived = await self._next(wait_s(self._limits, self._batch, now=loop.time()))
                await self._take(arrived, flushes)
                more = self._reader.pending > 0
                if is_due(self._limits, self._batch, now=loop.time(), more_waiting=more):
                    await self._flush_when_free(flushes)
                self._pending.set(self._reader.pending)
            if self._batch.messages:
                await self._flush_when_free(flushes)

    async def _next(self, wait: float) -> Sequence[Delivery]:
        """Return what arrives within ``wait`` seconds, nothing when stopped meanwhile."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await self._reader.next(wait)
        except TimeoutError:
            return ()
        finally:
            self._waiting = None

    async def _take(self, arrived: Sequence[Delivery], flushes: asyncio.TaskGroup) -> None:
        """Add what arrived to the batch, but for what was saved before."""
        self._untaken = arrived
        origin = self._reader.origin
        covered = await self._covered(origin, arrived)
        new = [each for each in arrived if each.sequence not in covered] if covered else arrived
        passed = await self._gather_up(new, origin, flushes)
        done = [each for each in arrived if each.sequence in covered] + passed
        if done and await self._is_there(origin):
            await self._reader.ack(done)
        if covered:
            missing = await self._leaving.step()
            if missing is not None:  # no durable gave them out
                origin = Origin(stream=missing.created, durable="")
                await self._gather_up(missing.messages, origin, flushes)

    async def _gather_up(
        self, messages: Sequence[Delivery], origin: Origin | None, flushes: asyncio.TaskGroup
    ) -> list[Delivery]:
        """Add messages to the batch, handing it on whenever it is full.

        Returns:
            Those that hold nothing to be saved.
        """
        if self._batch.messages and self._batch.origin != origin:
            await self._flush_when_free(flushes)
        self._untaken = ()
        now = asyncio.get_running_loop().time()
        passed: list[Delivery] = []
        for index, each in enumerate(messages):
            self._batch.origin = origin
            if not self._add(each, now):
                passed.append(each)
                self._batch.passed.append(each)
            if self._batch.weight >= self._limits.batch_size_max:
                self._untaken = messages[index + 1 :]
                await self._flush_when_free(flushes)
                self._untaken = ()
        if not self._batch.messages:
            self._record.pass_by(self._stretches(self._batch))
            self._batch.passed = []
        return passed

    async def _covered(self, origin: Origin | None, arrived: Sequence[Delivery]) -> frozenset[int]:
        """Return the sequences of what was saved before the server forgot."""
        if origin is None or not arrived:
            return frozenset()
        covered = await self._record.covered(self.stream, origin.stream, arrived)
        if covered:
            self._note_skipped(len(covered))
        return covered

    def _stretches(self, batch: Batch[Delivery]) -> list[Saved]:
        if batch.origin is None:
            return []
        return stretches(self.stream, batch.origin.stream, (*batch.messages, *batch.passed))

    def _add(self, message: Delivery, now: float) -> bool:
        """Put a message into the batch; False when there is nothing in it to save."""
        try:
            found = self._sort(message)
        except DecodeError as problem:
            self._batch.add(message, (), now=now)
            self._batch.losses.append(Loss(message=message, reason=str(problem)))
            return True
        if not found.rows and not found.refused:
            return False
        self._batch.add(message, found.rows, now=now, alone=found.alone)
        self._batch.losses += [
            Loss(message=message, reason=each.reason, trade=each.trade) for each in found.refused
        ]
        return True

    def _note_skipped(self, messages: int) -> None:
        self.skipped += messages
        now = asyncio.get_running_loop().time()
        if now - self._skip_logged_at >= LOG_INTERVAL_S:
            self._skip_logged_at = now
            _log.warning("saved_before", stream=self.stream, skipped=self.skipped)

    # -- writing

    async def _flush_when_free(self, flushes: asyncio.TaskGroup) -> None:
        await self._writers.acquire()
        batch, self._batch = self._batch, Batch()
        if not batch.messages:  # another writer took it over while we waited
            self._writers.release()
            return
        self._held.add(batch)
        flushes.create_task(self._flush(batch))

    async def _flush(self, batch: Batch[Delivery]) -> None:
        try:
            dead = await self._store(batch)
            by_sequence = {each.sequence: each for each in batch.messages}
            losses = batch.losses + [
                row_loss(by_sequence[each.row.sequence], each.row, each.reason) for each in dead
            ]
            for loss in losses:
                await self._bury(loss)
            if not batch.is_noted:
                await self._note_later(batch, {each.row.key for each in dead})
            await self._ack(batch)
            self.duplicate += batch.repeated
            self._count_conflicting(batch.conflicting)
        except asyncio.CancelledError:
            self.given_up += len(batch.messages)
            raise
        finally:
            self._held.discard(batch)
            self._writers.release()
            self._queue.set(sum(len(each) for each in self._in_hand()))

    async def _ack(self, batch: Batch[Delivery]) -> None:
        """Acknowledge what came from the durable that is there; the rest comes again from that."""
        if await self._is_there(batch.origin):
            await self._reader.ack(batch.messages)

    async def _is_there(self, origin: Origin | None) -> bool:
        """Return whether the durable is there that messages came from."""
        return origin is not None and await self._reader.is_from(origin.durable)

    async def _store(self, batch: Batch[Delivery]) -> Sequence[Suspect]:
        """Commit every row that can be; return those at fault. Repeats until that is reached."""
        attempt = 0
        while True:
            rows = batch.sorted_rows()
            search = Bisection(rows)
            while (chunk := search.chunk) is not None:
                noted = [] if chunk is not rows or batch.losses else self._stretches(batch)
                try:
                    await self._write(chunk, batch, noted)
                except RowRefusedError as problem:
                    search.refused(str(problem))
                except StoreUnavailableError as problem:
                    await self._back_off(attempt, str(problem))
                    attempt += 1
                else:
                    batch.is_noted = bool(noted)
                    search.stored()
                    attempt = 0
            if not search.unexplained:
                return search.dead
            await self._back_off(attempt, search.unexplained[0].reason)
            attempt += 1
            self._find_neighbours(batch)

    async def _note_later(self, batch: Batch[Delivery], dead: Collection[RowKey]) -> None:
        """Write down what a batch with losses took, once they are buried.

        With its other rows once more, for the record must come and go with them. Without it, the
        worst is that all of it is saved again one day.
        """
        noted = self._stretches(batch)
        if not noted:
            return
        rows = [each for each in batch.sorted_rows() if each.key not in dead]
        try:
            if rows:
                keys, alone = batch.slots(rows)
                await self._writer.write(
                    rows, Locks(keys=keys, alone=alone), self._record.notes(noted)
                )
            else:
                await self._record.write(noted)
        except (RowRefusedError, StoreUnavailableError) as problem:
            _log.debug("saved_postponed", error=str(problem))

    def _find_neighbours(self, batch: Batch[Delivery]) -> None:
        """Add what was gathered meanwhile, so that a refused row can be told from a bad day."""
        if self._batch.messages and batch.weight <= self._limits.batch_size_max:
            batch.absorb(self._batch)
            self._batch = Batch()

    async def _write(
        self, rows: Sequence[Row], batch: Batch[Delivery], noted: Sequence[Saved]
    ) -> None:
        keys, alone = batch.slots(rows)
        also = self._record.notes(noted)
        started = time.perf_counter()
        written = await self._writer.write(rows, Locks(keys=keys, alone=alone), also)
        self._seconds.observe(time.perf_counter() - started)
        self._count(written)

    def _count(self, written: Written) -> None:
        """Count what is committed now."""
        for table, rows in written.inserted.items():
            metrics.db_insert_total.labels(table=table).inc(rows)
        stored = written.inserted[self._writer.table]
        self.committed += stored
        self.duplicate += written.duplicate
        if self.stream == subjects.RAW_STREAM:
            metrics.trades_stored_total.inc(stored)
        self._count_conflicting(written.conflicting)
        self.problem = None
        self.committed_at = time.time()
        metrics.save_last_commit_timestamp_seconds.set(self.committed_at)

    def _count_conflicting(self, rows: int) -> None:
        if rows:
            self.conflicting += rows
            metrics.trades_conflicting_total.inc(rows)

    async def _back_off(self, attempt: int, problem: str) -> None:
        """Wait before the next attempt; there is always one, until we are stopped."""
        loop = asyncio.get_running_loop()
        self.problem = problem
        if loop.time() - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = loop.time()
            _log.warning("save_waits", stream=self.stream, error=problem, attempt=attempt)
        longest = min(BACKOFF_FIRST_S * 2 ** min(attempt, 10), BACKOFF_MAX_S)
        await asyncio.sleep(random.uniform(longest / 2, longest))

    # -- losses

    async def _bury(self, loss: DeliveryLoss) -> None:
        await self._dead_letters.bury(loss)
        self.dead += 1
        _log.warning(
            "dead_lettered",
            subject=loss.message.subject,
            sequence=loss.message.sequence,
            trade_id=loss.trade and loss.trade.id,
            reason=loss.reason,
        )
        event = hole(loss, now_us=time.time_ns() // 1000)
        if event is None:
            return
        row = gap(event, "unfillable", loss.message.sequence)
        for attempt in itertools.count():
            try:
                await self._gaps.write([row], Locks(keys=[], alone=[]))
            except StoreUnavailableError as problem:
                await self._back_off(attempt, str(problem))
            else:
                break
        await self._dead_letters.announce(event, loss.message.sequence)

    # -- what is in hand

    def _in_hand(self) -> list[Batch[Delivery]]:
        return [*self._held, self._batch]

    async def _keep(self) -> None:
        """Tell the server, while the database keeps us waiting, that we have not died."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EXTEND_AFTER_S)
            overdue = loop.time() - EXTEND_AFTER_S / 2
            for batch in self._in_hand():
                if batch.opened_at is not None and batch.opened_at < overdue:
                    await self._reader.extend(batch.messages)
            await self._reader.extend(self._untaken)


def durable(limits: SaveLimits) -> dict[str, Any]:
    """Return the configuration of the savers' shared consumer.

    A batch is counted in rows and a message may hold one row only, so the bound of what may be
    unacknowledged is in rows as well: two batches for each saver, in messages.
    """
    return streams.durable_config(
        subjects.SAVE_DURABLE,
        ack_wait_s=max(ACK_WAIT_S, 2 * limits.flush_interval_s),
        max_ack_pending=2 * SAVERS_EXPECTED * limits.batch_size_max,
    )
