"""What events say became of an exchange's gaps, whichever process found them. SHELL.

What one process gave up no other asks for again; what one found and did not live to settle another
settles.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.connectors.gaps import FoundGap
from market_ingestor.connectors.history import SCAN_S_MAX, read_through
from market_ingestor.errors import DecodeError
from market_ingestor.model.event import MarketEvent

_log = structlog.get_logger(__name__)

KEPT_MAX: Final = 1_000  # gaps of a symbol, open and given up alike; then the oldest are forgotten
LOOK_S: Final = 30.0  # whoever lives has settled a hole, or still has it, after two looks

GapKey: TypeAlias = tuple[str, int, int]  # symbol, after id, before id


class SaidGaps:
    """Gaps of an exchange that are open, and those that were given up. Pure."""

    def __init__(self) -> None:
        self._open: dict[str, dict[tuple[int, int], FoundGap]] = {}
        self._given_up: dict[str, dict[tuple[int, int], FoundGap]] = {}

    def take(self, event: MarketEvent) -> None:
        """Follow the events in their order."""
        if event.after_id is None or event.before_id is None:
            return
        gap = FoundGap(
            after_id=int(event.after_id),
            before_id=int(event.before_id),
            missing=event.missing or 0,
            from_time_us=(event.from_time or 0) * 1000,
            to_time_us=(event.to_time or 0) * 1000 + 999,
        )
        for known in (self._open, self._given_up):
            known.get(event.symbol, {}).pop((gap.after_id, gap.before_id), None)
        if event.type == "gap_found":
            _keep(self._open, event.symbol, gap)
        elif event.type == "gap_unfillable" and gap.missing:
            _keep(self._given_up, event.symbol, gap)

    def open(self, symbol: str) -> list[FoundGap]:
        """Return a symbol's gaps that nobody has settled."""
        return list(self._open.get(symbol, {}).values())

    def given_up(self, symbol: str) -> list[FoundGap]:
        """Return a symbol's gaps that the venue did not fill."""
        return list(self._given_up.get(symbol, {}).values())


def key_of(symbol: str, gap: FoundGap) -> GapKey:
    """Return what tells a gap from others of its exchange."""
    return symbol, gap.after_id, gap.before_id


def _keep(known: dict[str, dict[tuple[int, int], FoundGap]], symbol: str, gap: FoundGap) -> None:
    gaps = known.setdefault(symbol, {})
    gaps[gap.after_id, gap.before_id] = gap
    if len(gaps) > KEPT_MAX:
        del gaps[next(iter(gaps))]


class Orphans:
    """Tells which open gaps nobody settles: those of others that stay from look to look. Pure."""

    def __init__(self) -> None:
        self._seen: AbstractSet[GapKey] = frozenset()

    def look(
        self, said: SaidGaps, symbols: Iterable[str], ours: AbstractSet[GapKey]
    ) -> list[tuple[str, FoundGap]]:
        """Return symbol and gap of each that was open at the last look too, and is not ours."""
        others = {
            key_of(symbol, gap): gap
            for symbol in symbols
            for gap in said.open(symbol)
            if key_of(symbol, gap) not in ours
        }
        found = {key: gap for key, gap in others.items() if key in self._seen}
        self._seen = others.keys() - found.keys()
        return [(key[0], gap) for key, gap in found.items()]


class GapNews:
    """Reads the events of an exchange, each once.

    Attributes:
        said: What they said so far.
    """

    def __init__(self, bus: Bus, exchange: str) -> None:
        self.said = SaidGaps()
        self._bus = bus
        self._exchange = exchange
        self._next = 1
        self._lock = asyncio.Lock()

    async def read(self) -> None:
        """Read what was said since the last time.

        Never raises for what the bus does: what could be read counts, and at worst a gap is asked
        for again, or is settled by the next start.
        """
        subject = subjects.events_of(self._exchange)
        try:
            async with self._lock, asyncio.timeout(SCAN_S_MAX):
                await self._read(subject)
        except Exception as problem:  # noqa: BLE001 - as said above; the bus has many ways to fail
            _log.warning("gap_events_not_read", exchange=self._exchange, error=repr(problem))

    async def _read(self, subject: str) -> None:
        last = await self._bus.last_message(subjects.EVENT_STREAM, subject)
        if last is None:
            return
        if last.sequence < self._next - 1:
            self._next = 1  # the stream was made anew
        reading = read_through(self._bus, subjects.EVENT_STREAM, subject, self._next, last.sequence)
        async for delivery in reading:
            self._next = delivery.sequence + 1
            with contextlib.suppress(DecodeError, ValueError):
                self.said.take(codec.event(delivery.subject, delivery.payload))

    async def watch(
        self,
        symbols: Callable[[], Iterable[str]],
        ours: Callable[[], AbstractSet[GapKey]],
        settle: Callable[[str, FoundGap], None],
    ) -> None:
        """Have gaps settled that others left behind, until cancelled.

        Args:
            symbols: Gives those that are carried.
            ours: Gives the gaps that are being settled here.
            settle: Called with symbol and gap.
        """
        orphans = Orphans()
        while True:
            await asyncio.sleep(LOOK_S)
            await self.read()
            for symbol, gap in orphans.look(self.said, symbols(), ours()):
                settle(symbol, gap)
