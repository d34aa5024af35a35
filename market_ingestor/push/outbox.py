"""What one client is still to get, within limits. Pure.

Replies first; then history that was asked for; closed candles by cursor, in stream order;
trades and events from a bounded queue that drops when it is full; at last the newest values of
whatever changed. Nothing is taken from the shared structures before the socket can take it, so
a slow client costs little more than its cursors.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from market_ingestor.push.dialect import Dialect
from market_ingestor.push.messages import Message
from market_ingestor.push.ring import Candle
from market_ingestor.push.subscriptions import CANDLE_FAMILIES, Key, Log, text_of

REPLIES_MAX: Final = 256  # a client that asks this often and reads nothing is given up
PARCEL_BYTES_MAX: Final = (
    16 * 1024
)  # of one write: what a socket does not take of it lies in memory
HISTORY_MAX: Final = 512  # messages of history waiting; who reads them from the store waits


class OutboxLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bounds of what waits for one client, and of what one write takes.

    Attributes:
        frames: Messages queued, and messages handed to the socket at a time.
        bytes: The same in bytes; one message may exceed it. A write takes
            `PARCEL_BYTES_MAX` at most.
    """

    frames: int
    bytes: int


class PushCounters:
    """What was done with messages to clients, over the life of the process."""

    __slots__ = ("conflated", "dropped", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.conflated = 0
        self.dropped = 0


class _Cursor:
    """How far a client has come with a log."""

    __slots__ = ("change", "index", "updates")

    def __init__(self, log: Log, *, wants_state: bool) -> None:
        self.index = log.end_index
        self.change = -1 if wants_state else log.newest_change
        self.updates = log.updates


class Progress(NamedTuple):
    """Where an outbox stands, for another one with the same logs to go on from there."""

    cursors: list[tuple[int, int, int]]
    through: int
    queue: tuple[Message, ...]
    lost: dict[str, int]
    pending: dict[Key, None]
    dirty: dict[Log, None]


class _Parcel:
    """Messages of one write, and the room left in it."""

    __slots__ = ("bytes_left", "count", "frames_left", "messages")

    def __init__(self, limits: OutboxLimits) -> None:
        self.messages: list[Message] = []
        self.count = 0
        self.frames_left = limits.frames
        self.bytes_left = min(limits.bytes, PARCEL_BYTES_MAX)

    @property
    def has_room(self) -> bool:
        return self.frames_left > 0 and self.bytes_left > 0

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.count += message.count
        self.frames_left -= 1
        self.bytes_left -= message.size


class Outbox:
    """The waiting messages of one client.

    Attributes:
        dirty: Logs with news since the last `take`.
        through: Every candle of the client's topics up to this sequence was taken.
        dialect: How messages to this client are written.
        is_hopeless: The client is to be given up: it sends requests and does not read the
            answers, or lost candles and there is no word for that in its dialect.
        weight: How many clients get what is taken (`push.convoys`).
    """

    def __init__(self, limits: OutboxLimits, counters: PushCounters, dialect: Dialect) -> None:
        self.dialect = dialect
        self._limits = limits
        self._counters = counters
        self._cursors: dict[Log, _Cursor] = {}
        self._replies: deque[Message] = deque()
        self._history: deque[Message] = deque()
        self._queue: deque[Message] = deque()
        self._lost: dict[str, int] = {}
        self._pending: dict[Key, None] = {}
        self._is_held = False
        self.queue_bytes = 0
        self.dirty: dict[Log, None] = {}
        self.through = 0
        self.is_hopeless = False
        self.weight = 1

    # -- subscriptions

    @property
    def logs(self) -> Iterable[Log]:
        """Return the logs this client reads, in the order of subscription."""
        return self._cursors.keys()

    @property
    def topics(self) -> list[str]:
        """Return what is subscribed, as the client wrote it."""
        return [text_of(log.pattern) for log in self._cursors]

    def attach(self, log: Log, sequence: int, *, skips: bool = False) -> None:
        """Begin to read a log: its newest values, and its candles from the next one on.

        Args:
            log: What to read.
            sequence: The newest candle's, whoever's it is.
            skips: The candles up to ``sequence`` were sent in another way; skip what was not
                taken yet of a log that is read already.
        """
        if not any(known.family in CANDLE_FAMILIES for known in self._cursors):
            self.through = sequence
        known_cursor = self._cursors.get(log)
        if known_cursor is None:
            self._cursors[log] = _Cursor(log, wants_state=self.dialect.tells_state)
            log.readers[self] = None
        elif skips:
            known_cursor.index = log.end_index
        if log.changes and self.dialect.tells_state:
            self.dirty[log] = None

    def detach(self, log: Log) -> None:
        """Stop reading a log."""
        self._cursors.pop(log, None)
        self.dirty.pop(log, None)

    def restart(self, sequence: int) -> None:
        """Note that the stream was made anew: what comes begins behind ``sequence``."""
        self.through = sequence

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits or is held back."""
        return not (self._is_held or self.dirty or self.is_hopeless or self.has_more)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Return how far it has come with candles and values of each log."""
        return [(cursor.index, cursor.change) for cursor in self._cursors.values()]

    @property
    def progress(self) -> Progress:
        """Return where it stands with its logs; what waits besides is not in it."""
        return Progress(
            cursors=[(each.index, each.change, each.updates) for each in self._cursors.values()],
            through=self.through,
            queue=tuple(self._queue),
            lost=dict(self._lost),
            pending=dict(self._pending),
            dirty=dict(self.dirty),
        )

    def go_on_from(self, progress: Progress) -> None:
        """Stand where another outbox with the same logs stood, in the same order."""
        for cursor, place in zip(self._cursors.values(), progress.cursors, strict=True):
            cursor.index, cursor.change, cursor.updates = place
        self.queue_bytes += sum(each.size for each in progress.queue)
        self.queue_bytes -= sum(each.size for each in self._queue)
        self.through = progress.through
        self._queue = deque(progress.queue)
        self._lost = dict(progress.lost)
        self._pending = dict(progress.pending)
        self.dirty = dict(progress.dirty)

    def hold(self) -> None:
        """Keep closed candles back while older ones are being sent."""
        self._is_held = True

    def release(self) -> None:
        """End `hold`."""
        self._is_held = False

    # -- what is put in

    def reply(self, message: Message) -> None:
        """Queue the answer to a request."""
        if len(self._replies) >= REPLIES_MAX:
            self.is_hopeless = True
            return
        self._replies.append(message)
        self.queue_bytes += message.size

    @property
    def has_history_room(self) -> bool:
        """Return whether `add_history` may be called."""
        return len(self._history) < HISTORY_MAX and self.queue_bytes < 2 * self._limits.bytes

    def add_history(self, message: Message) -> None:
        """Queue an older candle the client asked for; look at `has_history_room` first."""
        self._history.append(message)
        self.queue_bytes += message.size

    def offer(self, topic: str, message: Message) -> bool:
        """Queue a message that nothing replaces; dropped and counted when the queue is full."""
        if len(self._queue) >= self._limits.frames or self.queue_bytes > self._limits.bytes:
            self._lost[topic] = self._lost.get(topic, 0) + message.count
            self._counters.dropped += message.count * self.weight
            return False
        self._tell_losses()
        self._queue.append(message)
        self.queue_bytes += message.size
        return True

    def _tell_losses(self) -> None:
        """Queue the notices of losses, where the lost messages would have stood."""
        for topic, count in self._lost.items():
            notice = self.dialect.missed(topic, count, None)
            if notice is not None:
                self._queue.append(notice)
                self.queue_bytes += notice.size
        self._lost.clear()

    # -- what is taken out

    @property
    def has_more(self) -> bool:
        """Return whether `take` may give something."""
        return bool(
            self._replies
            or self._history
            or self._queue
            or self._pending
            or self._lost
            or (self.dirty and self._has_news())
        )

    def _has_news(self) -> bool:
        if not self._is_held:
            return True
        return any(self._cursors[log].change < log.newest_change for log in self.dirty)

    def take(self) -> list[Message]:
        """Return what to write now, in order, within the limits."""
        parcel = _Parcel(self._limits)
        self._take_queued(self._replies, parcel)
        self._take_queued(self._history, parcel)
        unread = self._sift()
        if unread and not self._is_held:
            self._take_candles(unread, parcel)
        self.dirty = {log: None for log, cursor in unread if cursor.index != log.end_index}
        self._take_passing(parcel)
        if self._pending:
            self._take_pending(parcel)
        self._counters.sent += parcel.count * self.weight
        return parcel.messages

    def _take_queued(self, queue: deque[Message], parcel: _Parcel) -> None:
        while queue and parcel.has_room:
            message = queue.popleft()
            self.queue_bytes -= message.size
            parcel.add(message)

    def _take_passing(self, parcel: _Parcel) -> None:
        """Take trades and events: all, or half of the room while newest values wait too."""
        reserve = parcel.frames_left // 2 if self._pending else 0
        while self._queue and parcel.has_room and parcel.frames_left > reserve:
            message = self._queue.popleft()
            self.queue_bytes -= message.size
            parcel.add(message)
        if not self._queue and self._lost:
            self._tell_losses()

    def _sift(self) -> list[tuple[Log, _Cursor]]:
        """Note what changed in the dirty logs; returns those that have candles to take."""
        unread: list[tuple[Log, _Cursor]] = []
        for log in self.dirty:
            cursor = self._cursors[log]
            if cursor.index != log.end_index:
                unread.append((log, cursor))
            if cursor.change < log.newest_change:
                self._note_changes(log, cursor)
        return unread

    def _note_changes(self, log: Log, cursor: _Cursor) -> None:
        """Note the keys that changed since the last time; versions in between are conflated."""
        pending = self._pending
        fresh = [key for key in log.changed_since(cursor.change) if key not in pending]
        if len(fresh) > 1:
            fresh.reverse()  # what waited longest goes first
        for key in fresh:
            pending[key] = None
        conflated = max(log.updates - cursor.updates - len(fresh), 0)
        self._counters.conflated += conflated * self.weight
        cursor.change = log.newest_change
        cursor.updates = log.updates

    def _take_candles(self, unread: Sequence[tuple[Log, _Cursor]], parcel: _Parcel) -> None:
        """Merge the logs in stream order; a candle matched twice in a family is taken once."""
        heap: list[tuple[int, int, Candle, Log, _Cursor]] = []
        for number, (log, cursor) in enumerate(unread):
            self._tell_overtaken(log, cursor, parcel)
            self._push_next(heap, number, log, cursor)
        taken: set[str] = set()
        while heap and (parcel.has_room or heap[0][0] == self.through):
            sequence, number, candle, log, cursor = heapq.heappop(heap)
            cursor.index += 1
            if sequence != self.through:
                taken.clear()
                self.through = sequence
            if log.family not in taken:
                taken.add(log.family)
                parcel.add(self.dialect.candle(log.family, candle))
            self._push_next(heap, number, log, cursor)

    def _push_next(
        self,
        heap: list[tuple[int, int, Candle, Log, _Cursor]],
        number: int,
        log: Log,
        cursor: _Cursor,
    ) -> None:
        if cursor.index < log.end_index:
            candle = log.candles[cursor.index - log.first_index]
            heapq.heappush(heap, (candle.sequence, number, candle, log, cursor))

    def _tell_overtaken(self, log: Log, cursor: _Cursor, parcel: _Parcel) -> None:
        """Tell of candles the ring let go of before this client took them."""
        lost = log.first_index - cursor.index
        if lost > 0:
            cursor.index = log.first_index
            self._counters.dropped += lost * self.weight
            notice = self.dialect.missed(text_of(log.pattern), lost, self.through)
            if notice is None:
                self.is_hopeless = True
            else:
                parcel.add(notice)

    def _take_pending(self, parcel: _Parcel) -> None:
        self._pending = self.dialect.living(self._pending)
        done: list[Key] = []
        for key in self._pending:
            if not parcel.has_room:
                break
            done.append(key)
            message = self.dialect.value(key)
            if message is not None:
                parcel.add(message)
        for key in done:
            del self._pending[key]
