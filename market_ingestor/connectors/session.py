"""Keeps a set of instruments of one exchange connected. SHELL.

Owns when to connect again: after a loss with backoff, before a planned end with the new
connection up before the old one goes. One connection is `connectors.connection`.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import structlog

from market_ingestor.connectors.backoff import Backoff
from market_ingestor.connectors.connection import PROVED_S, Connection, Ending
from market_ingestor.connectors.context import ExchangeContext
from market_ingestor.connectors.intake import Track
from market_ingestor.connectors.subscriptions import Memory

_log = structlog.get_logger(__name__)


class Session:
    """Connections, one after the other, for the same instruments.

    Attributes:
        memory: What the venue said to their subscriptions.
    """

    def __init__(self, context: ExchangeContext, tracks: Sequence[Track]) -> None:
        self._context = context
        self.tracks = list(tracks)
        self.memory = Memory()
        self._backoff = Backoff(
            max_s=context.settings.backoff_max_s,
            rng=random.Random(),
        )
        self._current: Connection | None = None
        self._is_changed = False
        self._asked_again = asyncio.Event()
        self._alive: set[Connection] = set()
        self._reason = "not connected yet"

    @property
    def feeds(self) -> list[Connection]:
        """Return the connections that are open now; two during a planned change."""
        return [each for each in self._alive if each.is_up]

    @property
    def is_up(self) -> bool:
        """Return whether a connection with confirmed symbols is open."""
        return any(each.is_up for each in self._alive)

    @property
    def is_settled(self) -> bool:
        """Return whether one connection is left, and every symbol has had its answer there."""
        if all(each.instrument.venue.venue_symbol in self.memory.refused for each in self.tracks):
            return True
        if self._is_changed:
            return False
        current = self._current
        return current is not None and self._alive == {current} and current.established.is_set()

    @property
    def problem(self) -> str | None:
        """Return what is wrong, one clause, None when all is well."""
        if not self.is_up:
            return f"down: {self._reason}"
        if any(each.feed.is_paused for each in self._alive):
            return "paused: the bus does not take what was read"
        if missing := self.memory.missing:
            return f"refused: {', '.join(missing[:5])}"
        return None

    def change(self, tracks: Sequence[Track]) -> None:
        """Be for these instruments from now on, without losing a trade of those that stay."""
        self.tracks = list(tracks)
        self._is_changed = True
        self.memory.forget(track.instrument.venue.venue_symbol for track in tracks)
        self._asked_again.set()
        self.replace()

    def add(self, tracks: Sequence[Track]) -> None:
        """Be for these instruments too; the connection that is open subscribes them."""
        self.tracks += tracks
        if self._current is not None and not self._is_changed:
            self._current.extend(tracks)
        self._asked_again.set()

    def carries(self, venue_symbols: AbstractSet[str]) -> bool:
        """Return whether one of these symbols is among its instruments."""
        return any(each.instrument.venue.venue_symbol in venue_symbols for each in self.tracks)

    def welcome(self, venue_symbols: Iterable[str]) -> None:
        """Ask for symbols that are listed again as if nothing had been said of them before."""
        for symbol in venue_symbols:
            self.memory.confirm(symbol)
        self._is_changed = True
        self._asked_again.set()
        self.replace()

    def replace(self) -> None:
        """Open a new connection now and close the current one once the new one is established."""
        if self._current is not None:
            self._current.wants_successor.set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        loop = asyncio.get_running_loop()
        previous: Connection | None = None
        attempts = 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._may_connect()
                attempts += 1
                self._context.reconnects += attempts > 1
                self._is_changed = False
                connection = Connection(self._context, self.tracks, self.memory)
                self._current = connection
                began = loop.time()
                task = tasks.create_task(self._run_one(connection))
                await _first(task, connection.established)
                if previous is not None and not task.done():
                    previous.close("replaced by the next connection")
                    previous = None
                await _first(task, connection.wants_successor)
                if not task.done():
                    if self._context.venue.limits.is_exclusive:
                        connection.close("the next connection may come only after this one")
                        await asyncio.wait({task})
                    else:
                        previous = connection
                    is_wanted = self._is_changed or connection.is_planned
                    is_hasty = loop.time() - began < PROVED_S and not is_wanted
                    if is_hasty:  # a venue that calls every connection its last
                        await asyncio.sleep(self._backoff.next_s())
                    continue
                await self._after(connection.feed.name, task.result())

    async def _run_one(self, connection: Connection) -> Ending:
        self._alive.add(connection)
        # Every line that is logged on behalf of this connection names it.
        names = {"exchange": self._context.exchange, "feed": connection.feed.name}
        try:
            with structlog.contextvars.bound_contextvars(**names):
                async with self._context.turn:
                    return await connection.run()
        finally:
            self._alive.discard(connection)

    async def _may_connect(self) -> None:
        """Wait until there is something to ask for, room for it, and our turn."""
        while (again_at := self._nothing_before()) is not None:
            self._asked_again.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(again_at):
                    await self._asked_again.wait()
        await self._context.outbox.room(is_refilled=self._context.venue.limits.refills)
        loop, connects = asyncio.get_running_loop(), self._context.connects
        await asyncio.sleep(connects.wait_s(loop.time()))
        # Another session may have been told to stay away while this one waited.
        while (closed_s := connects.closed_s(loop.time())) > 0:  # noqa: ASYNC110 - a time, no event
            await asyncio.sleep(closed_s)

    def _nothing_before(self) -> float | None:
        """Return until when there is nothing to ask for, None when there is something."""
        names = {track.instrument.venue.venue_symbol for track in self.tracks}
        again_at = self.memory.again_at
        if not names <= self.memory.refused.keys() or again_at is None:
            return None
        return again_at if again_at > asyncio.get_running_loop().time() else None

    async def _after(self, feed: str, ending: Ending) -> None:
        """Wait as long as the ending calls for."""
        self._reason = ending.reason
        if ending.is_proved:
            self._backoff.reset()
        delay_s = max(self._backoff.next_s(), ending.retry_after_s)
        if ending.retry_after_s:
            now = asyncio.get_running_loop().time()
            self._context.connects.close(now + ending.retry_after_s)
        _log.warning(
            "connection_lost",
            exchange=self._context.exchange,
            feed=feed,
            reason=ending.reason,
            retry_in_s=round(delay_s, 1),
        )
        await asyncio.sleep(delay_s)


async def _first(task: asyncio.Task[Ending], event: asyncio.Event) -> None:
    """Return when the task is done or the event is set."""
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
