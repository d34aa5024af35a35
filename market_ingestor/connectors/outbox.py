"""The one way from all feeds of a process to the bus, in order and bounded. SHELL.

Owns what is sent when: batches by the message budget, then the marks that say everything before
them was sent, then events. Waiting trades are bounded; at the bound readers pause (`room`).
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.ack_window import Outcome, PubAck
from market_ingestor.bus.publisher import Publisher
from market_ingestor.connectors.account import Account
from market_ingestor.connectors.batcher import Batcher
from market_ingestor.connectors.feed import Feed, Lane, Message
from market_ingestor.connectors.stream_guard import StreamGuard
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.trade import TextTrade

_log = structlog.get_logger(__name__)

EVENTS_MAX: Final = 10_000  # waiting while the bus is away; the oldest go, counted
REFILLED_SHARE: Final = 0.5  # of the buffer, for venues that give back what a pause costs
ROOM_POLL_S: Final = 0.05  # how soon a reader notices that the server accepts again

Observer = Callable[[str, int, Sequence[int]], None]


def now_us() -> int:
    """Return the time as UTC microseconds."""
    return time.time_ns() // 1000


class Outbox:
    """Gathers trades, marks and events, and hands them to the publisher.

    Args:
        publisher: Runs elsewhere; its window is the bound behind this one.
        batcher: The message budget.
        guard: Knows how full the stream is; runs elsewhere too.
        buffer_trades: Trades that may wait here before readers pause; those of venues that give
            back what a pause costs do at half of it.
        on_latency: Called with the exchange, the time of acknowledgement and the trade times of a
            live batch, UTC microseconds.

    Attributes:
        trades_max: The bound of `trades`; what is taken at once may overshoot it.
        events_dropped: Events lost because `EVENTS_MAX` waited already.
    """

    def __init__(
        self,
        publisher: Publisher,
        batcher: Batcher,
        guard: StreamGuard,
        *,
        buffer_trades: int,
        on_latency: Observer | None = None,
    ) -> None:
        self._publisher = publisher
        self._batcher = batcher
        self._guard = guard
        self.trades_max = buffer_trades
        self._on_latency = on_latency
        self._accounts: dict[str, Account] = {}
        self._marks: dict[Feed, tuple[int, bool]] = {}
        self._posts: deque[tuple[Feed, Message]] = deque()
        self._posted = 0
        self._events: deque[MarketEvent] = deque()
        self._event_count = 0
        self._event_prefix = f"{time.time_ns():x}"
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.events_dropped = 0

    def account(self, exchange: str) -> Account:
        """Return the loss account of an exchange."""
        account = self._accounts.get(exchange)
        if account is None:
            account = self._accounts[exchange] = Account()
        return account

    @property
    def accounts(self) -> dict[str, Account]:
        """Return every exchange's loss account."""
        return self._accounts

    @property
    def trades(self) -> int:
        """Return how many trades wait here."""
        return self._batcher.trades + self._posted

    def has_room(self, *, is_refilled: bool) -> bool:
        """Return whether readers may read: the buffer has room and the server accepts.

        Args:
            is_refilled: Whether their venue gives back what a pause costs.
        """
        bound = self.trades_max * REFILLED_SHARE if is_refilled else self.trades_max
        return self.trades < bound and not self.is_held

    @property
    def is_held(self) -> bool:
        """Return whether nothing may be sent now: the server refuses, or soon would."""
        return self._publisher.is_held or self._guard.is_full

    async def room(self, *, is_refilled: bool) -> None:
        """Wait until `has_room`."""
        # Polled: the publisher's word changes with every answer, and this is no hot path.
        while not self.has_room(is_refilled=is_refilled):  # noqa: ASYNC110 - as said
            await asyncio.sleep(ROOM_POLL_S)

    def put(self, lane: Lane, trades: Sequence[TextTrade], received_us: int) -> None:
        """Take live trades over; they are counted in flight already."""
        self._batcher.put(lane, trades, received_us)
        if not self._wake.is_set():
            self._wake.set()
            self._idle.clear()

    def fell_behind(self) -> None:
        """Note that a socket probably has more to read at once."""
        self._batcher.fell_behind()

    def mark(self, feed: Feed, received_us: int, *, end: bool = False) -> None:
        """Send a mark behind everything the feed has put here so far."""
        if end and not feed.has_spoken and not feed.confirmed:
            return
        self._marks[feed] = (received_us, end)
        self._wake.set()
        self._idle.clear()

    def event(self, event: MarketEvent) -> None:
        """Send an event, when the bus takes it."""
        if len(self._events) >= EVENTS_MAX:
            self._events.popleft()
            self.events_dropped += 1
        self._events.append(event)
        self._wake.set()
        self._idle.clear()

    async def run(self) -> None:
        """Send until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            while (wait_s := self._batcher.wait_s(loop.time())) > 0:  # noqa: ASYNC110 - times
                await asyncio.sleep(wait_s)
            self._wake.clear()
            sent = await self._flush()
            self._batcher.spent(sent, loop.time())
            if not self._wake.is_set():
                self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until all is handed over and acknowledged; returns whether it was, in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
        except TimeoutError:
            return False
        return await self._publisher.drain(max(deadline - loop.time(), 0.0))

    def post(self, feed: Feed, messages: Sequence[Message]) -> None:
        """Take over the batches of a refill, whose trades are counted in flight already."""
        self._posts.extend((feed, message) for message in messages)
        self._posted += sum(message.trades for message in messages)
        feed.has_spoken = feed.has_spoken or bool(messages)
        self._wake.set()
        self._idle.clear()

    async def _send(self, feed: Feed, message: Message) -> None:
        feed.has_spoken = True
        account = self.account(feed.exchange)
        while self.is_held:  # noqa: ASYNC110 - as in `room`
            await asyncio.sleep(ROOM_POLL_S)  # or what is refused now would come behind what is not
        await self._publisher.send(
            message.subject,
            message.payload,
            message.message_id,
            on_done=functools.partial(self._done, account, feed, message.times_us),
        )

    async def _flush(self) -> int:
        """Send what waits; returns the number of messages."""
        lanes = self._batcher.take()
        marks, self._marks = self._marks, {}
        sent = 0
        for lane in lanes:
            self._batcher.took(len(lane.waiting))
            messages = lane.drain()
            sent += len(messages)
            for message in messages:
                await self._send(lane.feed, message)
        while self._posts:
            feed, message = self._posts.popleft()
            self._posted -= message.trades
            sent += 1
            await self._send(feed, message)
        for feed, (received_us, end) in marks.items():
            feed.has_spoken = True
            await self._publisher.send(
                subjects.mark(feed.exchange),
                codec.encode(feed.mark(received_us, end=end)),
                subjects.mark_id(feed.name, received_us) + (".end" if end else ""),
            )
        sent += len(marks)
        while self._events:
            event = self._events.popleft()
            self._event_count += 1
            await self._publisher.send(
                subjects.event(event.exchange, event.symbol),
                codec.encode(event),
                f"{self._event_prefix}.{self._event_count}",
            )
            sent += 1
        return sent

    def _done(
        self, account: Account, feed: Feed, times_us: Sequence[int], outcome: Outcome
    ) -> None:
        if isinstance(outcome, PubAck):
            account.deliver(len(times_us))
            if self._on_latency is not None and feed.source == "ws":
                self._on_latency(feed.exchange, now_us(), times_us)
        else:
            account.refuse(len(times_us))
            _log.error("batch_refused", exchange=feed.exchange, error=str(outcome))
