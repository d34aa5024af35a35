"""Balances MARKET_RAW against the tables: every trade is a row or a dead letter. SHELL.

The proof of invariant 8 from durable facts alone: whatever died in between, what JetStream
accepted and the savers acknowledged is stored or lies among the dead letters.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Final, TypeAlias

import msgspec

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.errors import BusError, DecodeError
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import probe_bounds
from market_ingestor.storage.timescale import Database

DAY_US: Final = 86_400_000_000  # how the table is split
CHUNK_TRADES: Final = 20_000  # looked up in one query; bounds what is held at a time
WAIT_S: Final = 10.0  # for the next message of a stream that is known to have one
MISSING_MAX: Final = 100  # listed; the rest is only counted

TradeName: TypeAlias = tuple[str, str, str]  # exchange, symbol, id


class AccountReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How the stream and the tables compare.

    Attributes:
        first_sequence: The range of MARKET_RAW that was read, both ends included.
        last_sequence: Where the savers had acknowledged everything when it began.
        messages: Messages in it that are trade batches.
        undecodable: Messages in it that are nothing we know.
        trades: Trades in them, repetitions near each other counted once.
        dead: Of those, trades found among the dead letters and not in the table.
        missing: Trades that are in neither.
        examples: The first of the missing.
    """

    first_sequence: int
    last_sequence: int
    messages: int
    undecodable: int
    trades: int
    dead: int
    missing: int
    examples: tuple[TradeName, ...]

    @property
    def is_balanced(self) -> bool:
        """Return whether nothing is missing."""
        return self.missing == 0


class _Ledger:
    """Trades of the stream on their way to being looked up."""

    def __init__(self, database: Database, dead: frozenset[TradeName]) -> None:
        self._database = database
        self._dead_trades = dead
        self._chunk: dict[TradeName, int] = {}
        self.messages = self.undecodable = self.trades = self.dead = self.missing = 0
        self.examples: list[TradeName] = []

    async def take(self, message: Delivery) -> None:
        """Add the trades of a message."""
        if message.subject.endswith(f".{subjects.MARK_TOKEN}"):
            return
        try:
            found = codec.text_batch(message.subject, message.payload)
        except DecodeError:
            self.undecodable += 1
            return
        self.messages += 1
        for each in found.trades:
            self._chunk.setdefault((found.exchange, found.symbol, each.id), each.time_us)
        if len(self._chunk) >= CHUNK_TRADES:
            await self.settle()

    async def settle(self) -> None:
        """Look up what was taken since the last time."""
        chunk, self._chunk = self._chunk, {}
        self.trades += len(chunk)
        for name in await absent(self._database, chunk):
            if name in self._dead_trades:
                self.dead += 1
                continue
            self.missing += 1
            if len(self.examples) < MISSING_MAX:
                self.examples.append(name)


async def absent(database: Database, trades: Mapping[TradeName, int]) -> list[TradeName]:
    """Return which trades have no row within an hour of their time, microseconds."""
    by_day: defaultdict[int, dict[TradeName, int]] = defaultdict(dict)
    for name, time_us in trades.items():
        by_day[time_us // DAY_US][name] = time_us
    missing: list[TradeName] = []
    for chosen in by_day.values():
        missing += await _absent(database, chosen)
    return missing


async def _absent(database: Database, trades: Mapping[TradeName, int]) -> list[TradeName]:
    """Look trades of one day up: they lie in three parts of the table at most."""
    exchanges, instruments, ids = zip(*trades, strict=True)
    times = list(trades.values())
    rows = await database.fetch(
        QUERIES["stored_ids"],
        list(exchanges),
        list(instruments),
        list(ids),
        times,
        *probe_bounds(times),
    )
    return [(row["exchange"], row["symbol"], row["trade_id"]) for row in rows]


async def account(bus: Bus, database: Database) -> AccountReport:
    """Compare MARKET_RAW, up to where the savers have acknowledged it, with the tables.

    What retention has dropped since counts as missing.

    Raises:
        StoreUnavailableError: The database cannot answer.
        BusError, TimeoutError: The stream cannot be read.
    """
    state = await bus.stream_state(subjects.RAW_STREAM)
    saved = await bus.consumer_state(subjects.RAW_STREAM, subjects.SAVE_DURABLE)
    last = 0 if saved is None else min(saved.ack_floor, state.last_sequence)
    first = max(state.first_sequence, 1)
    ledger = _Ledger(database, frozenset(await _dead_trades(bus)))
    if state.messages and first <= last:
        async with OrderedReader(bus, subjects.RAW_STREAM, start_sequence=first) as reader:
            async for message in _until(reader, last):
                await ledger.take(message)
    await ledger.settle()
    return AccountReport(
        first_sequence=first,
        last_sequence=last,
        messages=ledger.messages,
        undecodable=ledger.undecodable,
        trades=ledger.trades,
        dead=ledger.dead,
        missing=ledger.missing,
        examples=tuple(ledger.examples),
    )


async def _until(reader: OrderedReader, last: int) -> AsyncIterator[Delivery]:
    """Give the messages of a stream up to a sequence that is known to be there or purged."""
    while reader.next_sequence <= last or reader.pending:
        arrived = await reader.next(WAIT_S)
        if not arrived:
            raise BusError(f"no message came within {WAIT_S:g} s")
        for each in arrived:
            if each.sequence > last:
                return
            yield each
        if arrived[-1].sequence >= last:
            return


async def _dead_trades(bus: Bus) -> set[TradeName]:
    """Return the trades among the savers' dead letters."""
    subject = subjects.dead("save")
    newest = await bus.last_message(subjects.DEAD_STREAM, subject)
    found: set[TradeName] = set()
    if newest is None:
        return found
    async with OrderedReader(
        bus, subjects.DEAD_STREAM, start_sequence=1, filter_subject=subject
    ) as reader:
        async for message in _until(reader, newest.sequence):
            try:
                batch = codec.text_batch(message.subject, message.payload)
            except DecodeError:
                continue  # a whole message that was none, or one cut short
            found |= {(batch.exchange, batch.symbol, each.id) for each in batch.trades}
    return found
