"""The candle processor and the saver as processes of their own, to be killed and started again."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import asyncpg

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import OrderedReader
from tests.integration.exact.tape import Candle, Key, Message, Row, candles
from tests.support.ports import free_ports
from tests.support.processes import command
from tests.support.services import Service

STALL_S: Final = 60.0  # without any change of the candles, on a slow machine
POLL_S: Final = 0.25
BURST: Final = 200  # messages published at a time

_TRADES = """
SELECT symbol, trade_id::bigint, (extract(epoch FROM time) * 1000000)::bigint,
    price, amount, side
FROM market_trades ORDER BY symbol, 2
"""
_KLINES = """
SELECT symbol, period, (extract(epoch FROM open_time) * 1000)::bigint,
    open, high, low, close, volume, quote_volume, buy_volume, buy_quote_volume,
    trade_count, first_trade_id, last_trade_id, revision, complete
FROM market_klines
"""
_REVISIONS = """
SELECT symbol, period, (extract(epoch FROM open_time) * 1000)::bigint,
    array_agg(revision ORDER BY revision)
FROM market_kline_revisions GROUP BY 1, 2, 3
"""
_COLUMNS: Final = 14  # of _KLINES: the key and the candle itself; the version comes behind


class Rig:
    """A bus and a database, the services between them, and what they must agree on."""

    def __init__(
        self, nats_url: str, dsn: str, folder: Path, bus: Bus, publisher: Publisher, more: str
    ) -> None:
        self.dsn = dsn
        self.bus = bus
        self._publisher = publisher
        self._folder = folder
        self.services: list[Service] = []
        self.config = folder / "config.toml"
        self.config.write_text(
            f'[nats]\nservers = ["{nats_url}"]\n[database]\ndsn = "{dsn}"\n'
            f"[save]\nflush_interval_s = 0.2\n{more}"
        )

    async def start(self, *roles: str) -> list[Service]:
        """Start roles and wait until they are ready."""
        started = [
            Service(role, self.config, port, self._folder, f"-{len(self.services) + number}")
            for number, (role, port) in enumerate(zip(roles, free_ports(len(roles)), strict=True))
        ]
        self.services += started
        for service in started:
            await service.start()
        for service in started:
            await service.ready()
        return started

    async def publish(self, messages: Iterable[Message]) -> int:
        """Publish in order, some at a time; return the newest sequence."""
        sequence = 0
        for burst in _bursts(messages):
            async with asyncio.timeout(30):
                acks = await asyncio.gather(
                    *(
                        self._publisher.publish(each.subject, each.payload, each.id)
                        for each in burst
                    )
                )
            sequence = max(ack.sequence for ack in acks)
        return sequence

    # -- what must hold at the end

    async def settled(self, rows: Iterable[Row]) -> dict[Key, int]:
        """Wait until candles are those of the trades; return the newest revision of each."""
        return await self.reached(candles(rows))

    async def reached(self, wanted: dict[Key, Candle]) -> dict[Key, int]:
        """Wait until candles are these; return the newest revision of each.

        Raises:
            AssertionError: They are not, and no longer change; it says what differs.
        """
        before: dict[Key, tuple[Candle, int, bool]] = {}
        deadline = time.monotonic() + STALL_S
        while True:
            found = await self.klines()
            if {key: row[0] for key, row in found.items()} == wanted:
                return {key: row[1] for key, row in found.items()}
            if found != before:
                before, deadline = found, time.monotonic() + STALL_S
            if time.monotonic() > deadline:
                raise AssertionError(self._difference(wanted, found))
            await asyncio.sleep(POLL_S)

    def _difference(
        self, wanted: dict[Key, Candle], found: dict[Key, tuple[Candle, int, bool]]
    ) -> str:
        missing = sorted(wanted.keys() - found.keys())
        extra = sorted(found.keys() - wanted.keys())
        other = sorted(key for key in wanted.keys() & found.keys() if wanted[key] != found[key][0])
        lines = [f"{len(wanted)} candles wanted, {len(found)} there"]
        lines += [f"{len(missing)} missing: {missing[:5]}", f"{len(extra)} extra: {extra[:5]}"]
        lines += [f"{len(other)} differ"]
        lines += [f"{key}: wanted {wanted[key]}, there {found[key]}" for key in other[:5]]
        lines += [each.command.output[-2000:] for each in self.services]
        return "\n".join(lines)

    async def klines(self) -> dict[Key, tuple[Candle, int, bool]]:
        rows = await self._fetch(_KLINES)
        return {
            (row[0], row[1], row[2]): (row[3:_COLUMNS], row[_COLUMNS], row[_COLUMNS + 1])
            for row in rows
        }

    async def check_rows(self, rows: Iterable[Row]) -> None:
        """No trade is missing, doubled or changed."""
        stored = await self._fetch(_TRADES)
        texts = sorted(
            (row[0], row[1], row[2], f"{row[3]:f}", f"{row[4]:f}", row[5]) for row in stored
        )
        assert texts == sorted(tuple(row) for row in rows)

    async def check_versions(self, newest: dict[Key, int]) -> int:
        """Versions of every window are 1..n, in the table and on the stream; return their sum."""
        stored = {(row[0], row[1], row[2]): row[3] for row in await self._fetch(_REVISIONS)}
        assert stored == {key: list(range(1, last + 1)) for key, last in newest.items()}
        streamed: dict[Key, list[int]] = {}
        async with OrderedReader(self.bus, subjects.KLINE_STREAM, start_sequence=1) as reader:
            last = (await self.bus.stream_state(subjects.KLINE_STREAM)).last_sequence
            while reader.next_sequence <= last:
                arrived = await reader.next(5)
                assert arrived
                for each in arrived:
                    kline = codec.kline(each.subject, each.payload)
                    key = (kline.symbol, kline.period, kline.open_time)
                    streamed.setdefault(key, []).append(kline.revision)
        assert streamed == stored
        return sum(newest.values())

    async def check_complete(self, rows: Iterable[Row]) -> None:
        """Whatever began before us is not whole; everything else is, once holes are filled."""
        first_ms = min(row.time_us for row in rows) // 1_000
        candles = await self.klines()
        wrong = {key for key, found in candles.items() if found[2] is not (key[2] > first_ms)}
        assert wrong == set()

    async def verify(self, *options: str) -> None:
        """Run the command that recomputes candles; it must find nothing."""
        arguments = ("verify", "--config", str(self.config), *options)
        async with command(*arguments, log=self._folder / "verify.log") as running:
            assert await running.ended(60) == 0, running.output

    async def check(self, rows: list[Row]) -> int:
        """Check everything there is to check; return how many versions there were."""
        newest = await self.settled(rows)
        await self.check_rows(rows)
        await self.verify()
        await self.verify("--account")
        return await self.check_versions(newest)

    async def _fetch(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return [tuple(row) for row in await connection.fetch(sql, timeout=30)]
        finally:
            await connection.close()


def _bursts(messages: Iterable[Message]) -> Iterator[list[Message]]:
    for _, group in groupby(enumerate(messages), key=lambda each: each[0] // BURST):
        yield [message for _, message in group]


@asynccontextmanager
async def rigged(nats_url: str, dsn: str, folder: Path, *, more: str = "") -> AsyncIterator[Rig]:
    """Give a rig, with ``more`` in its configuration; what it started is killed at the end."""
    bus = await Bus.connect([nats_url], name="test")
    publisher = Publisher(bus)
    task = asyncio.create_task(publisher.run())
    rig = Rig(nats_url, dsn, folder, bus, publisher, more)
    try:
        yield rig
    finally:
        for service in rig.services:
            await service.kill()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bus.close()
