"""The events of Binance streams, made from candles, trades and statistics of any exchange. Pure.

Fields: https://github.com/binance/binance-spot-api-docs, web-socket-streams.md. What we do not
record (an order book, the trade before the day) is null. Events of simulated exchanges carry
``"simulated":true``, which clients pass over.
"""

from decimal import Decimal
from typing import Any, Final

from market_ingestor.model.decimals import average, rounded
from market_ingestor.model.kline import Kline
from market_ingestor.model.stats import Stats
from market_ingestor.model.trade import TextTrade, TradeBatch

_MS: Final = 1_000  # microseconds
_DAY_US: Final = 24 * 3_600 * 1_000_000
_PERCENT: Final = Decimal("0.001")  # the digits Binance gives
_NO_ID: Final = -1  # of candles without trades, as Binance has it


def _time(time_us: int, *, is_micro: bool) -> int:
    return time_us if is_micro else time_us // _MS


def _marked(event: dict[str, Any], *, is_simulated: bool) -> dict[str, Any]:
    return event | {"simulated": True} if is_simulated else event


def kline_event(kline: Kline, event_us: int, *, is_micro: bool) -> dict[str, Any]:
    """Return the event of a candle, open or closed."""
    end_us = (kline.close_time + 1) * _MS - 1  # the last instant of the window in either unit
    candle = {
        "t": _time(kline.open_time * _MS, is_micro=is_micro),
        "T": _time(end_us, is_micro=is_micro),
        "s": kline.symbol,
        "i": kline.period,
        "f": int(kline.first_trade_id) if kline.first_trade_id is not None else _NO_ID,
        "L": int(kline.last_trade_id) if kline.last_trade_id is not None else _NO_ID,
        "o": kline.open,
        "c": kline.close,
        "h": kline.high,
        "l": kline.low,
        "v": kline.volume,
        "n": kline.trade_count,
        "x": kline.closed,
        "q": kline.quote_volume,
        "V": kline.buy_volume,
        "Q": kline.buy_quote_volume,
        "B": "0",
    }
    event = {
        "e": "kline",
        "E": _time(event_us, is_micro=is_micro),
        "s": kline.symbol,
        "k": candle,
    }
    return _marked(event, is_simulated=kline.simulated)


def trade_event(batch: TradeBatch[str], trade: TextTrade, *, is_micro: bool) -> dict[str, Any]:
    """Return the event of one trade; ``m`` is null where the venue tells no side."""
    event = {
        "e": "trade",
        "E": _time(batch.received_us, is_micro=is_micro),
        "s": batch.symbol,
        "t": int(trade.id),
        "p": trade.price,
        "q": trade.amount,
        "T": _time(trade.time_us, is_micro=is_micro),
        "m": _is_buyer_maker(trade),
        "M": True,
    }
    return _marked(event, is_simulated=batch.simulated)


def aggregate_trade_event(
    batch: TradeBatch[str], trade: TextTrade, *, is_micro: bool
) -> dict[str, Any]:
    """Return the event of one trade as an aggregate of its own."""
    event = {
        "e": "aggTrade",
        "E": _time(batch.received_us, is_micro=is_micro),
        "s": batch.symbol,
        "a": int(trade.id),
        "p": trade.price,
        "q": trade.amount,
        "f": int(trade.id),
        "l": int(trade.id),
        "T": _time(trade.time_us, is_micro=is_micro),
        "m": _is_buyer_maker(trade),
        "M": True,
    }
    return _marked(event, is_simulated=batch.simulated)


def _is_buyer_maker(trade: TextTrade) -> bool | None:
    return trade.side == "sell" if trade.side is not None else None


def mini_ticker_event(stats: Stats, *, is_micro: bool) -> dict[str, Any]:
    """Return the short event of the last 24 hours."""
    day = stats.day
    event = {
        "e": "24hrMiniTicker",
        "E": _time(stats.time_us, is_micro=is_micro),
        "s": stats.symbol,
        "c": stats.last_price,
        "o": day.open,
        "h": day.high,
        "l": day.low,
        "v": day.volume,
        "q": day.quote_volume,
    }
    return _marked(event, is_simulated=stats.simulated)


def ticker_event(stats: Stats, *, is_micro: bool) -> dict[str, Any]:
    """Return the long event of the last 24 hours."""
    day = stats.day
    event = {
        "e": "24hrTicker",
        "E": _time(stats.time_us, is_micro=is_micro),
        "s": stats.symbol,
        "p": day.change,
        "P": None if day.change_percent is None else rounded(Decimal(day.change_percent), _PERCENT),
        "w": average(Decimal(day.quote_volume), Decimal(day.volume)),
        "x": None,
        "c": stats.last_price,
        "Q": stats.last_amount,
        "b": None,
        "B": None,
        "a": None,
        "A": None,
        "o": day.open,
        "h": day.high,
        "l": day.low,
        "v": day.volume,
        "q": day.quote_volume,
        "O": _time(stats.time_us - _DAY_US, is_micro=is_micro),
        "C": _time(stats.time_us, is_micro=is_micro),
        "F": None,
        "L": None,
        "n": day.trade_count,
    }
    return _marked(event, is_simulated=stats.simulated)
