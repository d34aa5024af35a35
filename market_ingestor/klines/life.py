"""One life of the klines role: reads MARKET_RAW, publishes candles and statistics. SHELL.

Begins with the resume records and ends with a stop, or when a stream it knows turns out to be
another one. Owns the order of things: what is read is folded at once, what closes is handed to
publication, what must be corrected is left to corrections, and a resume record says where to
begin again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog

from market_ingestor import metrics
from market_ingestor.bus import subjects
from market_ingestor.bus.asking import ask
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.publisher_metrics import PublisherMetrics
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.config import KlinesSettings
from market_ingestor.errors import DecodeError, StreamRecreatedError
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.chains import Chains
from market_ingestor.klines.clock import StreamClock
from market_ingestor.klines.corrections import Corrections
from market_ingestor.klines.dead import ROLE, DeadLetters
from market_ingestor.klines.facts import Closing, Rules
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.live import LiveCandles
from market_ingestor.klines.loader import Loader
from market_ingestor.klines.memory import ResumeMemory
from market_ingestor.klines.notices import follow
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.publication import Publication
from market_ingestor.klines.stats_book import StatsBook
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.versions import MEMORY_MS, Versions
from market_ingestor.runtime.role import Health, lag_problems

_log = structlog.get_logger(__name__)

READ_WAIT_S: Final = 0.25  # also how soon a stop is noticed
YIELD_AFTER: Final = 100  # messages folded before other tasks get their turn
PUBLICATIONS_MAX: Final = 20_000  # waiting; beyond it reading waits, so memory stays bounded
PUBLICATIONS_LOW: Final = 10_000
PUBLICATIONS: Final = "klines_publications"  # their name as a queue
GAUGE_INTERVAL_S: Final = 1.0
SILENCE_CHECK_S: Final = 0.5
RECORD_MARGIN_US: Final = 600_000_000  # between clocks of processes when looking for versions
DRAIN_WAIT_S: Final = 2.0  # for publications under way, then for the records


class Life:
    """Everything the processor knows, and the tasks that keep it so.

    Args:
        bus: Connected; may break off and come back.
        store: What is committed; may be away.
        settings: Periods and times.
        owns: Which hash slots this process works on.
        stop: Set when it shall drain and end.
    """

    def __init__(
        self,
        bus: Bus,
        store: CandleStore,
        settings: KlinesSettings,
        *,
        owns: Callable[[int], bool],
        stop: asyncio.Event,
    ) -> None:
        rules = Rules(
            periods=tuple(settings.periods),
            lateness_us=int(settings.lateness_s * 1e6),
            hold_us=int(settings.hold_max_s * 1e6),
            fill_empty=settings.fill_empty,
        )
        self._bus = bus
        self._hold_us = rules.hold_us
        self.intake = Intake(rules, owns)
        self.memory = ResumeMemory(bus, store, self.intake, owns)
        self._publisher = Publisher(bus)
        self._dead_letters = DeadLetters(self._publisher)
        self._book = StatsBook(store, self.intake.aggregators)
        self._tail = Tail(bus, Versions(), self._book.candle)
        self._chains = Chains()
        self.publication = Publication(bus, self._publisher, self._tail, self.memory.resumed)
        self.corrections = Corrections(
            bus, store, self._chains, self.publication, self._tail, self.intake.aggregators
        )
        self._loader = Loader(bus, store, self._tail, self.publication)
        self._live = LiveCandles(bus, settings.live_interval_ms / 1e3, self._book)
        self._clock = StreamClock()
        self._stop = stop
        self._is_started = False
        self._next_sequence = 1
        self._pending = 0
        self._oldest_us: int | None = None  # when the oldest message that waits was stored
        self._silence_checked_at = 0.0

    def health(self) -> Health:
        """Return how this role is."""
        problems = []
        if not self._bus.is_up:
            problems.append("NATS is away")
        if self.corrections.is_store_away:
            problems.append(f"{self.corrections.waiting} corrections wait for the database")
        if self._publisher.is_held:
            problems.append("candles are refused by the server for now")
        problems += lag_problems(subjects.RAW_STREAM, self._oldest_us, time.time_ns() // 1_000)
        is_ready = self._is_started and self._bus.is_up and not self._stop.is_set()
        return Health(is_ready=is_ready, problems=tuple(problems), details=self._details())

    def _details(self) -> dict[str, Any]:
        return {
            "symbols": len(self.intake.aggregators),
            "position": self._next_sequence,
            "pending": self._pending,
            "publications": len(self._chains),
            "dirty": self.corrections.waiting,
            "long_windows_waiting": self._loader.waiting,
            "published": self.publication.published,
            "dead_letters": self._dead_letters.count,
        }

    async def run(self) -> None:
        """Work until stopped, then publish what is under way and write the resume records.

        Raises:
            StreamRecreatedError: In a group: what is known of the streams is void. A record
                that says so was written; begin anew.
        """
        try:
            await self._work()
        except* StreamRecreatedError as problems:
            _log.warning("klines_begins_anew", error=str(problems.exceptions[0]))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_WAIT_S):
                    await self.memory.write(self._next_sequence, all_slots=True)
            raise

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self._publisher.run(), name="klines-publisher")]
            await self.memory.load()
            since_us = self._looks_back_to()
            await self._tail.begin(since_us, is_whole=self.memory.has_all_candles)
            background += [
                group.create_task(each)
                for each in (
                    self._tail.run(),
                    self._chains.run(),
                    self.corrections.run(),
                    self._live.run(),
                    self._book.run(),
                    self._keep_gauges(),
                    follow(self._bus, since_us, self._lose),
                )
            ]
            await self._tail.catch_up()
            background.append(group.create_task(self._loader.run(self.intake.aggregators)))
            self._next_sequence = self.memory.start
            background.append(group.create_task(self.memory.run(lambda: self._next_sequence)))
            _log.info("klines_started", position=self._next_sequence)
            await self._read()
            await self._drain()
            for task in background:
                task.cancel()
        _log.info("klines_stopped", position=self._next_sequence)

    async def _drain(self) -> None:
        """Finish what is on its way; what does not make it in time counts as dirty."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WAIT_S):
                await self._chains.wait_below(1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WAIT_S):
                await self.memory.write(self._next_sequence, all_slots=True)

    def _looks_back_to(self) -> int:
        """Return from when on other streams are read again, UTC microseconds."""
        since_us = time.time_ns() // 1_000 - MEMORY_MS * 1_000
        if self.memory.written_us is not None:
            since_us = min(since_us, self.memory.written_us - RECORD_MARGIN_US)
        return since_us

    def _lose(self, exchange: str, symbol: str, trade_id: int, time_us: int) -> None:
        self.intake.lose(exchange, symbol, trade_id, time_us, self._next_sequence - 1)

    async def _keep_gauges(self) -> None:
        published = PublisherMetrics(self._publisher, ROLE)
        metrics.queue_items_max.labels(PUBLICATIONS).set(PUBLICATIONS_MAX)
        while True:
            published.export()
            metrics.queue_items.labels(PUBLICATIONS).set(len(self._chains))
            await asyncio.sleep(GAUGE_INTERVAL_S)

    # -- reading

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        async with OrderedReader(
            self._bus,
            subjects.RAW_STREAM,
            start_sequence=self.memory.start,
            created=self.memory.created,
        ) as reader:
            while not self._stop.is_set():
                began_at = loop.time()
                arrived = await ask(reader.next(READ_WAIT_S))
                self._is_started = True
                self._pending = reader.pending
                metrics.consumer_pending_messages.labels(role=ROLE, stream=subjects.RAW_STREAM).set(
                    reader.pending
                )
                if arrived:
                    await self._take(arrived)
                elif self._bus.is_connected and reader.pending == 0:
                    self._clock.waited(int((loop.time() - began_at) * 1e6))
                if not reader.pending:
                    self._oldest_us = None
                if loop.time() - self._silence_checked_at >= SILENCE_CHECK_S:
                    self._silence_checked_at = loop.time()
                    self._close_silent()

    async def _take(self, arrived: list[Delivery]) -> None:
        for number, each in enumerate(arrived, start=1):
            self._oldest_us = each.stored_us
            self._clock.delivered(each.stored_us)
            try:
                self._apply(each)
            except DecodeError as problem:
                await self._dead_letters.bury(each, problem.reason)
            self._next_sequence = each.sequence + 1
            if number % YIELD_AFTER == 0:
                if self._stop.is_set():
                    return
                await self._breathe()
        await self._breathe()

    async def _breathe(self) -> None:
        if len(self._chains) > PUBLICATIONS_MAX:
            await self._chains.wait_below(PUBLICATIONS_LOW)
        await asyncio.sleep(0)

    def _apply(self, message: Delivery) -> None:
        for aggregator, closings in self.intake.take(
            message.subject, message.payload, message.sequence, message.stored_us
        ):
            aggregator.heard_us = self._clock.now_us
            self._after(aggregator, closings)

    def _after(self, aggregator: Aggregator, closings: list[Closing]) -> None:
        if aggregator.folded:
            metrics.trade_process_total.labels(aggregator.exchange).inc(aggregator.folded)
            aggregator.folded = 0
        if self._book.follow(aggregator, closings) or aggregator.open.changed:
            self._live.touch(aggregator)
        if closings:
            self.memory.note_new(aggregator)
        for closing in closings:
            subject = self.publication.subject(aggregator, closing.period)
            self._chains.submit(subject, partial(self._publish, aggregator, closing))

    async def _publish(self, aggregator: Aggregator, closing: Closing) -> None:
        is_settled = await self.publication.first(aggregator, closing)
        aggregator.closed.settle(closing, is_wrong=not is_settled)

    def _close_silent(self) -> None:
        """Close windows of symbols nobody speaks of any more, by our own clock."""
        for aggregator in self.intake.aggregators.values():
            silence_us = self._clock.now_us - aggregator.heard_us
            if silence_us >= self._hold_us:
                closings = aggregator.silence(silence_us, self._next_sequence - 1)
                self._after(aggregator, closings)
