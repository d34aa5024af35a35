"""The push as lines over plain TCP."""

import asyncio

import pytest

from market_ingestor.access import AccessPolicy
from market_ingestor.push import tcp
from tests.integration.push.harness import gateway, kline, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


class TestLines:
    async def test_silent_client_gets_all_statistics(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url) as bus, gateway(nats_server.url) as push:
            await bus.stats(price="7")
            reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
            async with asyncio.timeout(5):
                line = await reader.readline()
            assert b'"last_price":"7"' in line
            assert b'"topic":"stats.binance.BTCUSDT"' in line
            writer.close()

    async def test_line_of_topics_replaces_the_subscription(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url) as bus, gateway(nats_server.url) as push:
            reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
            writer.write(b"bad\nstats.*.* closed.*.*.1m\r\nclosed.*.BTCUSDT.*\n")
            async with asyncio.timeout(5):
                assert b'"code":"bad_topic"' in await reader.readline()
                await bus.stats()
                await bus.closed(kline(0, symbol="ETHUSDT"), kline(0))
                line = await reader.readline()
            assert b'"topic":"closed.binance.BTCUSDT.1m"' in line
            writer.close()

    async def test_first_line_has_to_be_the_token(self, nats_server: NatsHandle) -> None:
        access = AccessPolicy(tokens=("secret",))
        async with (
            market(nats_server.url) as bus,
            gateway(nats_server.url, access=access) as push,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
            writer.write(b"stats.*.*\n")
            async with asyncio.timeout(5):
                assert b'"unauthorized"' in await reader.readline()
                assert await reader.read() == b""
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
            writer.write(b'{"token":"secret"}\nclosed.*.*.1m\n')
            async with asyncio.timeout(5):
                assert b'"authorized"' in await reader.readline()
                await bus.closed(kline(0))
                assert b'"closed.binance.BTCUSDT.1m"' in await reader.readline()
            writer.close()

    async def test_topics_behind_the_token_stay(
        self, nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp, "SILENCE_S", 0.1)
        access = AccessPolicy(tokens=("secret",))
        async with (
            market(nats_server.url) as bus,
            gateway(nats_server.url, access=access) as push,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
            writer.write(b'{"token":"secret"}\nclosed.*.*.1m\n')
            async with asyncio.timeout(5):
                await reader.readline()
                await asyncio.sleep(0.3)  # longer than a silent client waits for statistics
                await bus.stats()
                await bus.closed(kline(0))
                assert b'"closed.binance.BTCUSDT.1m"' in await reader.readline()
            writer.close()

    async def test_client_that_only_listens_on_is_served(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url) as bus, gateway(nats_server.url) as push:
            reader, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
            writer.write(b"closed.*.*.1m\n")
            writer.write_eof()  # as ``echo topics | nc`` may
            async with asyncio.timeout(5):
                while push.health().details["clients"] != 1:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                await bus.closed(kline(0))
                assert b'"closed.binance.BTCUSDT.1m"' in await reader.readline()
            writer.close()
