"""Keeps the resume records in their bucket and judges them at the start. SHELL."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from market_ingestor.bus import subjects
from market_ingestor.bus.asking import ask, insist, state_of
from market_ingestor.bus.jetstream import TROUBLE, Bus, StreamState
from market_ingestor.errors import DecodeError, StoreUnavailableError
from market_ingestor.klines import resume
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.ports import CandleStore
from market_ingestor.klines.resume import ResumeRecord
from market_ingestor.klines.versions import MEMORY_MS
from market_ingestor.model.partition import SLOTS, slot

if TYPE_CHECKING:
    from market_ingestor.bus.bucket import Bucket

_log = structlog.get_logger(__name__)

INTERVAL_S: Final = 1.0  # what a restart has to read again
QUERY_TIMEOUT_S: Final = 30.0
ALL_EVERY_S: Final = 10.0  # after which every slot is written, changed or not


class ResumeMemory:
    """The resume records of the slots this process owns.

    Attributes:
        resumed: Per symbol, the minute it was closed through when its record was written; 0 for
            symbols a record did not know yet.
        written_us: When the oldest record used was written; None without one.
        start: Where to begin reading MARKET_RAW, which was made at ``created``.
        has_all_candles: No version of a candle was ever stored outside of MARKET_KLINE as it is.
    """

    def __init__(
        self, bus: Bus, store: CandleStore, intake: Intake, owns: Callable[[int], bool]
    ) -> None:
        self._bus = bus
        self._store = store
        self._intake = intake
        self._slots = [number for number in range(SLOTS) if owns(number)]
        self._written: dict[int, ResumeRecord] = {}
        self._lost: set[int] = set()
        self._bucket: Bucket | None = None
        self.created = ""
        self._kline_created = ""
        self._all_due = 0.0  # monotonic seconds
        self.has_all_candles = True
        self.resumed: dict[tuple[str, str], int] = {}
        self.written_us: int | None = None
        self.start = 1

    async def load(self) -> None:
        """Read the records and bring the aggregators to what they say."""
        self._bucket = bucket = await insist(
            "resume records",
            lambda: self._bus.bucket(subjects.STATE_BUCKET, history=subjects.STATE_HISTORY),
        )
        state = await state_of(self._bus, subjects.RAW_STREAM)
        self.created = state.created
        kline = await state_of(self._bus, subjects.KLINE_STREAM)
        self._kline_created = kline.created
        first = max(state.first_sequence, 1)
        positions = [state.last_sequence + 1]
        unknown: set[int] = set()
        keys = [resume.key_of(number) for number in self._slots]
        payloads = await ask(
            asyncio.gather(*(insist("resume record", partial(bucket.get, key)) for key in keys))
        )
        for number, key, payload in zip(self._slots, keys, payloads, strict=True):
            record = self._decoded(payload, key)
            if record is None and payload is not None:
                record = await self._older(key)
            if record is None:
                unknown.add(number)
            else:
                positions.append(self._use(number, record, state, first))
        if unknown & await self._slots_in_stream():
            positions.append(first)
        self.start = min(positions)
        self._intake.is_stream_cut = first > 1
        if not self._intake.recorded:
            await self._ask_store()
        if self._intake.is_stream_cut:
            self._lost.update(set(self._slots) - self._intake.recorded)
        if self._lost:
            await self._doubt_stored(first)

    async def _slots_in_stream(self) -> set[int]:
        """Return the slots whose symbols have trades to be read."""
        found = await insist(
            "raw subjects",
            lambda: self._bus.subjects_of(subjects.RAW_STREAM, subjects.RAW_ALL),
        )
        slots: set[int] = set()
        for subject in found:
            with contextlib.suppress(DecodeError):  # somebody else's
                exchange, symbol = subjects.parse_raw(subject)
                if symbol is not None:
                    slots.add(slot(exchange, symbol))
        return slots

    async def _ask_store(self) -> None:
        """Without any record: find out whether everything is new, or NATS has lost its files."""
        has_trades = has_candles = True  # unless somebody knows better
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                has_trades, has_candles = await ask(self._store.holds())
        except (StoreUnavailableError, TimeoutError) as problem:
            _log.info("resume_records_missing", error=str(problem))
        if has_candles:
            _log.warning("resume_records_missing", trades=has_trades, candles=has_candles)
            self.has_all_candles = False
        self._intake.is_stream_cut |= has_trades

    async def _doubt_stored(self, first: int) -> None:
        """Let what is stored decide on symbols whose trades may never be read any more."""
        stored: dict[tuple[str, str], int] = {}
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                for exchange, symbol, time_us in await ask(self._store.unclosed()):
                    stored[exchange, symbol] = time_us
        except (StoreUnavailableError, TimeoutError) as problem:
            _log.info("lost_trades_not_looked_for", error=str(problem))
        for exchange, symbol in stored:
            if slot(exchange, symbol) in self._lost:
                with contextlib.suppress(DecodeError):  # too many symbols
                    self._intake.aggregator(exchange, symbol)
        now_us = time.time_ns() // 1_000
        for key, aggregator in self._intake.aggregators.items():
            newest_us = max(min(stored.get(key, 0), now_us), aggregator.watermark.newest_us or 0)
            if newest_us and slot(*key) in self._lost:
                aggregator.doubt_stored(newest_us, first)

    @staticmethod
    def _decoded(payload: bytes | None, key: str) -> ResumeRecord | None:
        if payload is None:
            return None
        try:
            return resume.decode(payload)
        except DecodeError as problem:
            _log.warning("resume_record_unreadable", key=key, error=str(problem))
            return None

    async def _older(self, key: str) -> ResumeRecord | None:
        """Return the newest record of a partition that can be read; a replay from it is longer.

        The janitor heeds no record it cannot read, so what this one needs is still there.
        """
        subject = subjects.bucket_subject(subjects.STATE_BUCKET, key)
        found = await insist(
            "older resume records",
            lambda: self._bus.messages_of(subjects.bucket_stream(subjects.STATE_BUCKET), subject),
        )
        records = (self._decoded(each.payload, key) for each in reversed(found))
        return next((each for each in records if each is not None), None)

    def _use(self, number: int, record: ResumeRecord, state: StreamState, first: int) -> int:
        """Apply a record and return where its partition begins to read."""
        is_lost = (
            record.created != state.created
            or record.position < first
            or max(record.position, record.read_to) > state.last_sequence + 1
        )
        is_kline_new = record.kline_created != self._kline_created
        if is_lost:
            self._lost.add(number)
            _log.warning(
                "resume_position_gone",
                slot=number,
                position=record.position,
                first=first,
                recreated=record.created != state.created,
            )
        if is_kline_new and self.has_all_candles:
            _log.warning("candle_stream_recreated")
            self.has_all_candles = False
        position = first if is_lost else record.position
        self._intake.recorded.add(number)
        self._intake.positions[number] = position
        written_us = record.written_us
        self.written_us = min(written_us, self.written_us or written_us)
        for name, symbol_record in record.symbols.items():
            exchange, _, symbol = name.rpartition(".")
            aggregator = self._intake.aggregator(exchange, symbol)
            resume.load(aggregator, symbol_record, lost_before=first if is_lost else None)
            if is_kline_new:
                self._distrust_candles(aggregator, position)
            else:
                self.resumed[exchange, symbol] = symbol_record.closed_through or 0
        return position

    @staticmethod
    def _distrust_candles(aggregator: Aggregator, position: int) -> None:
        """Let what is stored decide on recent windows: their versions may be lost unsaved."""
        through = aggregator.closed.through
        if through is not None:
            aggregator.closed.dirty.add_range(through - MEMORY_MS, through, position, position)

    def note_new(self, aggregator: Aggregator) -> None:
        """Note a symbol met for the first time: with a record of its slot it had no versions."""
        if slot(aggregator.exchange, aggregator.symbol) in self._intake.recorded:
            self.resumed.setdefault((aggregator.exchange, aggregator.symbol), 0)

    async def run(self, next_sequence: Callable[[], int]) -> None:
        """Write the records about once a second, until cancelled."""
        while True:
            await ask(asyncio.sleep(INTERVAL_S))
            await self.write(next_sequence())

    async def write(self, next_sequence: int, *, all_slots: bool = False) -> bool:
        """Write every record that changed; return whether all could be written.

        All at once: on a busy machine an answer takes its time, and 64 one after the other half
        a minute.

        Args:
            next_sequence: Everything before it was read and folded.
        """
        assert self._bucket is not None  # noqa: S101 - loaded before
        by_slot: dict[int, list[Aggregator]] = {number: [] for number in self._slots}
        for aggregator in self._intake.aggregators.values():
            by_slot[slot(aggregator.exchange, aggregator.symbol)].append(aggregator)
        began = time.monotonic()
        with_empty = all_slots or began >= self._all_due
        records = {
            number: self._record(members, max(next_sequence, self._intake.positions.get(number, 0)))
            for number, members in by_slot.items()
            if members or with_empty
        }
        written_us = time.time_ns() // 1_000
        outcomes = await ask(
            asyncio.gather(
                *(
                    self._put(number, record, written_us)
                    for number, record in records.items()
                    if with_empty or self._written.get(number) != record
                ),
                return_exceptions=True,
            )
        )
        problems = [each for each in outcomes if isinstance(each, BaseException)]
        for each in problems:
            if not isinstance(each, TROUBLE):
                raise each
        if problems:
            _log.info("resume_record_postponed", records=len(problems), error=repr(problems[0]))
            return False
        if with_empty:  # only now: one that nobody can read makes the next start read everything
            self._all_due = began + ALL_EVERY_S
        return True

    async def _put(self, number: int, record: ResumeRecord, written_us: int) -> None:
        assert self._bucket is not None  # noqa: S101 - loaded before
        dated = msgspec.structs.replace(record, written_us=written_us)
        await ask(self._bucket.put(resume.key_of(number), resume.encode(dated)))
        self._written[number] = record

    def _record(self, members: list[Aggregator], next_sequence: int) -> ResumeRecord:
        return ResumeRecord(
            stream=subjects.RAW_STREAM,
            created=self.created,
            kline_created=self._kline_created,
            position=resume.position(members, next_sequence),
            read_to=next_sequence,
            written_us=0,
            symbols={f"{each.exchange}.{each.symbol}": resume.dump(each) for each in members},
        )
