"""Writes to clients: once per client and tick, and only what its socket can take. SHELL.

A client whose socket still holds bytes of the last write gets nothing until it is empty: what
waits stays in the shared structures, where newer replaces older. So a slow client holds at most
one write, and nobody waits for it. Those who took everything ride in convoys, which are served
first.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from market_ingestor.push.convoys import Convoy, Encoding, Seat
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import Message
from market_ingestor.push.outbox import Outbox

TICK_S: Final = 0.002  # between two rounds of writing: what comes closer shares a write
SLICE_S: Final = 0.02  # of writing without letting the event loop read
WRITES_MAX: Final = 8  # to a client that takes them all, before it is another's turn
CHECK_EVERY: Final = 64  # clients between two looks at the clock


class ClientGoneError(Exception):
    """The client went away while something was made ready for it."""


class Sink(Protocol):
    """The socket of a client."""

    @property
    def buffered(self) -> int:
        """Return the bytes written and not yet taken by the system."""

    def write(self, messages: Sequence[Message], *, as_array: bool) -> None:
        """Write messages at once; whatever is wrong with the socket shows elsewhere."""

    @property
    def encode(self) -> Encoding:
        """Return how messages are written here, unless they are to be arrays."""

    @property
    def seat(self) -> Seat | None:
        """Return the socket itself, for a client that rides; None when it is being closed."""

    def close(self, code: int, reason: str) -> None:
        """Begin to close in order."""

    def abort(self) -> None:
        """Close at once."""


class Client:
    """One connection.

    Attributes:
        address: Where it comes from, for limits and logs.
        is_trusted: It showed a token, or none is needed.
        may_ride: It is not being closed.
        follows_mode: What it reads depends on the mode, which it was not told of.
        heard_at: When its last message came, by the loop's clock.
        batch_s: Frames are arrays, and this long after what there was is sent there is none;
            0: one frame per message.
    """

    def __init__(self, outbox: Outbox, sink: Sink, address: str, now: float) -> None:
        self.outbox = outbox
        self.sink = sink
        self.address = address
        self.is_trusted = False
        self.is_gone = False
        self.may_ride = True
        self.follows_mode = False
        self.heard_at = now
        self.batch_s = 0.0
        self.next_frame_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.stuck_bytes = 0
        self.stuck_since: float | None = None
        self.room = asyncio.Event()


class Pump:
    """Gives every client with news its messages, in rounds.

    Args:
        hub: Knows who has news.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._clients: dict[Outbox, Client] = {}
        self._ready: dict[Client, None] = {}
        self._ready_convoys: dict[Convoy, None] = {}
        self._is_scheduled = False
        self._last_round = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def clients(self) -> list[Client]:
        """Return everybody connected."""
        return list(self._clients.values())

    @property
    def is_quiet(self) -> bool:
        """Return whether no round is planned."""
        return not self._is_scheduled

    def join(self, sink: Sink, address: str) -> Client:
        """Take a new client."""
        client = Client(self._hub.join(), sink, address, self._loop.time())
        self._clients[client.outbox] = client
        return client

    def part(self, client: Client) -> None:
        """Forget a client that went; may be called again."""
        client.is_gone = True
        client.room.set()
        if client.timer is not None:
            client.timer.cancel()
        self._ready.pop(client, None)
        if self._clients.pop(client.outbox, None) is not None:
            self._hub.part(client.outbox)

    def wake(self) -> None:
        """Plan a round: the hub may have news."""
        if self._is_scheduled:
            return
        self._is_scheduled = True
        wait = self._last_round + TICK_S - self._loop.time()
        if wait > 0:
            self._loop.call_later(wait, self._round)
        else:
            self._loop.call_soon(self._round)

    def ready(self, client: Client) -> None:
        """Plan to write to a client: it has something new, or its socket became empty."""
        if not client.is_gone:
            self._ready[client] = None
            self.wake()

    def ready_outbox(self, outbox: Outbox) -> None:
        """Plan to write to the clients of an outbox."""
        self._note(outbox)
        self.wake()

    def _note(self, outbox: Outbox) -> None:
        client = self._clients.get(outbox)
        if client is not None:
            self._ready[client] = None
            return
        convoy = self._hub.convoys.led_by(outbox)
        if convoy is not None:
            self._ready_convoys[convoy] = None

    def unseat(self, client: Client) -> None:
        """Note that a client is being closed: it no longer rides."""
        client.may_ride = False
        self._hub.convoys.alight(client.outbox)

    def finish(self, client: Client) -> None:
        """Write what waits for a client, as far as one write goes; it is about to be closed."""
        client.next_frame_at = 0.0
        self._spread()
        self.unseat(client)
        self._serve(client)

    async def room(self, client: Client) -> None:
        """Wait until more history may be queued for a client.

        Raises:
            ClientGoneError: It went away.
        """
        while not client.outbox.has_history_room and not client.is_gone:
            client.room.clear()
            self.ready(client)
            await client.room.wait()
        if client.is_gone:
            raise ClientGoneError

    def _spread(self) -> None:
        """Note whom the news since the last time concern."""
        for outbox in self._hub.touched(self._loop.time()):
            self._note(outbox)

    def _round(self) -> None:
        self._is_scheduled = False
        self._spread()
        stop_at = self._loop.time() + SLICE_S
        self._serve_convoys(stop_at)
        turn = list(self._ready)
        self._ready = {}
        served = 0
        for client in turn:
            if not client.is_gone:
                self._serve(client)
            served += 1
            if served % CHECK_EVERY == 0 and self._loop.time() > stop_at:
                break
        self._last_round = self._loop.time()
        self._ready = dict.fromkeys(turn[served:]) | self._ready
        if self._ready or self._ready_convoys:
            self.wake()
        self._set_alarm()

    def _serve_convoys(self, stop_at: float) -> None:
        """Write to those who take everything at once, before those who do not."""
        turn, self._ready_convoys = self._ready_convoys, {}
        while turn and self._loop.time() <= stop_at:
            convoy = next(iter(turn))
            del turn[convoy]
            self._serve_convoy(convoy)
        self._ready_convoys = turn | self._ready_convoys

    def _serve_convoy(self, convoy: Convoy) -> None:
        for _ in range(WRITES_MAX):
            for outbox in convoy.late():
                self._hub.convoys.alight(outbox)  # served again when its socket is empty
            if not convoy.riders:
                return
            messages = convoy.lead.take()
            if convoy.lead.is_hopeless:
                for outbox in list(convoy.riders):
                    self._clients[outbox].sink.abort()
                return
            if messages:
                convoy.write(messages)
            if not convoy.lead.has_more:
                return
        self._ready_convoys[convoy] = None

    def _set_alarm(self) -> None:
        """Have a round when the hub has something due, whatever comes before."""
        due_at = self._hub.due_at
        if self._alarm is not None and (due_at is None or due_at < self._alarm.when()):
            self._alarm.cancel()
            self._alarm = None
        if due_at is not None and self._alarm is None:
            self._alarm = self._loop.call_at(due_at, self._end_alarm)

    def _end_alarm(self) -> None:
        self._alarm = None
        self.wake()

    def _serve(self, client: Client) -> None:
        if client.batch_s and not self._is_frame_due(client):
            return
        if not self._write(client):
            return  # comes back when the socket is empty, or never
        if client.outbox.has_history_room:
            client.room.set()
        if client.outbox.has_more:
            self._ready[client] = None
        elif client.batch_s:
            client.next_frame_at = self._loop.time() + client.batch_s
        elif client.may_ride:
            self._seat(client)

    def _seat(self, client: Client) -> None:
        """Let a client that took everything ride with others."""
        seat = client.sink.seat
        if seat is not None and not seat.buffered():
            self._hub.convoys.board(client.outbox, seat, client.sink.encode)

    def _write(self, client: Client) -> bool:
        """Write what waits, as far as the socket takes it; return whether it took all of that."""
        outbox, sink = client.outbox, client.sink
        for _ in range(WRITES_MAX):
            if sink.buffered:
                return False
            messages = outbox.take()
            if outbox.is_hopeless:
                sink.abort()
                return False
            if messages:
                sink.write(messages, as_array=client.batch_s > 0)
            if not outbox.has_more:
                break
        return True

    def _is_frame_due(self, client: Client) -> bool:
        if self._loop.time() >= client.next_frame_at:
            return True
        if client.timer is None:
            client.timer = self._loop.call_at(client.next_frame_at, self._end_wait, client)
        return False

    def _end_wait(self, client: Client) -> None:
        client.timer = None
        self.ready(client)
