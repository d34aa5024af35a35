"""A candle as the bus and the push protocol carry it (contract, section 1)."""

from typing import Literal, TypeAlias

import msgspec

Reason: TypeAlias = Literal["open", "close", "late", "gap", "repair", "recompute"]


class Kline(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """OHLCV of one window ``[open_time, close_time + 1 ms)``; numbers are plain decimal text.

    Attributes:
        open_time: First millisecond of the window; with exchange, symbol and period its key.
        close_time: Last millisecond of the window.
        open: Price of the first trade by venue id; ``close`` of the last.
        volume: Sum of amounts in base units; ``buy_volume`` those with a buying taker.
        quote_volume: Sum of price times amount, exact; ``buy_quote_volume`` likewise.
        trade_count: Trades folded in; 0 only in a flat candle.
        first_trade_id: None only in a flat candle, like ``last_trade_id``.
        closed: False for an open candle, which has revision 0 and reason ``open``.
        complete: Nothing was known to be missing when this version was made.
        revision: 1 for the first closed version, then one more each, along the stream.
        reason: Why this version exists.
    """

    v: int
    exchange: str
    symbol: str
    period: str
    open_time: int
    close_time: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    buy_volume: str
    buy_quote_volume: str
    trade_count: int
    first_trade_id: str | None
    last_trade_id: str | None
    closed: bool
    complete: bool
    revision: int
    reason: Reason
    simulated: bool = False
