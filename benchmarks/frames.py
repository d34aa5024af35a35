"""Frames of every venue, made by its simulator, and the same trades as cryptofeed knows them.

cryptofeed speaks Binance's aggregates, Kraken's first WebSocket version and Coinbase's Advanced
Trade: its frames are the same trades written in those formats.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

from market_ingestor.simulator import markets as simulated
from market_ingestor.simulator.binance import BinanceFront
from market_ingestor.simulator.bybit import BybitFront
from market_ingestor.simulator.coinbase import CoinbaseFront
from market_ingestor.simulator.kraken import KrakenFront
from market_ingestor.simulator.markets import Market
from market_ingestor.simulator.okx import OkxFront
from market_ingestor.simulator.protocol import Front
from market_ingestor.simulator.tape import Fill, Tape
from market_ingestor.simulator.world import World

START_US: Final = 1_795_132_800_000_000
TRADES_PER_READ: Final = 4  # what venues that gather put into a frame

_FRONTS: Final[dict[str, tuple[Callable[[World], Front], str]]] = {
    "binance": (BinanceFront, "trade|combined|ms"),
    "okx": (OkxFront, "trades-all"),
    "bybit": (BybitFront, ""),
    "coinbase": (CoinbaseFront, ""),
    "kraken": (KrakenFront, ""),
}
VENUES: Final = tuple(_FRONTS)


class Recording(NamedTuple):
    """Frames of one venue.

    Attributes:
        frames: As the venue sends them.
        peer_frames: The same trades in the formats cryptofeed reads.
        peer_symbols: cryptofeed's names and the venue's.
        trades: How many trades they hold.
    """

    frames: list[bytes]
    peer_frames: list[str]
    peer_symbols: dict[str, str]
    trades: int


def record(venue: str, trades: int) -> Recording:
    """Return the frames of so many trades of a venue's usual symbols."""
    make_front, variant = _FRONTS[venue]
    world = World(simulated.build(venue, simulated.default_symbols(venue)))
    front = make_front(world)
    tape = Tape(
        world.markets,
        seed="bench",
        time_step_us=front.time_step_us,
        first_ids=[front.first_id(each.index, START_US // 10**6) for each in world.markets],
    )
    fills = tape.take(trades, START_US, START_US + trades * 1_000)
    edges = [*range(0, trades, TRADES_PER_READ), trades]
    frames = [
        payload
        for begin, end in pairwise(edges)
        for _, payload, _ in front.encode(variant, fills[begin:end], START_US)
    ]
    as_peer = _PEERS.get(venue)
    return Recording(
        frames=frames,
        peer_frames=[frame.decode() for frame in frames]
        if as_peer is None
        else [json.dumps(as_peer(world.markets[fill.market], fill)) for fill in fills],
        peer_symbols={
            f"{market.base}-{market.quote}": _peer_name(venue, market) for market in world.markets
        },
        trades=trades,
    )


def _peer_name(venue: str, market: Market) -> str:
    """Return what cryptofeed calls a market within a venue's module."""
    return f"{market.base}/{market.quote}" if venue == "bybit" else market.native


def _binance(market: Market, fill: Fill) -> Any:
    native = market.native
    return {
        "stream": f"{native.lower()}@aggTrade",
        "data": {
            "e": "aggTrade", "E": fill.time_us // 1_000, "s": native, "a": fill.id,
            "p": market.price_text(fill.price), "q": market.amount_text(fill.amount),
            "f": fill.id, "l": fill.id, "T": fill.time_us // 1_000,
            "m": not fill.is_buy, "M": True,
        },
    }  # fmt: skip


def _coinbase(market: Market, fill: Fill) -> Any:
    trade = {
        "trade_id": str(fill.id),
        "product_id": market.native,
        "price": market.price_text(fill.price),
        "size": market.amount_text(fill.amount),
        "side": "BUY" if fill.is_buy else "SELL",
        "time": datetime.fromtimestamp(fill.time_us / 1e6, UTC).isoformat().replace("+00:00", "Z"),
    }
    return {"channel": "market_trades", "events": [{"type": "update", "trades": [trade]}]}


def _kraken(market: Market, fill: Fill) -> Any:
    row = [
        market.price_text(fill.price), market.amount_text(fill.amount),
        f"{fill.time_us / 1e6:.6f}", "b" if fill.is_buy else "s", "l", "",
    ]  # fmt: skip
    return [1, [row], "trade", market.native]


_PEERS: Final[dict[str, Callable[[Market, Fill], Any]]] = {
    "binance": _binance,
    "coinbase": _coinbase,
    "kraken": _kraken,
}
