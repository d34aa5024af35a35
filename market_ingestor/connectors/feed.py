"""Feeds: what one connection, or one refill, puts on the bus and in which order. Pure.

Owns the running numbers, ``prev_id``, the split into messages and the marks (contract, section 1).
Whoever reads the stream can tell from them alone whether anything is missing. Must never know a
venue, a socket or a clock.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from market_ingestor.bus import codec, subjects
from market_ingestor.model.intervals import IdIntervals
from market_ingestor.model.trade import (
    WIRE_VERSION,
    FeedPosition,
    Mark,
    Source,
    TextTrade,
    TradeBatch,
)

NAME_CHARS_MAX: Final = 24  # of a feed: it stands in every message and every message id


class FeedNames:
    """Gives each feed of a process a name that no feed ever had.

    Args:
        process_token: Random per process; letters and digits, at most 12.
    """

    def __init__(self, process_token: str) -> None:
        if not (process_token.isalnum() and process_token.isascii()):
            raise ValueError(f"not a token: {process_token!r}")
        self._token = process_token
        self._count = 0

    def next(self) -> str:
        """Return the next name, safe as a token of a subject."""
        self._count += 1
        name = f"{self._token}-{self._count}"
        if len(name) > NAME_CHARS_MAX:
            raise ValueError(f"feed name too long: {name!r}")
        return name


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One trade batch ready for the bus.

    Attributes:
        subject: Where it goes.
        message_id: Names exactly this payload, for ever.
        payload: The encoded batch.
        times_us: Trade time of each of its trades.
    """

    subject: str
    message_id: str
    payload: bytes
    times_us: Sequence[int]

    @property
    def trades(self) -> int:
        """Return how many trades it carries."""
        return len(self.times_us)


class Lane:
    """One symbol on one feed: its numbering, its copies and what waits to be sent.

    Attributes:
        is_new: Remembers an id; returns whether this feed had not delivered it yet.
        has_contiguous_ids: Whether a jump in its ids is a loss; without, there is no ``prev_id``.
        is_confirmed: Whether the venue confirmed the subscription.
        n: Number of the newest batch made, 0 before the first.
        last_id: Id of the last trade in it.
        waiting: Trades received and not yet in a batch, in arrival order.
    """

    __slots__ = (
        "_received_us",
        "_subject",
        "feed",
        "has_contiguous_ids",
        "is_confirmed",
        "is_new",
        "last_id",
        "n",
        "symbol",
        "waiting",
    )

    def __init__(self, feed: "Feed", symbol: str) -> None:
        self.feed = feed
        self.symbol = symbol
        self.has_contiguous_ids = feed.has_contiguous_ids
        self.is_confirmed = False
        self.n = 0
        self.last_id: str | None = None
        self.waiting: list[TextTrade] = []
        self._received_us = 0
        self.is_new = IdIntervals().add
        self._subject = subjects.raw(feed.exchange, symbol)

    @property
    def has_traded(self) -> bool:
        """Return whether this feed delivered a trade of this symbol."""
        return bool(self.waiting) or self.n > 0

    def put(self, trades: Sequence[TextTrade], received_us: int) -> None:
        """Let trades wait for the next batch."""
        if not self.waiting:
            self._received_us = received_us
        self.waiting.extend(trades)

    def drain(self) -> list[Message]:
        """Make batches of everything that waits."""
        trades, self.waiting = self.waiting, []
        prev_id = self.last_id if self.has_contiguous_ids else None
        return self.messages(trades, self._received_us, prev_id)

    def messages(
        self, trades: Sequence[TextTrade], received_us: int, prev_id: str | None
    ) -> list[Message]:
        """Return the batches of ``trades``, each at most `codec.BATCH_BYTES_MAX` long.

        Args:
            trades: Neighbours of each other on this feed, in its order.
            received_us: When the first was received.
            prev_id: What this feed had directly before the first, None when it had nothing.
        """
        if not trades:
            return []
        feed = self.feed
        payload = codec.encode(
            TradeBatch(
                v=WIRE_VERSION,
                exchange=feed.exchange,
                symbol=self.symbol,
                feed=feed.name,
                n=self.n + 1,
                source=feed.source,
                received_us=received_us,
                prev_id=prev_id,
                trades=list(trades),
                simulated=feed.simulated,
            )
        )
        if len(payload) > codec.BATCH_BYTES_MAX and len(trades) > 1:
            half = len(trades) // 2
            first = self.messages(trades[:half], received_us, prev_id)
            between = trades[half - 1].id if self.has_contiguous_ids else None
            return first + self.messages(trades[half:], received_us, between)
        self.n += 1
        self.last_id = trades[-1].id
        return [
            Message(
                subject=self._subject,
                message_id=subjects.batch_id(feed.name, self.symbol, self.n),
                payload=payload,
                times_us=[each.time_us for each in trades],
            )
        ]


class Feed:
    """One connection or one refill of one process.

    Args:
        name: From `FeedNames`.
        source: ``ws`` for a connection, ``rest`` for a refill.
        has_contiguous_ids: Whether the venue's ids grow by one.

    Attributes:
        is_paused: True while its socket is not read: no mark may then say it has sent all it had.
        has_spoken: Whether a message of this feed is on the bus, so that an end mark is due.
    """

    def __init__(
        self,
        name: str,
        exchange: str,
        *,
        source: Source,
        has_contiguous_ids: bool,
        simulated: bool,
    ) -> None:
        self.name = name
        self.exchange = exchange
        self.source: Source = source
        self.has_contiguous_ids = has_contiguous_ids
        self.simulated = simulated
        self.is_paused = False
        self.has_spoken = False
        self._lanes: dict[str, Lane] = {}

    def lane(self, symbol: str) -> Lane:
        """Return the lane of a symbol, made when it is new."""
        lane = self._lanes.get(symbol)
        if lane is None:
            lane = self._lanes[symbol] = Lane(self, symbol)
        return lane

    def drop(self, symbol: str) -> None:
        """Leave a symbol out of the marks: it is no longer subscribed."""
        self._lanes.pop(symbol, None)

    @property
    def confirmed(self) -> int:
        """Return how many symbols are confirmed."""
        return sum(lane.is_confirmed for lane in self._lanes.values())

    def mark(self, received_us: int, *, end: bool = False) -> Mark:
        """Return the feed's word that everything received by ``received_us`` was sent.

        The caller sent all batches made before, on the same publisher.
        """
        return Mark(
            v=WIRE_VERSION,
            exchange=self.exchange,
            feed=self.name,
            received_us=received_us,
            symbols={
                lane.symbol: FeedPosition(n=lane.n, id=lane.last_id)
                for lane in self._lanes.values()
                if lane.is_confirmed
            },
            end=end,
            simulated=self.simulated,
        )
