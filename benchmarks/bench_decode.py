"""Decode: a venue's trade frame to checked trades, against a bare typed decode of the same frame.

The floor parses the frame into a struct with Decimals and does nothing else.
"""

from decimal import Decimal

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from market_ingestor.connectors.binance import Binance
from market_ingestor.connectors.venue import Trades

FRAME = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1795132800127,"s":"BTCUSDT",'
    b'"t":5400123456,"p":"91234.56000000","q":"0.00150000","T":1795132800125,"m":true,"M":true}}'
)
FRAMES = 1_000


class _Data(msgspec.Struct, gc=False):
    t: int
    p: Decimal
    q: Decimal
    T: int
    m: bool


class _Frame(msgspec.Struct, gc=False):
    data: _Data


@pytest.mark.benchmark(group="decode")
def test_decode_floor(benchmark: BenchmarkFixture) -> None:
    decode = msgspec.json.Decoder(_Frame).decode

    def run() -> None:
        for _ in range(FRAMES):
            decode(FRAME)

    benchmark(run)


@pytest.mark.benchmark(group="decode")
def test_decode_binance(benchmark: BenchmarkFixture) -> None:
    decode = Binance().decode

    def run() -> None:
        for _ in range(FRAMES):
            decode(FRAME)

    benchmark(run)
    (event,) = decode(FRAME)
    assert isinstance(event, Trades)
    assert event.trades[0].price == "91234.56000000"
