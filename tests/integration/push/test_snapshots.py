"""A subscription may begin with the candles before it."""

import pytest

from market_ingestor.model.kline import Kline
from market_ingestor.push.positions import parse
from tests.integration.push.harness import TOPIC, client, gateway, kline, market, minutes
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_snapshot_is_oldest_first_then_live(nats_server: NatsHandle) -> None:
    async with market(nats_server.url) as bus:
        await bus.closed(*(kline(n) for n in range(10)), kline(8, revision=2))
        async with gateway(nats_server.url) as push, client(push.port) as reader:
            await reader.send(action="subscribe", topics=[TOPIC], snapshot=3)
            await bus.closed(kline(10))
            await reader.receive()
            got = minutes(await reader.until(4))
            assert got == [(7, 1), (8, 2), (9, 1), (10, 1)]
            assert await reader.is_quiet()


async def test_snapshot_takes_older_candles_from_history(nats_server: NatsHandle) -> None:
    asked: list[tuple[str, str, str, int]] = []

    async def history(
        exchange: str, symbol: str, period: str, limit: int
    ) -> list[tuple[Kline, str | None]]:
        asked.append((exchange, symbol, period, limit))
        return [(kline(n), None) for n in range(5, 9)]

    async with market(nats_server.url) as bus:
        await bus.closed(kline(8, revision=2), kline(9))
        async with (
            gateway(nats_server.url, history=history) as push,
            client(push.port) as reader,
        ):
            await reader.ask(action="subscribe", topics=[TOPIC], snapshot=4)
            got = await reader.until(4)
            assert minutes(got) == [(6, 1), (7, 1), (8, 2), (9, 1)]
            assert all(parse(each["position"]) for each in got)
            assert asked == [("binance", "BTCUSDT", "1m", 4)]


async def test_snapshot_does_without_a_database(nats_server: NatsHandle) -> None:
    async def history(*_: object) -> list[tuple[Kline, str | None]]:
        raise OSError("the database is away")

    async with market(nats_server.url) as bus:
        await bus.closed(kline(8), kline(9))
        async with (
            gateway(nats_server.url, history=history) as push,
            client(push.port) as reader,
        ):
            await reader.ask(action="subscribe", topics=[TOPIC], snapshot=4)
            assert minutes(await reader.until(2)) == [(8, 1), (9, 1)]
