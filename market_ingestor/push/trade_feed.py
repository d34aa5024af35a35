"""Reads trades while somebody wants them. SHELL.

One reader serves all: its subject is the narrowest that covers every topic of trades. Whoever is
told that trades come gets all from there on, though the reader that brings them begins later.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from market_ingestor.bus import subjects
from market_ingestor.bus.asking import insist, state_of
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.push.reading import reading
from market_ingestor.push.subscriptions import Topic, common_pattern, matches

POLL_S: Final = 0.25  # how soon other trades are noticed to be wanted, while none come
GONE_S: Final = 5.0  # a message that the server holds arrives sooner, on any machine


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
        self._due: int | None = None  # the earliest promise that no reader has kept

    async def promise(self) -> int | None:
        """Return from where on trades will come to somebody about to be told that they do.

        To be handed to `note_change` with the subscription. None while the bus cannot tell: they
        then begin where they will.
        """
        try:
            state = await self._bus.stream_state(subjects.RAW_STREAM)
        except TROUBLE:
            return None
        return state.last_sequence + 1

    def note_change(self, promise: int | None = None) -> None:
        """Look again at which trades are wanted.

        Args:
            promise: What a new subscriber was promised; nothing may be awaited in between.
        """
        if promise is not None:
            self._due = promise if self._due is None else min(self._due, promise)
        self._changed.set()

    async def run(self) -> None:
        """Read what is wanted, until cancelled."""
        begin: int | None = None
        given = NOTHING
        while True:
            # Asked for first: what is stored behind the answer to somebody who subscribes
            # meanwhile is then behind this state too.
            state = await state_of(self._bus, subjects.RAW_STREAM)
            wanted, due = self._wanted(), self._due
            self._due = None
            if wanted is None:
                begin, given = None, NOTHING
                self._changed.clear()
                await self._changed.wait()
                continue
            starts = [each for each in (begin, due) if each is not None]
            start = min(starts, default=state.last_sequence + 1)
            before, begin, given = given, None, NOTHING
            async with reading(self._bus, state, start, _subject(wanted)) as reader:
                begin, given = await self._read(reader, wanted, start - 1, before)

    def _wanted(self) -> Topic | None:
        """Return the narrowest exchange and symbol that cover every topic of trades."""
        patterns = list(self._patterns())
        return common_pattern(patterns) if patterns else None

    async def _read(
        self, reader: OrderedReader, wanted: Topic, through: int, before: Given
    ) -> tuple[int, Given]:
        """Read until other trades are wanted.

        Args:
            through: The sequence before the reader's first.
            before: What the reader before this one passed on; that is not done again.

        Returns:
            Where to begin with the other trades, and what of those was passed on already.
        """
        while self._wanted() == wanted:
            self._due = None  # this reader was there before whoever came since
            through = self._pass_on(await reader.next(POLL_S), before) or through
        state = await state_of(self._bus, subjects.RAW_STREAM)
        last = await insist(
            "last_trades",
            lambda: self._bus.last_message(subjects.RAW_STREAM, _subject(wanted)),
        )
        while last is not None and through < last.sequence:
            arrived = await reader.next(GONE_S)
            if not arrived and self._bus.is_connected:
                break  # the server has dropped it meanwhile
            through = self._pass_on(arrived, before) or through
        return state.last_sequence + 1, Given(pattern=wanted, through=through)

    def _pass_on(self, arrived: Iterable[Delivery], before: Given) -> int | None:
        """Pass messages on; return the sequence of the last, None when there is none."""
        sequence = None
        for each in arrived:
            sequence = each.sequence
            if not before.holds(each):
                self._take(each)
        return sequence


def _subject(wanted: Topic) -> str:
    return ".".join(("market.raw", *wanted))
