"""What passes between the stream, the aggregator and publication. Pure."""

from typing import NamedTuple

import msgspec

from market_ingestor.klines.completeness import Evidence
from market_ingestor.klines.window import Fold
from market_ingestor.model.period import BASE_PERIOD
from market_ingestor.model.trade import Source


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured: periods including 1m, and times in microseconds."""

    periods: tuple[str, ...]
    lateness_us: int
    hold_us: int
    fill_empty: bool = False

    @property
    def longer(self) -> tuple[str, ...]:
        """Return the periods that are merged from minutes."""
        return tuple(period for period in self.periods if period != BASE_PERIOD)


class BatchFacts(msgspec.Struct, frozen=True, gc=False):
    """What a batch says besides its trades; ``prev_id`` as a number."""

    feed: str
    n: int
    source: Source
    received_us: int
    prev_id: int | None


class Closing(NamedTuple):
    """A window that closed, to be published as its first version.

    Attributes:
        evidence: What could be said of its span when it closed.
        first_sequence: Where a replay must begin to fold it again; ``last_sequence`` its newest.
        is_tainted: One of its minutes awaits a correction, so this candle will need one too.
    """

    period: str
    open_time: int
    fold: Fold
    evidence: Evidence
    first_sequence: int
    last_sequence: int
    is_tainted: bool = False
