"""Keeps room in MARKET_RAW without ever deleting what somebody still needs. SHELL.

MARKET_RAW refuses new messages when it is full, so somebody must make room: whoever saves. What
may go is what every durable has acknowledged and what no candle partition would replay.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog

from market_ingestor import metrics
from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import NO_MESSAGE, TROUBLE, ApiError, Bus, StreamState
from market_ingestor.bus.publisher import Publisher
from market_ingestor.model.event import WHOLE_FEED, MarketEvent
from market_ingestor.model.trade import WIRE_VERSION

_log = structlog.get_logger(__name__)

INTERVAL_S: Final = 10.0  # a stream sized in hours does not fill in seconds
CLEAN_ABOVE: Final = 0.5  # of the stream's bytes; below, its age limit does the work
CLEAN_DOWN_TO: Final = 0.4  # what is left is a cushion for starts and for looking back
BACKLOG_ABOVE: Final = 0.8  # unread; from here somebody should look
BACKLOG_BELOW: Final = 0.7  # and from here on it is over
BACKLOG_EXCHANGE: Final = "market"  # the event is about all exchanges
# At a purge, older servers forget what every consumer was given and did not acknowledge: if a saver
# dies then, nobody ever gets it again (consumer.go of 2.9.10). There messages go one by one.
PURGE_SPARES_SINCE: Final = (2, 9, 15)
REMOVED_AT_ONCE: Final = 100  # so saving gets its turn between; 9,000 a second when measured
NOT_THERE: Final = frozenset({NO_MESSAGE, 10057})  # server's errors.json: deleting failed
CONSUMERS_PAGE: Final = 256  # what the server lists at a time


class _Record(msgspec.Struct, gc=False):
    """What of a resume record counts here; ``created`` names the stream the position is of."""

    position: int
    created: str


_record: Final = msgspec.json.Decoder(_Record)


def unneeded_below(ack_floors: Iterable[int], positions: Iterable[int]) -> int:
    """Return the sequence below which nobody needs anything, 0 when that is unknown. Pure.

    Args:
        ack_floors: Of every durable: all up to and including it is acknowledged.
        positions: Of every candle partition: the first sequence a restart would read.
    """
    floors, resumes = list(ack_floors), list(positions)
    if not floors or not resumes:
        return 0  # whoever has not started yet needs everything
    return min(min(floors) + 1, *resumes)


def purge_below(state: StreamState, unneeded: int) -> int:
    """Return the sequence below which to purge, 0 for not at all. Pure.

    Removes the oldest until `CLEAN_DOWN_TO` of the bytes are left, judged by the mean message.
    """
    if state.bytes_max <= 0 or state.bytes <= state.bytes_max * CLEAN_ABOVE or not state.messages:
        return 0
    mean = state.bytes / state.messages
    excess = int((state.bytes - state.bytes_max * CLEAN_DOWN_TO) / mean)
    limit = min(unneeded, state.first_sequence + excess)
    return limit if limit > state.first_sequence else 0


def unread_share(state: StreamState, unneeded: int) -> float:
    """Return which share of the stream's room is taken by what is still needed. Pure."""
    if state.bytes_max <= 0 or not state.messages:
        return 0.0
    span = max(state.last_sequence - max(unneeded, state.first_sequence) + 1, 0)
    whole = state.last_sequence - state.first_sequence + 1
    return state.bytes / state.bytes_max * span / whole


