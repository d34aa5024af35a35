"""A running ingest role between simulated venues and a real bus, and what it put there."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator
from pathlib import Path

import msgspec

from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.config import ExchangeSettings, IngestSettings
from market_ingestor.connectors.account import Account
from market_ingestor.connectors.history import KnownIds
from market_ingestor.connectors.ingest import IngestRole, Slots
from market_ingestor.embedded import EmbeddedNats
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.trade import Mark, TradeBatch
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.truth import TruthLog
from tests.support.servers import NatsHandle

LIMITS = streams.StreamLimits(max_age_s=3_600, max_bytes=256 * 1024**2, duplicate_window_s=30)
# Backoff below what may be configured: a test that loses a connection waits for it.
SETTINGS = IngestSettings(mode="test", reorder_wait_ms=100).model_copy(
    update={"backoff_max_s": 0.4}
)
WAIT_S = 20.0  # far above what anything here takes; a test that waits longer has failed
POLL_S = 0.02

Key = tuple[str, str]


async def until(is_so: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    """Return when a condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(wait_s):
        while not is_so():  # noqa: ASYNC110 - conditions of other tasks' states have no event
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def connected(
    server: NatsHandle | EmbeddedNats, raw: streams.StreamLimits = LIMITS
) -> AsyncIterator[Bus]:
    """Connect and create the streams."""
    bus = await Bus.connect([server.url], name="test")
    configs = streams.market_streams(raw=raw, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1)
    await ensure_streams(bus, configs, update=True)
    try:
        yield bus
    finally:
        await bus.close()


