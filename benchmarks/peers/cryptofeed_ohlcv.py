"""cryptofeed's OHLCV aggregation over trade batches, JSON decoding included."""

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import protocol
from cryptofeed.backends.aggregate import OHLCV
from cryptofeed.defines import BUY, SELL
from cryptofeed.types import Trade


async def on_candles(candles: object) -> None:
    """Take the candles of a window, as a user's callback does."""


class _Trade(msgspec.Struct, gc=False):
    id: str
    price: Decimal
    amount: Decimal
    side: str
    time_us: int


class _Batch(msgspec.Struct, gc=False):
    symbol: str
    trades: list[_Trade]


def main() -> None:
    """Serve rounds."""
    told: Any = protocol.data()
    payloads = [text.encode() for text in told["payloads"]]
    decode = msgspec.json.Decoder(_Batch).decode
    aggregate = OHLCV(on_candles, window=60)

    async def go() -> None:
        for payload in payloads:
            batch = decode(payload)
            for each in batch.trades:
                trade = Trade(
                    "BINANCE", batch.symbol, BUY if each.side == "buy" else SELL, each.amount,
                    each.price, each.time_us / 1e6, id=each.id,
                )  # fmt: skip
                await aggregate(trade, 0.0)

    protocol.serve(lambda: asyncio.run(go()))


if __name__ == "__main__":
    main()
