"""Flat candles between candles, watched or not: a list without holes. Pure."""

from collections.abc import Iterable

from market_ingestor.api.quiet import continues, flat
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS


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
            is_complete = each is not None and continues(known, each)
            found += [
                flat(known, opened, is_complete=is_complete)
                for opened in range(first, until, length)
            ]
        if each is not None:
            known = each
            if start <= each.open_time < end:
                found.append(each)
    return found
