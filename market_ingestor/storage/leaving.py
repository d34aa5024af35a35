"""Has a server that forgot its durable go on behind what is saved. SHELL.

What the record covers could be passed over message by message, but a stream of two days would take
hours, in which nothing new is saved. So a durable that is far from the end of what is saved is made
anew to begin behind it. The few messages before that which no stretch has are asked for by their
sequence and saved first.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from market_ingestor.bus.durables import move_durable
from market_ingestor.bus.jetstream import TROUBLE, Bus, ConsumerState, Stored, StreamState
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.faults import RowRefusedError
from market_ingestor.storage.saved import Saved, SavedRecord

_log = structlog.get_logger(__name__)

PASSED_MAX: Final = 5_000  # messages looked at one by one, in half a second; more are left out
MISSING_MAX: Final = 5_000  # messages asked for one by one before a durable is moved behind them
MISSING_AT_ONCE: Final = 1_000  # handed over to be saved
ASKED_AT_ONCE: Final = 100
ANSWER_S: Final = 2.0  # it takes milliseconds, unless the server died with the question
# Between steps; twice as long after each that failed.
WAIT_S: Final = 1.0
WAIT_MAX_S: Final = 60.0


class Move(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a durable may go on behind what is saved.

    Attributes:
        stretches: What is left out, ascending; it goes on behind the last.
        missing: Sequences between those that may not be saved, ascending.
    """

    stretches: Sequence[Saved]
    missing: Sequence[int]

    @property
    def end(self) -> Saved:
        """Return the stretch behind which the durable goes on."""
        return self.stretches[-1]


def move_for(
    known: Sequence[Saved], state: StreamState, durable: ConsumerState | None
) -> Move | None:
    """Return how a durable that is far from the end of what is saved may be moved there. Pure.

    Args:
        known: What the database says of this very stream, ascending.

    Returns:
        None when the end is near, or too much before it may not be saved.
    """
    if durable is None or not durable.has_all or not state.is_dated:
        return None
    reached = max(durable.ack_floor, state.first_sequence - 1)
    missing: list[int] = []
    left_out: list[Saved] = []
    for each in known:
        if each.through <= reached:
            continue
        if each.through > state.last_sequence or len(missing) + each.since - reached > MISSING_MAX:
            break
        missing += range(reached + 1, each.since + 1)
        reached = each.through
        left_out.append(each)
    if not left_out or reached <= durable.delivered + PASSED_MAX:
        return None
    return Move(stretches=left_out, missing=missing)


class Missing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Messages that may not be saved, asked for by their sequence: nothing to acknowledge.

    Attributes:
        created: When their stream was made.
    """

    created: str
    messages: Sequence[Delivery]


class LeavingOut:
    """Moves the durable of one stream, step by step, while saved messages are given out.

    Args:
        config: Of the durable.
        on_moved: Called when the durable is another one.
    """

    def __init__(
        self,
        bus: Bus,
        record: SavedRecord,
        stream: str,
        config: dict[str, Any],
        on_moved: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._record = record
        self._stream = stream
        self._config = config
        self._on_moved = on_moved
        self._wait_s = WAIT_S
        self._due_at = 0.0

    async def step(self) -> Missing | None:
        """Do what is next, if it is time; what goes wrong is tried again.

        Returns:
            Messages to be saved before the durable can be moved; a later step finds them so.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_at:
            return None
        missing = None
        try:
            missing = await self._move_or_ask()
            self._wait_s = WAIT_S
        except (StoreUnavailableError, RowRefusedError, *TROUBLE) as problem:
            _log.warning("saved_not_left_out", stream=self._stream, error=repr(problem))
            self._wait_s = min(2 * self._wait_s, WAIT_MAX_S)
        self._due_at = loop.time() + self._wait_s
        return missing

    async def _move_or_ask(self) -> Missing | None:
        found = await self._find()
        if found is None:
            return None
        messages = await self._missing(found)
        if messages:
            return Missing(created=found.end.created, messages=messages)
        await self._move(found.end)
        return None

    async def _find(self) -> Move | None:
        async with asyncio.timeout(ANSWER_S):
            await self._record.look()
            state = await self._bus.stream_state(self._stream)
            durable = await self._bus.consumer_state(self._stream, self._config["durable_name"])
            known = self._record.knows(self._stream, state.created)
            found = move_for(known.stretches, state, durable)
            if found is None or not await self._are_there(found.stretches):
                return None
        return found

    async def _are_there(self, saved: Sequence[Saved]) -> bool:
        """Return whether the ends of stretches are what they were when those were saved."""
        for first in range(0, len(saved), ASKED_AT_ONCE):
            some = saved[first : first + ASKED_AT_ONCE]
            ends = await self._ask([each.through for each in some])
            for each, end in zip(some, ends, strict=True):
                if end is None or end.stored_us > each.stored_us:
                    return False
        return True

    async def _missing(self, found: Move) -> list[Delivery]:
        """Return the first of what the stream has between stretches."""
        got: list[Delivery] = []
        for first in range(0, len(found.missing), ASKED_AT_ONCE):
            answers = await self._ask(found.missing[first : first + ASKED_AT_ONCE])
            got += [_delivery(each) for each in answers if each is not None]
            if len(got) >= MISSING_AT_ONCE:
                break
        return got

    async def _ask(self, sequences: Sequence[int]) -> list[Stored | None]:
        ask = self._bus.message_at
        return await asyncio.gather(*(ask(self._stream, each) for each in sequences))

    async def _move(self, end: Saved) -> None:
        async with asyncio.timeout(ANSWER_S):
            await move_durable(
                self._bus, self._stream, self._config, behind=end.through, created=end.created
            )
        self._on_moved()
        _log.warning("saved_left_out", stream=self._stream, through=end.through)


def _delivery(stored: Stored) -> Delivery:
    return Delivery(
        subject=stored.subject,
        payload=stored.payload,
        sequence=stored.sequence,
        stored_us=stored.stored_us,
        pending=0,
        reply="",
        consumer_sequence=0,
    )