class Janitor:
    """Looks at the streams every few seconds.

    Attributes:
        purged: Messages purged.
    """

    def __init__(self, bus: Bus, publisher: Publisher) -> None:
        self._bus = bus
        self._publisher = publisher
        self._has_backlog = False
        self.purged = 0

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.look()
            except TROUBLE as problem:
                _log.debug("janitor_postponed", error=repr(problem))
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Publish the sizes of the streams and make room in MARKET_RAW when that is due."""
        for name in subjects.STREAMS:
            state = await self._bus.stream_state(name)
            metrics.stream_bytes.labels(stream=name).set(state.bytes)
            metrics.stream_bytes_max.labels(stream=name).set(state.bytes_max)
            if name == subjects.RAW_STREAM and state.bytes > state.bytes_max * CLEAN_ABOVE:
                await self._make_room(state)

    async def _make_room(self, state: StreamState) -> None:
        unneeded = unneeded_below(await self._ack_floors(), await self._positions(state.created))
        limit = purge_below(state, unneeded)
        if limit:
            removed = await self._remove_below(state, limit)
            self.purged += removed
            _log.info("raw_purged", messages=removed, below=limit)
        await self._note_backlog(unread_share(state, unneeded))

    async def _remove_below(self, state: StreamState, limit: int) -> int:
        """Remove the messages below a sequence; return how many that were."""
        version, _ = self._bus.server_version
        if version >= PURGE_SPARES_SINCE:
            answer = await self._bus.api(f"STREAM.PURGE.{state.name}", {"seq": limit})
            return int(answer.get("purged", 0))
        removed = 0
        for begin in range(state.first_sequence, limit, REMOVED_AT_ONCE):
            sequences = range(begin, min(begin + REMOVED_AT_ONCE, limit))
            removed += sum(await asyncio.gather(*map(self._remove, sequences)))
        return removed

    async def _remove(self, sequence: int) -> bool:
        """Remove one message of MARKET_RAW; return whether it was there."""
        question = {"seq": sequence, "no_erase": True}
        try:
            await self._bus.api(f"STREAM.MSG.DELETE.{subjects.RAW_STREAM}", question)
        except ApiError as problem:
            if problem.code not in NOT_THERE:
                raise
            return False
        return True

    async def _ack_floors(self) -> list[int]:
        """Return the ack floor of every durable, 0 for one that is not there just now."""
        floors = {subjects.SAVE_DURABLE: 0}
        seen = 0
        while True:
            body = {"offset": seen}
            answer = await self._bus.api(f"CONSUMER.LIST.{subjects.RAW_STREAM}", body)
            consumers: list[dict[str, Any] | None] = answer.get("consumers") or []
            if None in consumers:
                return [0]  # one is being deleted, and may be made anew
            floors |= {
                each["name"]: streams.ack_floor(each)
                for each in consumers
                if each is not None and each["config"].get("durable_name")
            }
            seen += len(consumers)
            if not consumers or seen >= answer.get("total", 0):
                return list(floors.values())

    async def _positions(self, created: str) -> list[int]:
        bucket = await self._bus.bucket(subjects.STATE_BUCKET)
        positions: list[int] = []
        for key in await bucket.keys():
            value = await bucket.get(key)
            if value is None:
                continue
            try:
                record = _record.decode(value)
            except msgspec.MsgspecError:
                positions.append(0)  # from another version of the service: touch nothing
            else:
                # Whose record is of a stream that was since made anew will read all of this one.
                positions.append(record.position if record.created == created else 0)
        return positions

    async def _note_backlog(self, share: float) -> None:
        if self._has_backlog:
            self._has_backlog = share > BACKLOG_BELOW
            return
        if share <= BACKLOG_ABOVE:
            return
        self._has_backlog = True
        now_us = time.time_ns() // 1000
        detail = f"{share:.0%} of {subjects.RAW_STREAM} is unread"
        _log.warning("raw_backlog", share=round(share, 3))
        event = MarketEvent(
            v=WIRE_VERSION,
            exchange=BACKLOG_EXCHANGE,
            symbol=WHOLE_FEED,
            type="backlog",
            time_us=now_us,
            after_id=None,
            before_id=None,
            missing=None,
            from_time=None,
            to_time=None,
            detail=detail,
        )
        await self._publisher.publish(
            subjects.event(event.exchange, event.symbol), codec.encode(event), f"backlog.{now_us}"
        )
