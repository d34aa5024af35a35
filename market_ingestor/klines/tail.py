"""Follows MARKET_KLINE, whoever writes it, and keeps `Versions` current. SHELL."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import ask, insist
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.errors import DecodeError
from market_ingestor.klines.versions import Versions
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS

_log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
YIELD_AFTER: Final = 200  # messages taken in before other tasks get their turn


class Tail:
    """The reader of the candles' own stream.

    Args:
        notice: Told every version that is read.

    Attributes:
        versions: What it has learnt.
        sequence: Everything up to here was taken in.
    """

    def __init__(self, bus: Bus, versions: Versions, notice: Callable[[Kline], None]) -> None:
        self._bus = bus
        self._notice = notice
        self.versions = versions
        self.sequence = 0
        self._moved = asyncio.Condition()
        self._start = 1
        self._created = ""

    async def begin(self, since_us: int, *, is_whole: bool) -> None:
        """Decide where to begin: at what was stored ``since_us`` (UTC microseconds).

        Args:
            is_whole: No candle was ever stored but in this stream as it is.
        """
        since = datetime.fromtimestamp(since_us / 1e6, UTC)
        state = await insist("candle stream", lambda: self._bus.stream_state(subjects.KLINE_STREAM))
        self._start = await insist(
            "candle position", lambda: self._bus.sequence_since(subjects.KLINE_STREAM, since)
        )
        self._created = state.created
        has_all = is_whole and (self._start <= 1 or state.last_sequence == 0)
        if not is_whole:
            created = datetime.fromisoformat(state.created)
            since_us = max(since_us, int(created.timestamp() * 1e6))
        self.versions.begin(since_ms=since_us // 1_000, has_all=has_all)
        self.sequence = self._start - 1

    async def run(self) -> None:
        """Read until cancelled."""
        async with OrderedReader(
            self._bus,
            subjects.KLINE_STREAM,
            start_sequence=self._start,
            created=self._created,
        ) as reader:
            while True:
                arrived = await ask(reader.next(POLL_S))
                for number, each in enumerate(arrived, start=1):
                    self._note(each.subject, each.payload, each.sequence)
                    if number % YIELD_AFTER == 0:
                        await asyncio.sleep(0)
                if arrived:
                    self.sequence = arrived[-1].sequence
                    async with self._moved:
                        self._moved.notify_all()

    def _note(self, subject: str, payload: bytes, sequence: int) -> None:
        """Take in one message; one that is no candle still moves the fence of its subject."""
        try:
            address = subjects.parse_kline(subject)
            kline = codec.kline(subject, payload)
        except DecodeError as problem:
            _log.warning("candle_unreadable", error=str(problem))
            period = subject.rpartition(".")[2]
            if period in PERIOD_MS:
                self.versions.note_unreadable(subject, period, sequence)
            return
        if (kline.exchange, kline.symbol, kline.period) == address and kline.period in PERIOD_MS:
            self.versions.note(subject, kline, sequence)
            self._notice(kline)
        elif address.period in PERIOD_MS:
            self.versions.note_unreadable(subject, address.period, sequence)

    async def reach(self, sequence: int) -> None:
        """Wait until everything up to ``sequence`` was taken in."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.sequence >= sequence)

    async def catch_up(self) -> None:
        """Wait until everything that is stored now was taken in."""
        state = await insist("candle stream", lambda: self._bus.stream_state(subjects.KLINE_STREAM))
        if state.messages and state.last_sequence >= self._start:
            await self.reach(state.last_sequence)

    async def last_sequence(self, subject: str, period: str) -> int:
        """Return the last sequence of a subject, 0 when it is empty.

        What is returned lies within what was taken in, so a version looked up afterwards is at
        least as new as the fence.
        """
        while True:
            known = self.versions.last_sequence(subject)
            if known is not None:
                return known
            newest = await insist(
                "candle", lambda: self._bus.last_message(subjects.KLINE_STREAM, subject)
            )
            if newest is None:
                self.versions.note_empty(subject, period)
            elif newest.sequence < self._start:
                self._note(subject, newest.payload, newest.sequence)
            else:
                await self.reach(newest.sequence)
