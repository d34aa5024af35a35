"""The native push protocol, over a real nats-server and real WebSockets."""

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest
import websockets.exceptions
from websockets.asyncio.client import connect

from market_ingestor import metrics
from market_ingestor.access import AccessPolicy
from market_ingestor.bus import subjects
from market_ingestor.model.kline import Kline
from market_ingestor.push import gateway as gateway_module
from market_ingestor.push import tcp
from market_ingestor.push.gateway import Gateway
from market_ingestor.push.positions import Position, parse
from tests.integration.push.harness import (
    PushClient,
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

TOPIC = "kline.binance.BTCUSDT.1m"


async def has_read(push: Gateway, sequence: int) -> None:
    """Return when the gateway has read the stream up to ``sequence``."""
    async with asyncio.timeout(10):
        while True:
            position = parse(push.health().details["position"])
            if position is not None and position.sequence >= sequence:
                return
            await asyncio.sleep(0.01)


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


async def test_stopped_reader_delays_nobody_and_can_resume(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, ring_bytes=200_000, send_buffer_bytes=20_000) as push,
        client(push.port) as good,
    ):
        stopped = await _client_that_does_not_read(push.port, b'["closed.*.*.1m"]')
        await good.ask(action="subscribe", topics=[TOPIC, "closed.*.*.1m"])
        count = 6_000
        filler = "9" * 60
        await bus.many_closed(
            kline(n, symbol="ETHUSDT", volume=filler, quote_volume=filler) for n in range(count)
        )
        await bus.closed(kline(0))
        while (await good.receive())["topic"] != TOPIC:
            pass  # it gets everything while the other has read nothing

        got, missed = await asyncio.to_thread(_read_until, stopped, kline(0))
        assert missed, "the ring must have overtaken it"
        assert sum(each["count"] for each in missed) + len(got) == count + 1
        async with client(push.port) as again:
            await again.ask(
                action="subscribe", topics=["closed.*.*.1m"], since=missed[0]["position"]
            )
            rest = await again.closed(count + 1 - got_before(got, missed[0]))
            every = got[: got_before(got, missed[0])] + rest
            assert len({each["position"] for each in every}) == count + 1


def got_before(got: list[dict[str, Any]], notice: dict[str, Any]) -> int:
    """Return how many candles came up to the position that a notice names."""
    last = parse(notice["position"])
    assert last is not None
    sequences = [parse(each["position"]) for each in got]
    return sum(1 for each in sequences if each is not None and each.sequence <= last.sequence)


async def _client_that_does_not_read(port: int, topics: bytes) -> socket.socket:
    """Return a subscribed WebSocket whose receive buffer is small and never read."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", port))
    await loop.sock_sendall(
        raw,
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await loop.sock_recv(raw, 1)
    body = b'{"action":"subscribe","topics":' + topics + b"}"
    await loop.sock_sendall(raw, bytes((0x81, 0x80 | len(body))) + bytes(4) + body)
    return raw


def _read_until(
    raw: socket.socket, last: Kline
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read frames until the candle ``last``; returns candles and notices of losses."""
    import json  # noqa: PLC0415 - only this thread's work needs it

    raw.settimeout(10)
    stream = raw.makefile("rb")
    got: list[dict[str, Any]] = []
    missed: list[dict[str, Any]] = []
    while not got or got[-1]["data"]["symbol"] != last.symbol:
        head = stream.read(2)
        size = head[1]
        if size == 126:
            size = int.from_bytes(stream.read(2), "big")
        elif size == 127:
            size = int.from_bytes(stream.read(8), "big")
        body = stream.read(size)
        if head[0] != 0x81:
            continue  # a ping
        message = json.loads(body)
        if message["type"] == "kline":
            got.append(message)
        elif message["type"] == "missed":
            missed.append(message)
    stream.close()
    raw.close()
    return got, missed


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


async def test_no_trade_behind_the_answer_to_its_subscription_is_lost(
    nats_server: NatsHandle,
) -> None:
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
            got = [(await reader.receive())["data"]["n"] for _ in numbers]
            assert got == numbers


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


