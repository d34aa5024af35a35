"""Messages on the bus that mean nothing or cannot be, and a stream that takes no more."""

import abc
import contextlib
import json
from contextlib import AsyncExitStack
from typing import Any, Final

import nats.errors

from market_ingestor.bus import subjects
from market_ingestor.bus.control import STATE_KEY
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import NatsSettings
from tests.faults.kinds.fault import Fault
from tests.faults.venues import SYMBOLS
from tests.faults.world import World

LARGE_BYTES: Final = 300_000
BUCKETS: Final = (
    subjects.CONTROL_BUCKET,
    subjects.MEMBERS_BUCKET,
    subjects.STATE_BUCKET,
    subjects.INSTRUMENTS_BUCKET,
)
UNREADABLE: Final = (b"\xff\xfe{", b"null", b"[" * 10_000, b"{}", b'{"revision":"x"}')
ROOM: Final = 1.02  # of what the stream holds: ingest stops writing at 97 % of its size
ROOM_BYTES_MIN: Final = 500_000  # it looks once a second
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


class _BusFault(Fault, frozen=True, kw_only=True):
    """What goes wrong is done with a connection of the suite's own to the bus."""

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({"nats"})

    async def begin(self, world: World) -> None:
        async with AsyncExitStack() as stack:
            await self._hurt(await world.bus(stack))

    @abc.abstractmethod
    async def _hurt(self, bus: Bus) -> None:
        """Make it go wrong."""


class Poison(_BusFault, frozen=True, kw_only=True):
    """Garbage on every stream, under the names of instruments that trade at this moment."""

    @property
    def kind(self) -> str:
        return "poison on the bus"

    async def _hurt(self, bus: Bus) -> None:
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
        for subject, payload in told:
            with contextlib.suppress(nats.errors.Error):
                await bus.client.publish(subject, payload)


class BucketPoison(_BusFault, frozen=True, kw_only=True):
    """Garbage under every key of every bucket, and under keys that nobody knows."""

    @property
    def kind(self) -> str:
        return "poison in the buckets"

    async def _hurt(self, bus: Bus) -> None:
        for number, subject in enumerate([*await _entries(bus), *_foreign()]):
            await bus.put_fenced(subject, UNREADABLE[number % len(UNREADABLE)], None)

    async def end(self, world: World) -> None:
        """Empty what no process would write again by itself."""
        async with AsyncExitStack() as stack:
            bus = await world.bus(stack)
            for subject in _foreign():
                await bus.put_fenced(subject, b"", None)


async def _entries(bus: Bus) -> list[str]:
    """Return the subjects of what lies in the buckets now."""
    found: list[str] = []
    for bucket in BUCKETS:
        found += await bus.subjects_of(
            subjects.bucket_stream(bucket), subjects.bucket_subject(bucket, ">")
        )
    return found


def _foreign() -> list[str]:
    """Return the operator's wishes, and keys that mean nothing.

    None in the bucket of resume records: what an unknown partition would replay is kept.
    """
    nobodys = (subjects.MEMBERS_BUCKET, subjects.INSTRUMENTS_BUCKET, subjects.CONTROL_BUCKET)
    return [
        subjects.bucket_subject(subjects.CONTROL_BUCKET, STATE_KEY),
        *(subjects.bucket_subject(bucket, "nobody") for bucket in nobodys),
    ]


class RawFull(_BusFault, frozen=True, kw_only=True):
    """MARKET_RAW has room for next to nothing more, until it is given its old size back."""

    @property
    def kind(self) -> str:
        return "raw stream full"

    async def _hurt(self, bus: Bus) -> None:
        state = await bus.stream_state(subjects.RAW_STREAM)
        await _resize(bus, max(int(state.bytes * ROOM), state.bytes + ROOM_BYTES_MIN))

    async def end(self, world: World) -> None:
        async with AsyncExitStack() as stack:
            await _resize(await world.bus(stack), NatsSettings().raw_max_bytes)


async def _resize(bus: Bus, bytes_max: int) -> None:
    config = (await bus.api(f"STREAM.INFO.{subjects.RAW_STREAM}"))["config"]
    await bus.api(f"STREAM.UPDATE.{subjects.RAW_STREAM}", config | {"max_bytes": bytes_max})


def _batch(exchange: str, symbol: str, price: Any = "NaN") -> dict[str, Any]:
    """Return a batch that looks like one, with one absurd trade."""
    trade = {"id": "1", "price": price, "amount": "1", "side": "buy", "time_us": 1}
    return {
        "v": 1, "exchange": exchange, "symbol": symbol, "feed": "poison-1", "n": 1, "source": "ws",
        "received_us": 1, "prev_id": None, "trades": [trade],
    }  # fmt: skip
