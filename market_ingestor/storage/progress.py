"""How far savers and candles have come, for whoever compares trades with candles. SHELL.

On a living system a trade may be stored before its candle is, or lie on its way to either. What
klines writes into its resume records says what it has read, closed and left to correct.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus

POLL_S: Final = 0.2
TIMEOUT_S: Final = 60.0
# klines writes every record at least every ten seconds: a record older than this has no writer.
STALE_US: Final = 30_000_000


class _Symbol(msgspec.Struct, gc=False):
    closed_through: int | None = None
    dirty: list[Any] = []
    rescan: Any = None


class _Record(msgspec.Struct, gc=False):
    """What of a resume record counts here; ``created`` names the stream it is of."""

    created: str
    written_us: int
    read_to: int
    symbols: dict[str, _Symbol]


_record: Final = msgspec.json.Decoder(_Record)


class Progress:
    """Asks the bus.

    Args:
        timeout_s: Longest to wait for savers and klines; what is compared then speaks for itself.
    """

    def __init__(self, bus: Bus, *, timeout_s: float = TIMEOUT_S) -> None:
        self._bus = bus
        self._timeout_s = timeout_s

    async def settle(self) -> None:
        """Return when what is on the bus now is saved, read by klines, corrected and saved again.

        klines is not waited for when it is not running.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                raw = await self._bus.stream_state(subjects.RAW_STREAM)
                await self._wait_saved(subjects.RAW_STREAM, raw.last_sequence)
                await self._wait_corrected(raw.created, raw.last_sequence)
                kline = await self._bus.stream_state(subjects.KLINE_STREAM)
                await self._wait_saved(subjects.KLINE_STREAM, kline.last_sequence)
        except TROUBLE:
            return

    async def _wait_saved(self, stream: str, sequence: int) -> None:
        """Return when the savers' ack floor on a stream has reached a sequence."""
        while True:
            state = await self._bus.consumer_state(stream, subjects.SAVE_DURABLE)
            if state is not None and state.ack_floor >= sequence:
                return
            await asyncio.sleep(POLL_S)

    async def _wait_corrected(self, created: str, sequence: int) -> None:
        """Return when klines has read up to a sequence and corrected everything, or is gone."""
        while True:
            if await self._is_corrected(created, sequence):
                return
            await asyncio.sleep(POLL_S)

    async def _is_corrected(self, created: str, sequence: int) -> bool:
        stale_us = time.time_ns() // 1_000 - STALE_US
        return all(
            record.written_us < stale_us
            or (
                record.created == created
                and record.read_to > sequence
                and not any(each.dirty or each.rescan for each in record.symbols.values())
            )
            for record in await self._records()
            if record.symbols
        )

    async def closed_through(self) -> Mapping[tuple[str, str], int] | None:
        """Return per exchange and symbol the time, Unix ms, up to which klines has closed windows.

        Returns:
            None when klines has left no word, or the bus cannot be asked.
        """
        try:
            records = await self._records()
        except TROUBLE:
            return None
        found: dict[tuple[str, str], int] = {}
        for record in records:
            for name, symbol in record.symbols.items():
                exchange, _, base = name.rpartition(".")
                found[exchange, base] = symbol.closed_through or 0
        return found or None

    async def _records(self) -> list[_Record]:
        bucket = await self._bus.bucket(subjects.STATE_BUCKET)
        found: list[_Record] = []
        for key in await bucket.keys():
            value = await bucket.get(key)
            if value is not None:
                try:
                    found.append(_record.decode(value))
                except msgspec.MsgspecError:
                    continue  # of another version of the service
        return found