BAD: list[tuple[bytes | str, str]] = [
    ("no json", "bad_message"),
    (b"\xff\xfe binary", "bad_message"),
    ("[" * 5_000, "bad_message"),
    ('{"action":"subscribe","topics":["kline.>"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["kline.binance.BTC USDT.1m"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["kline.binance.BTCUSDT.7m"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["depth.binance.BTCUSDT"],"id":5}', "bad_topic"),
    ('{"action":"subscribe","topics":["closed.*.*.1m"],"snapshots":3,"id":5}', "bad_message"),
    ('{"action":"subscribe","topics":[],"id":5}', "bad_message"),
    ('{"action":"subscribe","topics":["stats.*.*"],"snapshot":1000000,"id":5}', "bad_message"),
    ('{"action":"fly","id":5}', "bad_message"),
]


@pytest.mark.parametrize(("text", "code"), BAD)
async def test_bad_message_is_answered_with_an_error(
    nats_server: NatsHandle, text: bytes | str, code: str
) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as reader,
        client(push.port) as other,
    ):
        await other.ask(action="subscribe", topics=[TOPIC])
        await reader.connection.send(text)
        answer = await reader.receive()
        assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["id"] == (5 if '"id":5' in str(text) else None)
        assert (await reader.ask(action="ping"))["type"] == "pong"
        await bus.closed(kline(0))
        assert minutes([await other.receive()]) == [(0, 1)]


async def test_message_of_ten_megabytes_ends_that_client_only(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as good,
    ):
        await good.ask(action="subscribe", topics=[TOPIC])
        bad = PushClient(await connect(f"ws://127.0.0.1:{push.port}/ws", proxy=None))
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            await bad.ask(action="x" * 10_000_000)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        await bad.connection.wait_closed()
        await bus.closed(kline(0))
        assert minutes([await good.receive()]) == [(0, 1)]


async def test_garbage_instead_of_a_handshake_harms_nobody(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as good,
    ):
        await good.ask(action="subscribe", topics=[TOPIC])
        for garbage in (b"\x00" * 1_000, b"GET / HTTP/1.1\r\n\r\n", b"GET /ws HTTP/9\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", push.port)
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
        await bus.closed(kline(0))
        assert minutes([await good.receive()]) == [(0, 1)]


async def flood(bad: PushClient) -> None:
    for _ in range(10_000):
        await bad.ask(action="ping")


async def test_flood_of_requests_ends_that_client(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url),
        gateway(nats_server.url) as push,
        client(push.port) as bad,
    ):
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
            await flood(bad)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


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


async def test_stop_closes_clients_with_going_away(nats_server: NatsHandle) -> None:
    async with market(nats_server.url):
        async with gateway(nats_server.url) as push:
            reader = PushClient(await connect(f"ws://127.0.0.1:{push.port}/ws", proxy=None))
            await reader.ask(action="subscribe", topics=[TOPIC])
            lines, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
        with pytest.raises(websockets.exceptions.ConnectionClosedOK) as closed:
            await reader.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        async with asyncio.timeout(5):
            assert await lines.read() == b""
        writer.close()
        await reader.connection.wait_closed()


async def test_stop_tells_a_crowd_and_waits_for_no_handshake(nats_server: NatsHandle) -> None:
    async with AsyncExitStack() as stack, market(nats_server.url):
        async with gateway(nats_server.url, stop_timeout_s=5) as push:
            _, half_open = await asyncio.open_connection("127.0.0.1", push.port)
            half_open.write(b"GET /ws HTTP/1.1\r\n")
            crowd = [await stack.enter_async_context(client(push.port)) for _ in range(300)]
            before = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - before < 4
        for each in crowd:
            await each.connection.wait_closed()
            assert each.connection.close_code == 1001
        half_open.close()


async def test_boundary_larger_than_the_buffer_misses_nothing(nats_server: NatsHandle) -> None:
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url, send_buffer=16) as push,
        client(push.port) as reader,
    ):
        await reader.ask(action="subscribe", topics=["closed.*.*.1m"])
        await bus.many_closed(kline(0, symbol=f"S{n}") for n in range(1_500))
        got = await reader.closed(1_500)  # fails on a notice of losses
        assert {each["data"]["symbol"] for each in got} == {f"S{n}" for n in range(1_500)}