class Ingest:
    """An `IngestRole` that runs."""

    def __init__(self, role: IngestRole, task: asyncio.Task[None]) -> None:
        self.role = role
        self._task = task

    def account(self, exchange: str) -> Account:
        """Return an exchange's loss account, having checked that it balances."""
        account = self.role.outbox.account(exchange)
        assert account.balances, vars(account)
        return account

    async def stop(self) -> None:
        """Stop as on SIGTERM and wait for the end."""
        self.role.stop()
        async with asyncio.timeout(WAIT_S):
            await self._task

    async def kill(self) -> None:
        """End without any drain."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def states(self) -> dict[str, int]:
        """Return how many gaps of all exchanges are in which state."""
        total: dict[str, int] = {}
        for fleet in self.role.fleets:
            for state, count in fleet.refiller.states.items():
                total[state] = total.get(state, 0) + count
        return total


def configured(*venues: SimulatedVenue) -> dict[str, ExchangeSettings]:
    """Return the settings that point at simulated venues, with all their symbols."""
    return {
        f"sim-{venue.name}": ExchangeSettings(
            symbols=tuple(venue.symbols), ws_url=venue.ws_url, rest_url=venue.rest_url
        )
        for venue in venues
    }


@contextlib.asynccontextmanager
async def ingesting(
    bus: Bus,
    exchanges: dict[str, ExchangeSettings],
    settings: IngestSettings = SETTINGS,
    known_ids: KnownIds | None = None,
    shard: Slots | None = None,
) -> AsyncIterator[Ingest]:
    """Run the role; stops it at the end if the test did not."""
    role = IngestRole(bus, exchanges, settings, known_ids=known_ids, shard=shard)
    task = asyncio.create_task(role.run())
    ingest = Ingest(role, task)
    try:
        await until(lambda: bool(role.fleets) or task.done())
        yield ingest
    except BaseException:
        print(ingest.states, {name: vars(a) for name, a in role.outbox.accounts.items()})  # noqa: T201 - shown for a failed test
        raise
    finally:
        if not task.done():
            await ingest.stop()


@contextlib.contextmanager
def truth(folder: Path) -> Iterator[tuple[TruthLog, Callable[[], dict[Key, set[int]]]]]:
    """Give a ground truth log, and a function that reads back what was sent or is in REST."""
    path = folder / "truth.jsonl"
    with TruthLog(path) as log:

        def read() -> dict[Key, set[int]]:
            log.flush()
            ids: dict[Key, set[int]] = {}
            for line in path.read_bytes().splitlines():
                trade = json.loads(line)
                ids.setdefault((trade["exchange"], trade["symbol"]), set()).add(int(trade["id"]))
            return ids

        yield log, read


class Raw(msgspec.Struct):
    """MARKET_RAW, read whole: batches and marks in stream order."""

    batches: list[TradeBatch[str]]
    marks: list[Mark]
    messages: list[TradeBatch[str] | Mark]

    def ids(self, key: Key) -> list[int]:
        """Return every id of an instrument, copies included."""
        return [
            int(trade.id)
            for batch in self.batches
            if (batch.exchange, batch.symbol) == key
            for trade in batch.trades
        ]

    @property
    def keys(self) -> set[Key]:
        """Return the instruments that traded."""
        return {(batch.exchange, batch.symbol) for batch in self.batches}

    def holes(self, key: Key) -> list[int]:
        """Return the ids between the lowest and the highest that no message accounts for."""
        known = set(self.ids(key))
        for batch in self.batches:
            if (batch.exchange, batch.symbol) == key and batch.source == "rest":
                known |= proved(batch)
        return [each for each in range(min(known), max(known)) if each not in known]


def proved(batch: TradeBatch[str]) -> set[int]:
    """Return the ids that a refill proves to be there or absent."""
    ids = [int(trade.id) for trade in batch.trades]
    first = int(batch.prev_id) if batch.prev_id is not None else ids[0]
    return set(range(first, ids[-1] + 1))


async def deliveries(bus: Bus, stream: str) -> list[Delivery]:
    """Return everything a stream holds now."""
    last = (await bus.stream_state(stream)).last_sequence
    read: list[Delivery] = []
    if not last:
        return read
    async with asyncio.timeout(WAIT_S), OrderedReader(bus, stream, start_sequence=1) as reader:
        while not read or read[-1].sequence < last:
            read += await reader.next(5)
    return read


async def stored(bus: Bus) -> Raw:
    """Return MARKET_RAW, whatever it holds."""
    raw = Raw([], [], [])
    for each in await deliveries(bus, subjects.RAW_STREAM):
        if subjects.parse_raw(each.subject).symbol is None:
            mark = codec.mark(each.subject, each.payload)
            raw.marks.append(mark)
            raw.messages.append(mark)
        else:
            batch = codec.text_batch(each.subject, each.payload)
            raw.batches.append(batch)
            raw.messages.append(batch)
    return raw


async def read_raw(bus: Bus, *, in_order: bool = True, has_prev_ids: bool | None = True) -> Raw:
    """Return MARKET_RAW, having checked the numbering of every feed.

    Args:
        in_order: The bus was well all the time; otherwise what was sent again came later.
        has_prev_ids: Whether the venues' ids are contiguous, so that batches name neighbours; None
            where that changes.
    """
    raw = await stored(bus)
    if in_order:
        check_marks(raw)
    else:
        raw.batches.sort(key=lambda batch: (batch.feed, batch.symbol, batch.n))
    check_chains(raw.batches, has_prev_ids=has_prev_ids)
    return raw


async def until_whole(
    bus: Bus, exchanges: Container[str] | None = None, wait_s: float = WAIT_S
) -> None:
    """Return when every instrument that traded, of these exchanges or all, has no hole left."""
    async with asyncio.timeout(wait_s):
        while True:
            raw = await stored(bus)
            keys = [key for key in raw.keys if exchanges is None or key[0] in exchanges]
            if not any(raw.holes(key) for key in keys):
                return
            await asyncio.sleep(POLL_S)


def check_chains(batches: Iterable[TradeBatch[str]], *, has_prev_ids: bool | None) -> None:
    """Check the numbering of every feed, and that each batch names what it follows."""
    before: dict[tuple[str, str], TradeBatch[str]] = {}
    for batch in batches:
        last = before.get((batch.feed, batch.symbol))
        assert batch.n == (last.n + 1 if last else 1)
        if batch.source == "ws":
            if has_prev_ids is not None:
                assert batch.prev_id == (last.trades[-1].id if last and has_prev_ids else None)
            ids = [trade.id for trade in batch.trades]
            assert len(ids) == len(set(ids))
        assert batch.simulated == is_simulated(batch.exchange)
        before[batch.feed, batch.symbol] = batch


def check_marks(raw: Raw) -> None:
    """Check that each mark tells what its feed has sent, and that nothing follows the last."""
    sent: dict[tuple[str, str], tuple[int, str | None]] = {}
    ended: set[str] = set()
    for message in raw.messages:
        assert message.feed not in ended, "a message behind the end mark"
        if isinstance(message, TradeBatch):
            sent[message.feed, message.symbol] = (message.n, message.trades[-1].id)
            continue
        for symbol, position in message.symbols.items():
            assert (position.n, position.id) == sent.get((message.feed, symbol), (0, None))
        if message.end:
            ended.add(message.feed)


def longest_silence_s(raw: Raw, feed: str) -> float:
    """Return the longest time between two marks of a feed, seconds."""
    times = [mark.received_us for mark in raw.marks if mark.feed == feed]
    return max((b - a for a, b in itertools.pairwise(times)), default=0) / 1e6


async def events(bus: Bus) -> list[MarketEvent]:
    """Return MARKET_EVENT."""
    read = await deliveries(bus, subjects.EVENT_STREAM)
    return [codec.event(each.subject, each.payload) for each in read]
