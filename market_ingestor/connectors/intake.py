"""What happens to a live trade between its frame and the bus. Pure.

Owns the age limits, the dropping of copies within a feed, and what is known of each instrument
across its feeds. Must never know a socket or a venue; clocks are passed in.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from market_ingestor.connectors.absences import Absences
from market_ingestor.connectors.account import Account
from market_ingestor.connectors.feed import Lane
from market_ingestor.connectors.gaps import GapFinder
from market_ingestor.model.instrument import Instrument
from market_ingestor.model.trade import TextTrade

US_PER_S: Final = 1_000_000
FOREVER_US: Final = 2**62  # beyond any time that passes a venue's check

STALE_FACTOR: Final = 30.0  # silences of so many mean intervals: one in e^30 by chance
RATE_WEIGHT: Final = 0.05  # of the newest interval in the running mean: remembers about 20 trades
TRADES_JUDGED_MIN: Final = 20  # before so many trades a symbol's own rate is not known


class Ages(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How old, or how far ahead of our clock, a live trade may be; 0 is any."""

    max_age_us: int
    max_ahead_us: int


class Track:
    """One instrument across all its feeds: its ids, and how often it trades.

    Args:
        silence_min_s: Shorter silences are nobody's business, however busy the symbol.

    Attributes:
        absences: Holes in its ids that are none of ours.
        last_trade_us: Receive time of its newest live trade, 0 before the first.
        is_stale: Whether its silence was reported.
        is_dropped: Whether nobody wants it any more: what is still looked for is left.
    """

    __slots__ = (
        "_interval_us",
        "_silence_min_us",
        "_trades",
        "absences",
        "finder",
        "instrument",
        "is_dropped",
        "is_stale",
        "last_trade_us",
    )

    def __init__(
        self, instrument: Instrument, finder: GapFinder, *, silence_min_s: float = 60.0
    ) -> None:
        self.instrument = instrument
        self.finder = finder
        self.absences = Absences()
        self.last_trade_us = 0
        self.is_stale = False
        self.is_dropped = False
        self._interval_us = 0.0
        self._silence_min_us = silence_min_s * US_PER_S
        self._trades = 0

    def traded(self, received_us: int) -> None:
        """Note that trades arrived."""
        if self.last_trade_us:
            interval = received_us - self.last_trade_us
            self._interval_us += RATE_WEIGHT * (interval - self._interval_us)
        self._trades += 1
        self.last_trade_us = received_us

    def silence_max_us(self) -> float | None:
        """Return the silence beyond which this symbol's own rate says that something is wrong."""
        if self._trades < TRADES_JUDGED_MIN:
            return None
        return max(STALE_FACTOR * self._interval_us, self._silence_min_us)


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where the trades of one venue symbol go on one connection."""

    track: Track
    lane: Lane


class Gate:
    """Lets the live trades of one exchange through that are fit to publish.

    Args:
        account: Where every one of them is counted.
        has_contiguous_ids: Whether jumps in the ids are looked for.
    """

    __slots__ = ("_account", "_has_contiguous_ids", "_max_age_us", "_max_ahead_us")

    def __init__(self, ages: Ages, account: Account, *, has_contiguous_ids: bool) -> None:
        self._account = account
        self._has_contiguous_ids = has_contiguous_ids
        self._max_age_us = ages.max_age_us or FOREVER_US
        self._max_ahead_us = ages.max_ahead_us or FOREVER_US

    def accept(
        self, route: Route, trades: Sequence[TextTrade], received_us: int, now: float
    ) -> Sequence[TextTrade]:
        """Return the trades that are fit to publish; counts and remembers every one.

        Args:
            received_us: When their frame was read, UTC microseconds.
            now: The same instant, monotonic seconds.
        """
        lane, track = route.lane, route.track
        oldest, latest = received_us - self._max_age_us, received_us + self._max_ahead_us
        fit: list[TextTrade] = []
        for trade in trades:
            time_us = trade.time_us
            if not oldest <= time_us <= latest:
                self._account.reject("too_old" if time_us < oldest else "too_far_ahead")
                continue
            trade_id = int(trade.id)
            if not lane.is_new(trade_id):
                self._account.drop()
                continue
            if self._has_contiguous_ids:
                track.finder.observe(trade_id, time_us, now)
            fit.append(trade)
        if fit:
            self._account.take(len(fit))
            track.traded(received_us)
        return fit
