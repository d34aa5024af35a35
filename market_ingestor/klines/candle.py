"""Folds to candles and back, and what makes two versions of a candle the same. Pure."""

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from market_ingestor.klines.window import Fold
from market_ingestor.model import period as periods
from market_ingestor.model.decimals import canonical
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.kline import Kline, Reason
from market_ingestor.model.trade import WIRE_VERSION

IDENTITY_BYTES: Final = 16  # 128 bits: two contents of one window never meet by chance


def kline_of(
    fold: Fold,
    exchange: str,
    symbol: str,
    period: str,
    open_time: int,
    *,
    complete: bool,
    revision: int = 0,
    reason: Reason = "open",
) -> Kline:
    """Return a fold as a candle; revision 0 is an open one."""
    has_trades = fold.count > 0
    return Kline(
        v=WIRE_VERSION,
        exchange=exchange,
        symbol=symbol,
        period=period,
        open_time=open_time,
        close_time=periods.close_time(open_time, period),
        open=canonical(fold.open),
        high=canonical(fold.high),
        low=canonical(fold.low),
        close=canonical(fold.close),
        volume=canonical(fold.volume),
        quote_volume=canonical(fold.quote_volume),
        buy_volume=canonical(fold.buy_volume),
        buy_quote_volume=canonical(fold.buy_quote_volume),
        trade_count=fold.count,
        first_trade_id=str(fold.first_id) if has_trades else None,
        last_trade_id=str(fold.last_id) if has_trades else None,
        closed=revision > 0,
        complete=complete,
        revision=revision,
        reason=reason,
        simulated=is_simulated(exchange),
    )


def fold_of(kline: Kline) -> Fold:
    """Return the fold a candle was made from."""
    return Fold(
        first_id=int(kline.first_trade_id or 0),
        last_id=int(kline.last_trade_id or 0),
        open=Decimal(kline.open),
        high=Decimal(kline.high),
        low=Decimal(kline.low),
        close=Decimal(kline.close),
        volume=Decimal(kline.volume),
        quote_volume=Decimal(kline.quote_volume),
        buy_volume=Decimal(kline.buy_volume),
        buy_quote_volume=Decimal(kline.buy_quote_volume),
        count=kline.trade_count,
    )


def identity(kline: Kline) -> str:
    """Return the content identity of a version, 32 hexadecimal digits.

    It covers everything but revision, reason and the closed flag, so a candle made from trades
    and the same candle made from shorter ones have the same.
    """
    content = "|".join(
        (
            kline.exchange,
            kline.symbol,
            kline.period,
            str(kline.open_time),
            kline.open,
            kline.high,
            kline.low,
            kline.close,
            kline.volume,
            kline.quote_volume,
            kline.buy_volume,
            kline.buy_quote_volume,
            str(kline.trade_count),
            kline.first_trade_id or "",
            kline.last_trade_id or "",
            "complete" if kline.complete else "incomplete",
        )
    )
    return hashlib.blake2b(content.encode(), digest_size=IDENTITY_BYTES).hexdigest()


def emptied(kline: Kline | None) -> Fold | None:
    """Return what is left of a published candle without any trade: its opening price.

    No candle can be taken back, but one of no trades adds nothing to any sum.
    """
    return None if kline is None else Fold.flat(fold_of(kline).open)


def merged(klines: Iterable[Kline]) -> Fold | None:
    """Return the merge of candles of one symbol, ascending; None for none."""
    total: Fold | None = None
    for kline in klines:
        if total is None:
            total = fold_of(kline)
        else:
            total.absorb(fold_of(kline))
    return total
