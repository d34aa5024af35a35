"""Clients of the native push protocol get what they subscribed to, over real WebSockets."""

import asyncio

import pytest

from market_ingestor.bus import asking
from market_ingestor.bus.jetstream import Bus, StreamState
from tests.integration.push.harness import (
    TOPIC,
    batch,
    client,
    event,
    gateway,
    kline,
    market,
    minutes,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_two_clients_get_open_and_closed_candles(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as both,
        client(push.port) as only_closed,
    ):
        answer = await both.ask(action="subscribe", topics=[TOPIC], id=1)
        assert answer["type"] == "subscribed"
        assert answer["topics"] == [TOPIC]
        assert answer["id"] == 1
        await only_closed.ask(action="subscribe", topics=["closed.binance.BTCUSDT.1m"])

        await bus.open(kline(0, closed=False))
        opened = await both.receive()
        assert opened["type"] == "kline"
        assert opened["topic"] == TOPIC
        assert not opened["data"]["closed"]
        assert "position" not in opened

        await bus.closed(kline(0))
        closed = await both.receive()
        assert closed["data"]["closed"]
        assert closed["data"]["open"] == "67123.45"
        same = await only_closed.receive()
        assert same["topic"] == "closed.binance.BTCUSDT.1m"
        assert same["data"] == closed["data"]
        assert same["position"] == closed["position"]


async def test_open_candle_never_follows_its_closed_one(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=[TOPIC])
        await bus.closed(kline(0))
        await reader.receive()
        await bus.open(kline(0, closed=False))
        await bus.open(kline(1, closed=False))
        assert minutes([await reader.receive()]) == [(1, 0)]


async def test_both_candles_around_a_boundary_are_sent(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await bus.open(kline(0, closed=False), kline(1, closed=False))
        await asyncio.sleep(0.05)
        await reader.ask(action="subscribe", topics=[TOPIC])
        assert sorted(minutes(await reader.until(2))) == [(0, 0), (1, 0)]


async def test_wildcards_stand_for_one_token(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=["kline.binance.*.1m", "kline.*.BTCUSDT.*"])
        await bus.closed(kline(0), kline(0, symbol="ETHUSDT"), kline(0, symbol="XRPUSDT"))
        got = [each["data"]["symbol"] for each in await reader.until(3)]
        assert got == ["BTCUSDT", "ETHUSDT", "XRPUSDT"]
        assert await reader.is_quiet()


async def test_trades_stats_and_events(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.ask(
            action="subscribe",
            topics=["trade.binance.*", "stats.binance.BTCUSDT", "event.*.*"],
        )
        await bus.stats(price="7")
        stats = await reader.receive()
        assert (stats["type"], stats["topic"]) == ("stats", "stats.binance.BTCUSDT")
        assert stats["data"]["last_price"] == "7"
        await bus.event(event())
        told = await reader.receive()
        assert (told["type"], told["data"]["type"]) == ("event", "gap_found")
        await bus.trades(batch(1))
        trades = await reader.receive()
        assert (trades["type"], trades["topic"]) == ("trades", "trade.binance.BTCUSDT")
        assert trades["data"]["trades"][0]["price"] == "1.5"
        await bus.trades(batch(2, symbol="ETHUSDT"))
        assert (await reader.receive())["topic"] == "trade.binance.ETHUSDT"


@pytest.mark.parametrize("slow_s", [0, 0.1], ids=["bus at once", "bus slow to tell"])
async def test_no_trade_behind_the_answer_to_its_subscription_is_lost(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    async def slow_state_of(bus: Bus, stream: str) -> StreamState:
        state = await asking.state_of(bus, stream)
        await asyncio.sleep(slow_s)
        return state

    monkeypatch.setattr("market_ingestor.push.trade_feed.state_of", slow_state_of)
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as one,
        client(push.port) as other,
    ):
        await bus.trades(batch(1))  # before anybody wanted it
        for reader, symbol in ((one, "BTCUSDT"), (other, "ETHUSDT")):
            await reader.ask(action="subscribe", topics=[f"trade.binance.{symbol}"])
            for each in ("BTCUSDT", "ETHUSDT"):
                await bus.trades(batch(2, symbol=each))
        for each in ("BTCUSDT", "ETHUSDT"):
            await bus.trades(batch(3, symbol=each))
        for reader, numbers in ((one, [2, 2, 3]), (other, [2, 3])):
            got = []
            while 3 not in got:
                got.append((await reader.receive())["data"]["n"])
            assert got[-len(numbers) :] == numbers  # older ones may come before


async def test_batches_are_arrays_of_messages(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.send(action="subscribe", topics=["kline.*.*.*"], batch_ms=200)
        assert [each["type"] for each in await reader.receive()] == ["subscribed"]
        for symbol in ("AUSDT", "BUSDT", "CUSDT"):
            await bus.open(kline(0, symbol=symbol, closed=False))
        got = await reader.receive()
        assert [each["data"]["symbol"] for each in got] == ["AUSDT", "BUSDT", "CUSDT"]


async def test_list_unsubscribe_and_ping(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=[TOPIC, "stats.*.*"])
        listed = await reader.ask(action="list", id=7)
        assert listed == {"type": "subscriptions", "topics": [TOPIC, "stats.*.*"], "id": 7}
        ended = await reader.ask(action="unsubscribe", topics=[TOPIC, "closed.*.*.1m"], id="a")
        assert ended == {"type": "unsubscribed", "topics": [TOPIC], "id": "a"}
        assert await reader.ask(action="ping", id=8) == {"type": "pong", "id": 8}
        await bus.closed(kline(0))
        assert await reader.is_quiet()
