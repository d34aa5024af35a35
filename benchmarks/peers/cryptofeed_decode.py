"""cryptofeed's message handler over frames of one venue, each with its callback."""

import asyncio
import types
from typing import Any

import protocol
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import OKX, Binance, Bybit, Coinbase, Kraken
from cryptofeed.symbols import Symbols

FEEDS = {
    "binance": Binance,
    "okx": OKX,
    "bybit": Bybit,
    "coinbase": Coinbase,
    "kraken": Kraken,
}


async def on_trade(trade: object, received: float) -> None:
    """Take a trade, as a user's callback does."""


def feed(venue: str, symbols: dict[str, str]) -> Any:
    """Return a feed that knows these symbols and asks nobody."""
    kind = FEEDS[venue]
    Symbols.set(
        kind.id, symbols, {"instrument_type": dict.fromkeys(symbols, "spot"), "tick_size": {}}
    )
    return kind(symbols=list(symbols), channels=[TRADES], callbacks={TRADES: on_trade})


def main() -> None:
    """Serve rounds."""
    told = protocol.data()
    handler = feed(told["venue"], told["symbols"]).message_handler
    connection = types.SimpleNamespace(address="wss://venue/v5/public/spot", uuid="bench")
    frames = told["frames"]

    async def go() -> None:
        for frame in frames:
            await handler(frame, connection, 0.0)

    protocol.serve(lambda: asyncio.run(go()))


if __name__ == "__main__":
    main()
