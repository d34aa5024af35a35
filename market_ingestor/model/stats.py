"""Rolling statistics of a symbol as the bus, REST and the push protocol carry them.

Wire format: contract, section 1. Prices and amounts are plain decimal text; averages have 20
significant digits, rounded half-even. None stands where there is not enough data yet.
"""

import msgspec

from market_ingestor.model.trade import Side


class WindowStats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The trades of the last seconds or minutes.

    Attributes:
        average: Mean of the trade prices; None without a trade, like ``high`` and ``low``.
        vwap: Volume-weighted mean; None without volume.
    """

    average: str | None
    vwap: str | None
    high: str | None
    low: str | None
    volume: str
    trade_count: int


class TickVwap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Volume-weighted mean price of the last ``n`` trades; None until there were as many."""

    n: int
    value: str | None


class MovingAverages(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Means of the last closes of closed candles, by how many closes; None until there are."""

    period: str
    values: dict[str, str | None]


class Volatility(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Sample standard deviation of the log returns between the last ``n`` closes.

    A float, not annualised; None until there are ``n`` closes.
    """

    period: str
    n: int
    value: float | None


class DayStats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last 24 hours, in steps of a minute.

    Attributes:
        open: First price of the oldest minute known.
        change: Newest price less ``open``; ``change_percent`` in hundredths of ``open``.
    """

    open: str | None
    high: str | None
    low: str | None
    volume: str
    quote_volume: str
    change: str | None
    change_percent: str | None
    trade_count: int


class Stats(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Rolling statistics of one symbol.

    Attributes:
        time_us: The instant they hold for: time of the newest trade, plus what the feeds have
            shown to have passed since. UTC microseconds.
        resolution_ms: Steps in which windows slide; a window is shorter than its name by less
            than one step.
        last_price: Of the trade with the greatest (time, id), like ``last_amount`` and
            ``last_side``.
        windows: By length: ``5s``, ``1m``, ``5m``.
    """

    v: int
    exchange: str
    symbol: str
    time_us: int
    resolution_ms: int
    last_price: str
    last_amount: str
    last_side: Side | None
    windows: dict[str, WindowStats]
    vwap_ticks: TickVwap
    sma: MovingAverages
    volatility: Volatility
    day: DayStats
    simulated: bool = False
