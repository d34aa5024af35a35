"""Decode: a venue's trade frames to checked trades.

The floor parses the same frames into typed structs with Decimals and does nothing else; the peer
is cryptofeed's handler up to the user's callback.
"""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.frames import VENUES, Recording, record
from benchmarks.race import peer, race, timed
from market_ingestor.connectors.registry import VENUES as CONNECTORS
from market_ingestor.connectors.venue import Trades

TRADES: Final = 20_000
GOALS: Final = {"floor": 0.6, "cryptofeed": 2.5}


class _BinanceData(msgspec.Struct, gc=False):
    s: str
    t: int
    p: Decimal
    q: Decimal
    T: int
    m: bool


class _Binance(msgspec.Struct, gc=False):
    data: _BinanceData


class _OkxTrade(msgspec.Struct, gc=False):
    instId: str  # noqa: N815 - the venue's own words, here and below
    tradeId: str  # noqa: N815 - as said
    px: Decimal
    sz: Decimal
    side: str
    ts: str


class _Okx(msgspec.Struct, gc=False):
    data: list[_OkxTrade]


class _BybitTrade(msgspec.Struct, gc=False):
    T: int
    s: str
    S: str
    v: Decimal
    p: Decimal
    i: str


class _Bybit(msgspec.Struct, gc=False):
    topic: str
    data: list[_BybitTrade]


class _Coinbase(msgspec.Struct, gc=False):
    type: str
    trade_id: int
    side: str
    size: Decimal
    price: Decimal
    product_id: str
    time: datetime


class _KrakenTrade(msgspec.Struct, gc=False):
    symbol: str
    side: str
    price: Decimal
    qty: Decimal
    trade_id: int
    timestamp: datetime


class _Kraken(msgspec.Struct, gc=False):
    channel: str
    data: list[_KrakenTrade]


FLOORS: Final[dict[str, type[msgspec.Struct]]] = {
    "binance": _Binance,
    "okx": _Okx,
    "bybit": _Bybit,
    "coinbase": _Coinbase,
    "kraken": _Kraken,
}


def trades_in(venue: str, recording: Recording) -> int:
    """Return how many trades our decoder finds."""
    decode = CONNECTORS[venue].decode
    events = [event for frame in recording.frames for event in decode(frame)]
    found = [event for event in events if isinstance(event, Trades)]
    assert len(found) == len(events)
    return sum(len(event.trades) for event in found)


@pytest.mark.parametrize("venue", VENUES)
def test_decode(benchmark: BenchmarkFixture, tmp_path: Path, venue: str) -> None:
    recording = record(venue, TRADES)
    assert trades_in(venue, recording) == TRADES
    decode, bare = CONNECTORS[venue].decode, msgspec.json.Decoder(FLOORS[venue]).decode
    frames = recording.frames

    def ours() -> None:
        for frame in frames:
            decode(frame)

    def floor() -> None:
        for frame in frames:
            bare(frame)

    told = {
        "venue": venue,
        "symbols": recording.peer_symbols,
        "frames": recording.peer_frames,
    }
    with peer("cryptofeed_decode", told, tmp_path) as cryptofeed:
        race(
            benchmark,
            stage=f"decode {venue}",
            work=TRADES,
            ours=ours,
            floor=timed(floor),
            peers={"cryptofeed": cryptofeed},
            goals=GOALS,
        )
