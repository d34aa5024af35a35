"""Poison on the bus, a restart of nats-server and a lost stream do not end the push."""

import pytest

from market_ingestor.bus import subjects
from market_ingestor.push.positions import parse
from tests.integration.push.harness import TOPIC, client, gateway, kline, market, minutes
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_poison_on_the_bus_is_skipped(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=["kline.*.*.*", "stats.*.*"])
        nats = bus.bus.client
        await nats.publish(subjects.kline("binance", "BTCUSDT", "1m"), b"no json")
        await nats.publish(subjects.live("binance", "BTCUSDT", "1m"), b'{"v":1}')
        await nats.publish(subjects.stats("binance", "BTCUSDT"), b'{"v":1')
        await nats.publish('market.stats.bin"ance.BTCUSDT', b"{}")
        await bus.closed(kline(0, symbol="ETHUSDT"))
        assert (await reader.receive())["data"]["symbol"] == "ETHUSDT"


async def test_survives_a_restart_of_nats(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=[TOPIC])
        await bus.closed(kline(0))
        await reader.receive()
        await nats_server.kill()
        await nats_server.start()
        await bus.reconnected()
        await bus.closed(kline(1), kline(0, revision=2))
        assert minutes(await reader.until(2, wait_s=15)) == [(1, 1), (0, 2)]


async def test_stream_made_anew_is_noticed(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        before = await reader.ask(action="subscribe", topics=[TOPIC])
        await bus.closed(kline(0))
        await reader.receive()
        await bus.bus.api(f"STREAM.DELETE.{subjects.KLINE_STREAM}")
        await bus.make_streams()
        await bus.closed(kline(1))
        again = await reader.receive(15)
        assert minutes([again]) == [(1, 1)]
        old, new = parse(before["position"]), parse(again["position"])
        assert old is not None
        assert new is not None
        assert old.epoch != new.epoch
