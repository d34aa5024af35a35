"""Recorded market data, and candles made from it by other means than the service's."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
BINANCE_FRAMES = DATA / "binance-btcusdt-trade-frames-20230405.txt.gz"

needs_binance_frames = pytest.mark.skipif(
    not BINANCE_FRAMES.exists(), reason=f"{BINANCE_FRAMES.name} is not beside the project"
)


class RecordedTrade(NamedTuple):
    id: int
    price: Decimal
    amount: Decimal
    side: str
    time_ms: int


def binance_trades() -> list[RecordedTrade]:
    """Return the trades of the recorded Binance frames in the order of the file."""
    trades = []
    with gzip.open(BINANCE_FRAMES, "rt") as lines:
        for line in lines:
            frame: dict[str, Any] = json.loads(line.partition(" ")[2])
            data = frame["data"]
            trades.append(
                RecordedTrade(
                    data["t"],
                    Decimal(data["p"]),
                    Decimal(data["q"]),
                    "sell" if data["m"] else "buy",
                    data["T"],
                )
            )
    return trades


def candles(trades: list[RecordedTrade], minutes: int) -> dict[int, dict[str, Any]]:
    """Return candles by opening time, folded the plain way from all trades at once."""
    length = minutes * 60_000
    windows: dict[int, list[RecordedTrade]] = {}
    for trade in sorted(trades):
        windows.setdefault(trade.time_ms - trade.time_ms % length, []).append(trade)
    return {
        opened: {
            "open": inside[0].price,
            "high": max(trade.price for trade in inside),
            "low": min(trade.price for trade in inside),
            "close": inside[-1].price,
            "volume": sum(trade.amount for trade in inside),
            "quote_volume": sum(trade.price * trade.amount for trade in inside),
            "buy_volume": sum(trade.amount for trade in inside if trade.side == "buy"),
            "buy_quote_volume": sum(
                trade.price * trade.amount for trade in inside if trade.side == "buy"
            ),
            "trade_count": len(inside),
            "first_trade_id": str(inside[0].id),
            "last_trade_id": str(inside[-1].id),
        }
        for opened, inside in windows.items()
    }
