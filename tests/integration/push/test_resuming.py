"""A client that names its position misses nothing, or is told that the position is gone."""

import asyncio

import pytest

from market_ingestor.bus import subjects
from market_ingestor.push.gateway import Gateway
from market_ingestor.push.positions import Position, parse
from tests.integration.push.harness import TOPIC, client, gateway, kline, market, minutes
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def has_read(push: Gateway, sequence: int) -> None:
    """Return when the gateway has read the stream up to ``sequence``."""
    async with asyncio.timeout(10):
        while True:
            position = parse(push.health().details["position"])
            if position is not None and position.sequence >= sequence:
                return
            await asyncio.sleep(0.01)


async def test_resume_across_a_restart_misses_nothing(nats_server: NatsHandle) -> None:
    async with market(nats_server.url) as bus:
        async with gateway(nats_server.url) as push, client(push.port) as reader:
            await reader.ask(action="subscribe", topics=["closed.*.*.1m"])
            await bus.closed(kline(0), kline(1))
            position = (await reader.until(2))[-1]["position"]
        await bus.closed(kline(2), kline(0, revision=2), kline(2, symbol="ETHUSDT"))
        async with gateway(nats_server.url) as push, client(push.port) as reader:
            answer = await reader.ask(action="subscribe", topics=["closed.*.*.1m"], since=position)
            assert answer["position"] == position
            await bus.closed(kline(3), kline(1, revision=2))
            got = minutes(await reader.until(5))
            assert got == [(2, 1), (0, 2), (2, 1), (3, 1), (1, 2)]
            assert await reader.is_quiet()


async def test_resume_from_behind_the_ring_reads_the_stream(nats_server: NatsHandle) -> None:
    async with market(nats_server.url) as bus, gateway(nats_server.url, ring_bytes=20_000) as push:
        async with client(push.port) as reader:
            first = await reader.ask(action="subscribe", topics=[TOPIC])
        others = [kline(n, symbol="ETHUSDT") for n in range(300)]
        ours = [kline(n) for n in range(300)]
        await bus.many_closed(each for pair in zip(ours, others, strict=True) for each in pair)
        await has_read(push, 600)
        async with client(push.port) as reader:
            await reader.send(action="subscribe", topics=[TOPIC], since=first["position"])
            assert (await reader.receive())["type"] == "subscribed"
            got = await reader.closed(300)
            assert minutes(got) == [(n, 1) for n in range(300)]
            await bus.closed(kline(300))
            assert minutes([await reader.receive()]) == [(300, 1)]


@pytest.mark.parametrize("since", ["nonsense", "00000000-5", "{epoch}-999999"])
async def test_unknown_position_is_told(nats_server: NatsHandle, since: str) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await bus.closed(kline(0))
        here = parse((await reader.ask(action="subscribe", topics=[TOPIC]))["position"])
        assert isinstance(here, Position)
        asked = since.format(epoch=here.epoch)
        answer = await reader.ask(action="subscribe", topics=[TOPIC], since=asked, id="x")
        assert (answer["type"], answer["code"], answer["id"]) == ("error", "position_gone", "x")


async def test_position_older_than_the_stream_is_told(nats_server: NatsHandle) -> None:
    async with market(nats_server.url) as bus:
        await bus.many_closed(kline(n) for n in range(20))
        await bus.bus.api(f"STREAM.PURGE.{subjects.KLINE_STREAM}", {"seq": 11})
        async with gateway(nats_server.url) as push, client(push.port) as reader:
            here = parse((await reader.ask(action="subscribe", topics=["stats.*.*"]))["position"])
            assert here is not None
            answer = await reader.ask(action="subscribe", topics=[TOPIC], since=f"{here.epoch}-9")
            assert answer["code"] == "position_gone"
            await reader.ask(action="subscribe", topics=[TOPIC], since=f"{here.epoch}-10")
            assert minutes(await reader.until(10)) == [(n, 1) for n in range(10, 20)]
