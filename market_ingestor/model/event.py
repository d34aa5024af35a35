"""What happened to a feed or to the sequence of a symbol's trades (contract, section 1)."""

from typing import Literal, TypeAlias

import msgspec

EventType: TypeAlias = Literal[
    "gap_found", "gap_filled", "gap_unfillable", "feed_up", "feed_down", "feed_stale", "backlog"
]

WHOLE_FEED = "_"  # the ``symbol`` of an event about a whole connection


class MarketEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A change of state worth telling operators, clients and the database.

    Attributes:
        symbol: The symbol, or ``_`` for a whole feed.
        time_us: When it was noticed, UTC microseconds.
        after_id: Gaps: last id present before the hole.
        before_id: Gaps: first id present behind the hole.
        missing: Gaps: how many ids lie between, None when the venue's ids cannot tell.
        from_time: Gaps: trade time of ``after_id`` in Unix milliseconds; ``to_time`` likewise.
        detail: One clause for a person.
    """

    v: int
    exchange: str
    symbol: str
    type: EventType
    time_us: int
    after_id: str | None
    before_id: str | None
    missing: int | None
    from_time: int | None
    to_time: int | None
    detail: str
    simulated: bool = False
