"""Flat candles for windows without trades. Pure."""

from collections.abc import Iterable

from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS, close_time
from market_ingestor.model.trade import WIRE_VERSION


def filled(
    klines: Iterable[Kline], before: Kline | None, behind: Kline | None, start: int, end: int
) -> list[Kline]:
    """Return candles of ``[start, end)`` with a flat one in every window that has none.

    A flat candle is complete where the ids of the candles around it leave no trade between
    them; it was never published, so its revision is 0.

    Args:
        klines: Oldest first.
        before: The newest candle before ``start``; without one, windows up to the first candle
            stay away.
        behind: The oldest candle from ``end`` on.
    """
    found: list[Kline] = []
    known = before
    for each in [*klines, behind]:
        if known is not None:
            length = PERIOD_MS[known.period]
            until = end if each is None else min(each.open_time, end)
            first = max(known.open_time + length, start)
            is_complete = each is not None and _are_neighbours(known, each)
            found += [
                _flat(known, opened, is_complete=is_complete)
                for opened in range(first, until, length)
            ]
        if each is not None:
            known = each
            if start <= each.open_time < end:
                found.append(each)
    return found


def _are_neighbours(before: Kline, behind: Kline) -> bool:
    if before.last_trade_id is None or behind.first_trade_id is None:
        return False
    return int(before.last_trade_id) + 1 == int(behind.first_trade_id)


def _flat(previous: Kline, opened: int, *, is_complete: bool) -> Kline:
    return Kline(
        v=WIRE_VERSION,
        exchange=previous.exchange,
        symbol=previous.symbol,
        period=previous.period,
        open_time=opened,
        close_time=close_time(opened, previous.period),
        open=previous.close,
        high=previous.close,
        low=previous.close,
        close=previous.close,
        volume="0",
        quote_volume="0",
        buy_volume="0",
        buy_quote_volume="0",
        trade_count=0,
        first_trade_id=None,
        last_trade_id=None,
        closed=True,
        complete=is_complete,
        revision=0,
        reason="close",
        simulated=is_simulated(previous.exchange),
    )
