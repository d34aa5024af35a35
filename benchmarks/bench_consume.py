"""Consume: messages of MARKET_RAW from JetStream into open windows, as the processor reads them.

The floor decodes and folds the same messages from a bare ordered subscription of nats-py, with
the same fold: what is measured is the reader.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.batches import Message, batches
from benchmarks.bench_fold import RULES
from benchmarks.bus import loop_thread, market_bus, on_loop, publish, timed_on
from benchmarks.race import race
from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.klines.intake import Intake
from tests.support.servers import NatsHandle

SHAPES: Final = {85: 100, 17: 1_000, 1: 100}  # trades a message: symbols
TRADES: Final = {85: 340_000, 17: 170_000, 1: 20_000}
GOALS: Final = {"floor": 0.8}
ROUNDS: Final = 7


class Readers(NamedTuple):
    """The contenders; each reads the whole stream and folds it."""

    bus: Bus
    client: Client
    number: int

    async def ours(self) -> None:
        intake, taken = Intake(RULES, lambda _: True), 0
        async with OrderedReader(self.bus, subjects.RAW_STREAM, start_sequence=1) as reader:
            while taken < self.number:
                for each in await reader.next(5.0):
                    intake.take(each.subject, each.payload, each.sequence, each.stored_us)
                    taken += 1

    async def floor(self) -> None:
        intake, taken, done = Intake(RULES, lambda _: True), 0, asyncio.Event()

        async def on_message(message: Msg) -> None:
            nonlocal taken
            taken += 1
            intake.take(message.subject, message.data, taken)
            if taken == self.number:
                done.set()

        stream = self.client.jetstream()
        subscription = await stream.subscribe(
            subjects.RAW_ALL, cb=on_message, ordered_consumer=True, pending_bytes_limit=1 << 30
        )
        await done.wait()
        await subscription.unsubscribe()


@asynccontextmanager
async def stored(url: str, messages: Sequence[Message]) -> AsyncIterator[Readers]:
    """Give the contenders over a stream that holds ``messages``."""
    async with market_bus(url) as bus, await nats.connect(url) as client:
        await publish(bus, messages)
        yield Readers(bus, client, len(messages))


@pytest.mark.parametrize("per_message", SHAPES)
def test_consume(benchmark: BenchmarkFixture, nats_server: NatsHandle, per_message: int) -> None:
    trades = TRADES[per_message]
    messages = batches(trades, per_message, symbol_count=SHAPES[per_message], span_s=40)
    with (
        loop_thread() as portal,
        portal.wrap_async_context_manager(stored(nats_server.url, messages)) as readers,
    ):
        race(
            benchmark,
            stage=f"consume, {per_message} a message",
            work=trades,
            ours=on_loop(portal, readers.ours),
            floor=timed_on(portal, readers.floor),
            goals=GOALS,
            rounds=ROUNDS,
        )
