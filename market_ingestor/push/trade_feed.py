"""Reads trades while somebody wants them. SHELL.

One reader serves all: its subject is the narrowest that covers every topic of trades. Whoever is
told that trades come gets all from there on, though the reader that brings them begins later.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus, StreamState
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.push.reading import reading, state_of
from market_ingestor.push.subscriptions import Topic, common_pattern, matches

POLL_S: Final = 0.25  # how soon other trades are noticed to be wanted, while none come
SWITCH_S: Final = 0.05  # of silence: what the old reader had to give was given


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Trades that a reader passed on: those of a pattern, up to a sequence; 0 for none."""

    pattern: Topic
    through: int

    def holds(self, arrived: Delivery) -> bool:
        """Return whether a message was passed on."""
        if arrived.sequence > self.through:
            return False
        return matches(self.pattern, tuple(arrived.subject.split(".")[2:]))


NOTHING: Final = Given(pattern=(), through=0)


class TradeFeed:
    """Passes on the messages of MARKET_RAW that clients subscribed to.

    Args:
        bus: Where they come from.
        patterns: Gives the topics of trades that are subscribed.
        take: Called with each message once, in the stream's order.
    """

    def __init__(
        self,
        bus: Bus,
        patterns: Callable[[], Iterable[Topic]],
        take: Callable[[Delivery], None],
    ) -> None:
        self._bus = bus
        self._patterns = patterns
        self._take = take
        self._changed = asyncio.Event()
        self._promised: int | None = None

    async def promise(self) -> None:
        """Note from where on trades are wanted, for somebody about to be told that they come.

        While the bus cannot tell, they begin where they will.
        """
        with contextlib.suppress(*TROUBLE):
            state = await self._bus.stream_state(subjects.RAW_STREAM)
            promised = state.last_sequence + 1
            known = self._promised
            self._promised = promised if known is None else min(known, promised)

    def note_change(self) -> None:
        """Look again at which trades are wanted."""
        self._changed.set()

    async def run(self) -> None:
        """Read what is wanted, until cancelled."""
        begin: int | None = None
        given = NOTHING
        while True:
            wanted = self._wanted()
            if wanted is None:
                begin, given = None, NOTHING
                self._promised = None
                self._changed.clear()
                await self._changed.wait()
                continue
            state = await state_of(self._bus, subjects.RAW_STREAM)
            start = self._start(state) if begin is None else begin
            before, begin, given = given, None, NOTHING
            subject = ".".join(("market.raw", *wanted))
            async with reading(self._bus, state, start, subject) as reader:
                begin, given = await self._read(reader, wanted, before)

    def _start(self, state: StreamState) -> int:
        """Return from where on trades are wanted that nobody read so far."""
        promised, self._promised = self._promised, None
        return state.last_sequence + 1 if promised is None else promised

    def _wanted(self) -> Topic | None:
        """Return the narrowest exchange and symbol that cover every topic of trades."""
        patterns = list(self._patterns())
        return common_pattern(patterns) if patterns else None

    async def _read(self, reader: OrderedReader, wanted: Topic, before: Given) -> tuple[int, Given]:
        """Read until other trades are wanted.

        Args:
            before: What the reader before this one passed on; that is not done again.

        Returns:
            Where to begin with the other trades, and what of those was passed on already.
        """
        while self._wanted() == wanted:
            self._promised = None  # this reader was there before whoever came since
            self._pass_on(await reader.next(POLL_S), before)
        start = self._start(await state_of(self._bus, subjects.RAW_STREAM))
        while reader.next_sequence < start:
            rest = await reader.next(SWITCH_S)
            if not rest:
                break
            self._pass_on(rest, before)
        return start, Given(pattern=wanted, through=reader.next_sequence - 1)

    def _pass_on(self, arrived: Iterable[Delivery], before: Given) -> None:
        for each in arrived:
            if not before.holds(each):
                self._take(each)
