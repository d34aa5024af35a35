"""Ids for trades of venues that give none, and the frames such a venue sends twice. Pure.

Owns the contract's made-up id: 13 digits of the trade time in milliseconds, 3 digits that differ
per connection, 3 digits counting within the millisecond. Two equal trades are two trades; only a
whole frame can be recognised as a copy. Must never know a venue, a socket or a clock.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from msgspec.structs import replace

from market_ingestor.model.trade import TextTrade

SALTS: Final = 1_000  # three digits
COUNTS: Final = 1_000  # three digits
US_PER_MS: Final = 1_000
MS_KEPT: Final = 4_096  # busy milliseconds remembered per symbol: seconds of disorder at any rate
REPEAT_S: Final = 5.0  # the contract's: a copy comes at once, an equal frame later is another
_DIGEST_BYTES: Final = 16


class _Counts:
    """How many trades of one symbol each millisecond has had."""

    __slots__ = ("_counts", "_forgotten", "_order")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._order: list[int] = []  # the same milliseconds as a heap, lowest first
        self._forgotten = 0

    def next(self, time_ms: int) -> tuple[int, int]:
        """Return a millisecond and a number in it that no trade of this symbol has had.

        The millisecond is the given one, or the next with room: behind a thousand trades in one,
        or when it is so old that its count was forgotten.
        """
        counts = self._counts
        at = time_ms if time_ms > self._forgotten else self._forgotten + 1
        while (count := counts.get(at, 0)) >= COUNTS:
            at += 1
        counts[at] = count + 1
        if not count:
            heapq.heappush(self._order, at)
            if len(self._order) > MS_KEPT:
                self._forgotten = heapq.heappop(self._order)
                del counts[self._forgotten]
        return at, count


class MadeUpIds:
    """Gives every trade of one connection an id that no other trade of its symbol has.

    Args:
        salt: 0 .. 999, another one for each connection of an exchange.
    """

    def __init__(self, salt: int) -> None:
        if not 0 <= salt < SALTS:
            raise ValueError(f"not three digits: {salt}")
        self._salt = salt
        self._counts: dict[str, _Counts] = {}

    def name(self, venue_symbol: str, trades: Sequence[TextTrade]) -> list[TextTrade]:
        """Return the trades with ids of 19 digits, in the same order.

        Args:
            venue_symbol: Of all of them; one that is subscribed, as each costs memory.
            trades: With times from 2009 to 2200, for which the ids fit 63 bits.
        """
        counts = self._counts.get(venue_symbol)
        if counts is None:
            counts = self._counts[venue_symbol] = _Counts()
        named: list[TextTrade] = []
        for trade in trades:
            time_ms, count = counts.next(trade.time_us // US_PER_MS)
            named.append(replace(trade, id=f"{time_ms:013d}{self._salt:03d}{count:03d}"))
        return named


class Repeats:
    """Frames of one connection seen in the last five seconds."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def is_repeat(self, frame: bytes, now: float) -> bool:
        """Remember a frame; return whether one equal to the byte came within `REPEAT_S`.

        Args:
            frame: As received.
            now: Monotonic seconds, never less than before.
        """
        while self._order and self._order[0][0] < now - REPEAT_S:
            self._seen.discard(self._order.popleft()[1])
        digest = blake2b(frame, digest_size=_DIGEST_BYTES).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        self._order.append((now, digest))
        return False
