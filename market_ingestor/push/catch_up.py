"""Older candles for a client: a snapshot, or everything behind a position. SHELL.

While they are sent, newer candles are held back, so that a client which breaks off and resumes
from the last position it saw misses nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.errors import DecodeError, MarketIngestorError
from market_ingestor.model.kline import Kline
from market_ingestor.push import positions
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import BadRequestError, Message, data_text, message
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.ring import Candle, Instrument
from market_ingestor.push.subscriptions import (
    CANDLE_FAMILIES,
    CLOSED,
    KLINE,
    Topic,
    common_pattern,
    patterns_of,
    text_of,
)

_log = structlog.get_logger(__name__)

CHUNK: Final = 256  # candles looked at before other clients get their turn
READERS_MAX: Final = 16  # clients reading the stream at the same time; more wait
QUERIES_MAX: Final = 4  # of the database at the same time; more wait
READ_BATCH: Final = 256  # messages asked of the stream at a time, for one client
SILENCE_S: Final = 15.0  # without a message of a stream that has some: it is unavailable
HISTORY_TIMEOUT_S: Final = 5.0  # for the database to answer; then memory has to do

KlineHistory: TypeAlias = Callable[
    [str, str, str, int], Awaitable[Sequence[tuple[Kline, str | None]]]
]  # (exchange, symbol, period, limit) -> newest candles with their position, if known


class CatchUp:
    """Sends older candles to clients at their own pace.

    Args:
        history: Where candles older than the ring are; None: nowhere.
    """

    def __init__(self, bus: Bus, hub: Hub, pump: Pump, history: KlineHistory | None) -> None:
        self._bus = bus
        self._hub = hub
        self._pump = pump
        self._history = history
        self._readers = asyncio.Semaphore(READERS_MAX)
        self._queries = asyncio.Semaphore(QUERIES_MAX)

    # -- everything behind a position

    async def check(self, position_text: str) -> int:
        """Return the sequence of a position from which a client may resume.

        Raises:
            BadRequestError: ``position_gone``: unknown, of another life of the stream, or older
                than what the stream keeps. ``unavailable``: ask again later.
        """
        position = positions.parse(position_text)
        ring = self._hub.ring
        if position is None or position.epoch != ring.epoch:
            raise _gone()
        sequence = position.sequence
        if not ring.covers(sequence + 1) or sequence > ring.last_sequence:
            first, last = await self._kept(position.epoch)
            if not first - 1 <= sequence <= last:
                raise _gone()
        return sequence

    async def since(self, client: Client, patterns: Sequence[Topic], sequence: int) -> None:
        """Send every candle of ``patterns`` behind ``sequence``, then subscribe them.

        Raises:
            BadRequestError: The stream lost them meanwhile, or cannot be read.
            ClientGoneError: The client went away.
        """
        wanted = frozenset(pattern for pattern in patterns if pattern[0] in CANDLE_FAMILIES)
        ring = self._hub.ring
        epoch = ring.epoch
        self._hub.hold(client.outbox)
        try:
            while True:
                if ring.epoch != epoch:
                    raise _gone()
                if not ring.covers(sequence + 1):
                    sequence = await self._from_stream(client, wanted, sequence)
                    continue
                candles = ring.after(sequence, CHUNK) if wanted else []
                if not candles:
                    break  # and nothing is awaited from here to the subscription
                await self._send(client, wanted, candles)
                sequence = candles[-1].sequence
                await asyncio.sleep(0)  # let others have their turn
            self._hub.subscribe(client.outbox, patterns, skips=True)
        finally:
            client.outbox.release()
            self._pump.ready(client)

    async def _send(
        self, client: Client, wanted: frozenset[Topic], candles: Sequence[Candle]
    ) -> None:
        for candle in candles:
            for family in _families(wanted, candle.key):
                await self._pump.room(client)
                client.outbox.add_history(candle.message(family))
        self._pump.ready(client)

    async def _from_stream(self, client: Client, wanted: frozenset[Topic], sequence: int) -> int:
        """Send what the ring lacks; returns the sequence up to which nothing is left to send."""
        epoch, start = self._hub.ring.epoch, sequence
        goal = self._hub.ring.first_sequence - 1
        subject = "market.kline." + ".".join(common_pattern(wanted))
        try:
            newest = await self._bus.last_message(subjects.KLINE_STREAM, subject)
            if newest is not None and newest.sequence > sequence:
                stop = min(goal, newest.sequence)
                async with self._readers:
                    await self._read(client, wanted, subject, sequence, stop)
            first, _ = await self._kept(epoch)
        except TROUBLE as problem:
            raise BadRequestError("unavailable", "the stream cannot be read now") from problem
        if first > start + 1:
            raise _gone()
        return goal

    async def _read(
        self, client: Client, wanted: frozenset[Topic], subject: str, sequence: int, stop: int
    ) -> None:
        async with OrderedReader(
            self._bus,
            subjects.KLINE_STREAM,
            start_sequence=sequence + 1,
            filter_subject=subject,
            batch=READ_BATCH,
        ) as reader:
            while sequence < stop:
                arrived = await reader.next(SILENCE_S)
                if not arrived:
                    raise TimeoutError
                sequence = arrived[-1].sequence
                candles = (self._candle(each) for each in arrived if each.sequence <= stop)
                await self._send(client, wanted, [each for each in candles if each is not None])

    def _candle(self, arrived: Delivery) -> Candle | None:
        try:
            kline = codec.kline(arrived.subject, arrived.payload)
        except DecodeError:
            return None  # counted when the ring met it
        position = self._hub.ring.position(arrived.sequence)
        return Candle(kline, arrived.payload, arrived.sequence, position, arrived.stored_us)

    async def _kept(self, epoch: str) -> tuple[int, int]:
        """Return the first and last sequence of the stream in the life ``epoch``."""
        try:
            state = await self._bus.stream_state(subjects.KLINE_STREAM)
        except TROUBLE as problem:
            raise BadRequestError("unavailable", "the stream cannot be read now") from problem
        if positions.epoch_of(state.created) != epoch:
            raise _gone()
        return state.first_sequence, state.last_sequence

    # -- the newest windows

    async def snapshot(self, client: Client, patterns: Sequence[Topic], limit: int) -> None:
        """Subscribe ``patterns``, after sending the last ``limit`` closed candles of each.

        Oldest first per instrument and period; candles that close meanwhile follow.

        Raises:
            ClientGoneError: The client went away.
        """
        wanted = frozenset(pattern for pattern in patterns if pattern[0] in CANDLE_FAMILIES)
        self._hub.hold(client.outbox)
        try:
            self._hub.subscribe(client.outbox, wanted)
            for instrument in self._hub.instruments(wanted):
                families = list(_families(wanted, instrument))
                for each in await self._newest(instrument, families, limit):
                    await self._pump.room(client)
                    client.outbox.add_history(each)
                self._pump.ready(client)
            self._hub.subscribe(client.outbox, [each for each in patterns if each not in wanted])
        finally:
            client.outbox.release()
            self._pump.ready(client)

    async def _newest(
        self, instrument: Instrument, families: Sequence[str], limit: int
    ) -> list[Message]:
        in_ring = self._hub.ring.newest(instrument, limit)
        if len(in_ring) >= limit or self._history is None:
            return [each.message(family) for each in in_ring for family in families]
        stored = await self._stored(instrument, limit)
        by_window: dict[int, list[Message]] = {}
        for kline, position in stored:
            by_window[kline.open_time] = [
                self._stored_message(kline, position, family) for family in families
            ]
        revisions = {kline.open_time: kline.revision for kline, _ in stored}
        for candle in self._hub.ring.newest(instrument, limit):
            if candle.revision >= revisions.get(candle.open_time, 0):
                by_window[candle.open_time] = [candle.message(family) for family in families]
        windows = sorted(by_window)[-limit:]
        return [each for opened in windows for each in by_window[opened]]

    async def _stored(
        self, instrument: Instrument, limit: int
    ) -> Sequence[tuple[Kline, str | None]]:
        assert self._history is not None  # noqa: S101 - the caller looked
        try:
            async with asyncio.timeout(HISTORY_TIMEOUT_S), self._queries:
                return await self._history(*instrument, limit)
        except (MarketIngestorError, OSError, TimeoutError) as problem:
            _log.warning("snapshot_from_memory_only", error=repr(problem))
            return ()

    def _stored_message(self, kline: Kline, position: str | None, family: str) -> Message:
        """Return the message of a candle from the table.

        Where its own position is not known it gets that of the ring's start, which is behind
        it: resuming from there repeats rather than loses.
        """
        known = position or self._hub.ring.position(self._hub.ring.first_sequence - 1)
        topic = text_of((family, kline.exchange, kline.symbol, kline.period))
        return message(data_text("kline", topic, known, codec.encode(kline)))


def _families(wanted: frozenset[Topic], instrument: Instrument) -> Iterator[str]:
    """Yield the families under which a candle was asked for."""
    for family in (KLINE, CLOSED):
        if any(pattern in wanted for pattern in patterns_of((family, *instrument))):
            yield family


def _gone() -> BadRequestError:
    return BadRequestError("position_gone", "nothing is known of that position, or not any more")