def value_of(name: str) -> float | None:
    """Return a metric without labels as Prometheus would read it."""
    for line in metrics.exposition().decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return None


async def test_metrics_tell_of_clients_and_messages(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "POLL_S", 0.05)
    prefix = "market_ingestor_push"
    sent = value_of(f"{prefix}_messages_sent_total") or 0
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as one,
        client(push.port) as two,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
        for each in (one, two):
            await each.ask(action="subscribe", topics=[TOPIC])
        await bus.closed(kline(0))
        for each in (one, two):
            await each.receive()
        async with asyncio.timeout(5):
            while True:
                so_far = value_of(f"{prefix}_messages_sent_total") or 0
                if value_of(f"{prefix}_clients") == 3 and so_far >= sent + 4:
                    break
                await asyncio.sleep(0.01)
        assert value_of("ws_connections_total") == 3
        assert value_of(f"{prefix}_queue_bytes") == 0
        writer.close()
    text = metrics.exposition().decode()
    assert "# TYPE ws_connections_total untyped" in text
    assert value_of("ws_connections_total") == value_of(f"{prefix}_clients") == 0
    for kind in ("conflated", "dropped"):
        assert f"# TYPE {prefix}_messages_{kind}_total counter" in text


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


class TestAccess:
    TOKENS = AccessPolicy(tokens=("secret", "other"))

    async def test_token_in_a_header_opens(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url, access=self.TOKENS) as push:
            for headers in (
                {"Authorization": "Bearer secret"},
                {"X-MBX-APIKEY": "other"},
                {"Authorization": "Basic OnNlY3JldA=="},
            ):
                async with client(push.port, additional_headers=headers) as reader:
                    assert (await reader.ask(action="ping"))["type"] == "pong"

    async def test_token_in_the_first_message_opens(self, nats_server: NatsHandle) -> None:
        async with (
            market(nats_server.url),
            gateway(nats_server.url, access=self.TOKENS) as push,
            client(push.port) as reader,
        ):
            assert (await reader.ask(token="secret"))["type"] == "authorized"
            assert (await reader.ask(action="ping"))["type"] == "pong"

    async def test_without_a_token_nothing_is_told(self, nats_server: NatsHandle) -> None:
        async with (
            market(nats_server.url),
            gateway(nats_server.url, access=self.TOKENS) as push,
            client(push.port) as reader,
        ):
            answer = await reader.ask(action="subscribe", topics=[TOPIC], id=3)
            assert answer["code"] == "unauthorized"
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await reader.receive()

    async def test_token_in_an_address_opens_nothing(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url, access=self.TOKENS) as push:
            address = f"ws://127.0.0.1:{push.port}/ws?token=secret"
            async with connect(address, proxy=None) as connection:
                answer = await PushClient(connection).ask(action="list", id=1)
                assert answer["code"] == "unauthorized"

    async def test_wrong_tokens_are_refused(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url, access=self.TOKENS) as push:
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port, additional_headers={"Authorization": "Bearer no"}):
                    pass
            assert refused.value.response.status_code == 401
            async with client(push.port) as reader:
                assert (await reader.ask(token="no"))["code"] == "unauthorized"
                with pytest.raises(websockets.exceptions.ConnectionClosed):
                    await reader.receive()

    async def test_foreign_pages_are_refused(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url) as push:
            async with client(push.port, origin="http://127.0.0.1:8080") as reader:
                assert (await reader.ask(action="ping"))["type"] == "pong"
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port, origin="http://evil.example"):
                    pass
            assert refused.value.response.status_code == 403

    async def test_too_many_clients_are_refused(self, nats_server: NatsHandle) -> None:
        async with (
            market(nats_server.url),
            gateway(nats_server.url, max_clients=1) as push,
            client(push.port) as reader,
        ):
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port):
                    pass
            assert refused.value.response.status_code == 503
            assert (await reader.ask(action="ping"))["type"] == "pong"


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
