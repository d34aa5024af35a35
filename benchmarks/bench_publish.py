"""Publish: trade batches acknowledged by JetStream, with our window and its resend logic.

The floor is a bare window: a reply inbox, a counter as token, acknowledgements counted and nothing
remembered, so nothing could be sent again. The peer is nats-py's ``publish_async`` with the same
message ids. Both use nats-py's client as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, NamedTuple

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.batches import Message, batches
from benchmarks.bus import loop_thread, market_bus, on_loop, timed_on
from benchmarks.race import race
from market_ingestor.bus.publisher import ITEMS_MAX, Publisher
from tests.support.servers import NatsHandle

MESSAGES: Final = {1: 10_000, 4: 10_000, 25: 5_000, 86: 2_000}  # trades a message: messages
GOALS: Final = {"floor": 0.7, "publish_async": 1.7}
ROUNDS: Final = 9


class BareWindow:
    """As many messages in flight as ours, counted, with no memory of what they were."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._in_flight = 0
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Listen for acknowledgements."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def _on_answer(self, _: Msg) -> None:
        self._in_flight -= 1
        self._changed.set()

    async def _until(self, in_flight: int) -> None:
        while self._in_flight > in_flight:
            self._changed.clear()
            await self._changed.wait()

    async def send(self, messages: Sequence[Message]) -> None:
        """Publish all and wait for their acknowledgements."""
        for token, message in enumerate(messages):
            if self._in_flight >= ITEMS_MAX:
                await self._until(ITEMS_MAX - 1)
            self._in_flight += 1
            await self._client.publish(
                message.subject,
                message.payload,
                reply=f"{self._inbox}.{token}",
                headers={"Nats-Msg-Id": message.message_id},
            )
        await self._until(0)


class Senders(NamedTuple):
    """The contenders, each with rounds of messages nobody sent before."""

    client: Client
    publisher: Publisher
    bare: BareWindow
    messages: Sequence[Message]
    rounds: "count[int]"

    def fresh(self) -> list[Message]:
        """Return the messages under ids that were never used."""
        number = next(self.rounds)
        return [each._replace(message_id=f"{number}.{each.message_id}") for each in self.messages]

    async def ours(self) -> None:
        for message in self.fresh():
            await self.publisher.send(*message)
        assert await self.publisher.drain(60)

    async def floor(self) -> None:
        await self.bare.send(self.fresh())

    async def publish_async(self) -> None:
        stream = self.client.jetstream()
        for subject, payload, message_id in self.fresh():
            await stream.publish_async(subject, payload, headers={"Nats-Msg-Id": message_id})
        await stream.publish_async_completed()


@asynccontextmanager
async def sending(url: str, messages: Sequence[Message]) -> AsyncIterator[Senders]:
    """Give the contenders, connected."""
    async with market_bus(url) as bus, await nats.connect(url) as client:
        publisher, bare = Publisher(bus), BareWindow(client)
        await bare.open()
        running = asyncio.create_task(publisher.run())
        try:
            yield Senders(client, publisher, bare, messages, count())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("per_message", MESSAGES)
def test_publish(benchmark: BenchmarkFixture, nats_server: NatsHandle, per_message: int) -> None:
    number = MESSAGES[per_message]
    messages = batches(number * per_message, per_message, symbol_count=100, span_s=40)
    with (
        loop_thread() as portal,
        portal.wrap_async_context_manager(sending(nats_server.url, messages)) as senders,
    ):
        race(
            benchmark,
            stage=f"publish, {per_message} a message",
            unit="message",
            work=len(messages),
            ours=on_loop(portal, senders.ours),
            floor=timed_on(portal, senders.floor),
            peers={"publish_async": timed_on(portal, senders.publish_async)},
            goals=GOALS,
            rounds=ROUNDS,
        )
