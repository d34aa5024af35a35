"""Messages on the bus that mean nothing, or what cannot be."""

import contextlib
import json
from contextlib import AsyncExitStack
from typing import Any, Final

import nats.errors

from market_ingestor.bus import subjects
from tests.faults.kinds.fault import Fault
from tests.faults.venues import SYMBOLS
from tests.faults.world import World

LARGE_BYTES: Final = 300_000
ABSURD: Final[tuple[Any, ...]] = (
    "NaN",
    "Infinity",
    "-1",
    "0",
    "1e999",
    "9" * 100,
    "",
    "1\u00000",
    None,
    [],
    {},
)


class Poison(Fault, frozen=True, kw_only=True):
    """Garbage on every stream, under the names of instruments that trade at this moment."""

    @property
    def kind(self) -> str:
        return "poison on the bus"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({"nats"})

    async def begin(self, world: World) -> None:
        exchange, symbol = "sim-binance", SYMBOLS[0]
        raw = subjects.raw(exchange, symbol)
        told = [
            (raw, b""),
            (raw, b"\xff\xfe{"),
            (raw, b"[" * 10_000),
            (raw, b'{"v":1}'),
            (raw, b"x" * LARGE_BYTES),
            (subjects.mark(exchange), b'{"mark":'),
            (subjects.kline(exchange, symbol, "1m"), b"null"),
            (subjects.kline(exchange, symbol, "5m"), json.dumps(_batch(exchange, symbol)).encode()),
            (subjects.event(exchange, symbol), b'{"type":"gap_found"}'),
            ("market.raw.a.b.c.d", b"{}"),
            ("market.kline.x", b"{}"),
            ("market.live.sim-binance.BTCUSDT.1m", b"\x00"),
        ]
        told += [
            (raw, json.dumps(_batch(exchange, symbol, price=each)).encode()) for each in ABSURD
        ]
        told += [(raw, json.dumps(_batch(exchange, "OTHER")).encode())]
        async with AsyncExitStack() as stack:
            bus = await world.bus(stack)
            for subject, payload in told:
                with contextlib.suppress(nats.errors.Error):
                    await bus.client.publish(subject, payload)


def _batch(exchange: str, symbol: str, price: Any = "NaN") -> dict[str, Any]:
    """Return a batch that looks like one, with one absurd trade."""
    trade = {"id": "1", "price": price, "amount": "1", "side": "buy", "time_us": 1}
    return {
        "v": 1, "exchange": exchange, "symbol": symbol, "feed": "poison-1", "n": 1, "source": "ws",
        "received_us": 1, "prev_id": None, "trades": [trade],
    }  # fmt: skip
