"""Where pages of the lists end, as text. Pure.

Every text that fits a pattern is a place, so a cursor is either refused at once or good.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from market_ingestor.api.params import EPOCH, CursorKind, encode_cursor
from market_ingestor.model.period import MINUTE_MS
from market_ingestor.model.stored import GapKey, TradeKey

_MILLISECONDS: Final = "[0-9]{1,14}"  # up to the year 5138
_MICROSECONDS: Final = "[0-9]{1,17}"
_EXCHANGE: Final = "[a-z0-9-]{1,24}"
_GAP_ID: Final = "[0-9A-Za-z_-]{0,64}"
_MICROSECOND: Final = timedelta(microseconds=1)


class KlineCursor(NamedTuple):
    """The opening time a page of candles ended with, and which way it went."""

    open_time: int
    newest_first: bool


def _kline(parts: Sequence[str]) -> KlineCursor:
    way, opened = parts
    return KlineCursor(int(opened), way == "down")


def _trade(parts: Sequence[str]) -> TradeKey:
    time_us, trade_id, exchange = parts
    return TradeKey(int(time_us), trade_id, exchange)


def _gap(parts: Sequence[str]) -> GapKey:
    detected_us, *names = parts
    return GapKey(EPOCH + int(detected_us) * _MICROSECOND, *names)


KLINES: Final = CursorKind(pattern=f"^(up|down)~{_MILLISECONDS}$", read=_kline)
TRADES: Final = CursorKind(pattern=f"^{_MICROSECONDS}~[0-9]{{1,19}}~{_EXCHANGE}$", read=_trade)
GAPS: Final = CursorKind(
    pattern=f"^{_MICROSECONDS}~{_EXCHANGE}~[A-Z0-9_]{{1,64}}~{_GAP_ID}~{_GAP_ID}$",
    read=_gap,
)
STRETCHES: Final = CursorKind(
    pattern=f"^{_MILLISECONDS}$", read=lambda parts: int(parts[0]) // MINUTE_MS * MINUTE_MS
)


def kline_cursor(opened: int, *, newest_first: bool) -> str:
    """Return the cursor behind a candle."""
    return encode_cursor("down" if newest_first else "up", opened)


def trade_cursor(key: TradeKey) -> str:
    """Return the cursor behind a trade."""
    return encode_cursor(*key)


def gap_cursor(key: GapKey) -> str:
    """Return the cursor behind a hole."""
    detected_us = (key.detected_at - EPOCH) // _MICROSECOND
    return encode_cursor(detected_us, *key[1:])
