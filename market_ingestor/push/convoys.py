"""Clients that stand at the same place go on together. Pure.

Most clients of a gateway read the same few topics and have taken everything. What is next for one
of them is next for all, byte for byte: it is worked out once, by an outbox they share, and costs
each client a look at its socket and a write (0.2 us and the system call, against 6 us for an outbox
of its own). A client whose socket is not empty leaves before anything is taken, and goes on alone
from exactly there; when it has caught up it comes back.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from market_ingestor.push.dialect import Dialect
from market_ingestor.push.messages import Message
from market_ingestor.push.outbox import Outbox
from market_ingestor.push.subscriptions import Log

RIDERS_MAX: Final = 512  # some milliseconds of writing, before others have their turn
LOGS_MAX: Final = 64  # of a client that rides; comparing more costs more than it saves

Encoding: TypeAlias = Callable[[Sequence[Message]], bytes]
_Key: TypeAlias = tuple[Encoding, Dialect, tuple[Log, ...]]


class Seat(NamedTuple):
    """The socket of a client that rides, without a layer between.

    Attributes:
        buffered: Gives the bytes written and not yet taken by the system.
        write: Writes bytes.
    """

    buffered: Callable[[], int]
    write: Callable[[bytes], object]


class Convoy:
    """Clients with the same topics and the same place in them.

    Attributes:
        lead: What all of them are still to get.
        encode: How messages are written on their transport.
        riders: The outboxes of the clients, which rest, and their sockets.
    """

    def __init__(self, lead: Outbox, encode: Encoding) -> None:
        self.lead = lead
        self.encode = encode
        self.riders: dict[Outbox, Seat] = {}

    @property
    def has_room(self) -> bool:
        """Return whether another client may ride."""
        return len(self.riders) < RIDERS_MAX

    def late(self) -> list[Outbox]:
        """Return the riders whose socket still holds what they were sent before."""
        return [outbox for outbox, seat in self.riders.items() if seat.buffered()]

    def write(self, messages: Sequence[Message]) -> None:
        """Write messages to every rider."""
        data = self.encode(messages)
        for _, write in self.riders.values():
            write(data)


class Convoys:
    """All convoys, and who rides in which.

    Args:
        new_outbox: Makes an outbox with nothing in it.
        sequence: Gives the newest candle's.
        leave: Takes an outbox from a log, which is forgotten with its last reader.
    """

    def __init__(
        self,
        new_outbox: Callable[[Dialect], Outbox],
        sequence: Callable[[], int],
        leave: Callable[[Log, Outbox], None],
    ) -> None:
        self._new_outbox = new_outbox
        self._sequence = sequence
        self._leave = leave
        self._by_key: dict[_Key, list[Convoy]] = {}
        self._by_rider: dict[Outbox, Convoy] = {}
        self._by_lead: dict[Outbox, Convoy] = {}
        self._waiting: dict[_Key, Outbox] = {}  # for a second one to ride with
        self._places: dict[Outbox, tuple[_Key, Seat]] = {}  # of those who wait

    @property
    def leads(self) -> Iterable[Outbox]:
        """Return the shared outboxes."""
        return self._by_lead.keys()

    def led_by(self, outbox: Outbox) -> Convoy | None:
        """Return the convoy of a shared outbox, None for a client's own."""
        return self._by_lead.get(outbox)

    def board(self, outbox: Outbox, seat: Seat, encode: Encoding) -> None:
        """Let a client ride if it has taken everything and somebody stands where it does.

        Args:
            outbox: The client's.
            seat: Its socket, which must be empty.
            encode: How its transport writes messages.
        """
        logs = tuple(outbox.logs)
        if outbox in self._by_rider or not outbox.is_idle or not 0 < len(logs) <= LOGS_MAX:
            return
        key = (encode, outbox.dialect, logs)
        places = outbox.places
        for convoy in self._by_key.get(key, ()):
            if convoy.has_room and convoy.lead.is_idle and convoy.lead.places == places:
                self._seat(convoy, outbox, seat)
                return
        other = self._waiting.get(key, outbox)
        if other is outbox or not (other.is_idle and other.places == places):
            self._wait(key, outbox, seat)
            return
        others_seat = self._places[other][1]
        self._end_wait(other)
        convoy = self._begin(key, other)
        self._seat(convoy, other, others_seat)
        self._seat(convoy, outbox, seat)

    def _wait(self, key: _Key, outbox: Outbox, seat: Seat) -> None:
        before = self._waiting.get(key)
        if before is not None:
            del self._places[before]
        self._waiting[key] = outbox
        self._places[outbox] = (key, seat)

    def _end_wait(self, outbox: Outbox) -> None:
        place = self._places.pop(outbox, None)
        if place is not None:
            del self._waiting[place[0]]

    def _begin(self, key: _Key, outbox: Outbox) -> Convoy:
        encode, dialect, logs = key
        lead = self._new_outbox(dialect)
        for log in logs:
            lead.attach(log, self._sequence())
        lead.go_on_from(outbox.progress)
        convoy = self._by_lead[lead] = Convoy(lead, encode)
        self._by_key.setdefault(key, []).append(convoy)
        return convoy

    def _seat(self, convoy: Convoy, outbox: Outbox, seat: Seat) -> None:
        self._end_wait(outbox)
        for log in outbox.logs:
            del log.readers[outbox]  # the lead reads for it
        convoy.riders[outbox] = seat
        convoy.lead.weight = len(convoy.riders)
        self._by_rider[outbox] = convoy

    def alight(self, outbox: Outbox) -> None:
        """Let a client go on alone, from where it stands; it may be about to change its topics."""
        self._end_wait(outbox)
        convoy = self._by_rider.get(outbox)
        if convoy is None:
            return
        for log in outbox.logs:
            log.readers[outbox] = None
        outbox.go_on_from(convoy.lead.progress)
        self._unseat(convoy, outbox)

    def part(self, outbox: Outbox) -> None:
        """Forget a client."""
        self._end_wait(outbox)
        convoy = self._by_rider.get(outbox)
        if convoy is not None:
            self._unseat(convoy, outbox)

    def _unseat(self, convoy: Convoy, outbox: Outbox) -> None:
        del self._by_rider[outbox]
        del convoy.riders[outbox]
        lead = convoy.lead
        lead.weight = len(convoy.riders)
        if convoy.riders:
            return
        del self._by_lead[lead]
        key = (convoy.encode, lead.dialect, tuple(lead.logs))
        self._by_key[key].remove(convoy)
        if not self._by_key[key]:
            del self._by_key[key]
        for log in key[2]:
            lead.detach(log)
            self._leave(log, lead)
