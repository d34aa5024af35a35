"""Clients that are slow, silent, greedy or hostile harm nobody else."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from market_ingestor.api import lanes
from market_ingestor.runtime import http
from market_ingestor.storage.read_store import DatabaseReadStore
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import Table, api, get
from tests.integration.push.harness import START, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

INFO = b"GET /api/v1/info HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire:
    """A TCP connection to the API, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def rest(self, wait_s: float = 5) -> bytes:
        """Return everything up to the end of the connection."""
        found = b""
        async with asyncio.timeout(wait_s):
            with suppress(ConnectionError):
                while chunk := await self.reader.read(65_536):
                    found += chunk
        return found


@asynccontextmanager
async def wire(client: httpx2.AsyncClient) -> AsyncIterator[Wire]:
    port = urlsplit(str(client.base_url)).port
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4_096)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def answer_of(raw: bytes) -> tuple[int, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def is_served(client: httpx2.AsyncClient) -> bool:
    return (await client.get("/api/v1/info", timeout=2)).status_code == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /api/v1/in",
        b"GET /api/v1/info HTTP/1.1\r\nHost: x\r\n",
        b"POST /api/v1/info HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
        INFO + b"GET /ap",
    ],
)
async def test_request_that_never_ends_is_cut_off(
    nats_server: NatsHandle, table: Table, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http, "REQUEST_WAIT_S", 0.4)
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
        wire(client) as slow,
    ):
        began = time.monotonic()
        await slow.send(begun)
        assert await is_served(client)
        await slow.rest(3)
        assert 0.3 < time.monotonic() - began < 2


async def test_dripping_bytes_buy_no_time(
    nats_server: NatsHandle, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_WAIT_S", 0.5)
    async with market(nats_server.url), api(nats_server.url, table.store) as client:

        async def drip(slow: Wire) -> None:
            for each in b"GET /api/v1/info HTTP/1.1\r\n" + b"X: 1\r\n" * 1_000:
                await slow.send(bytes([each]))
                await asyncio.sleep(0.02)

        async with wire(client) as slow:
            dripping = asyncio.create_task(drip(slow))
            assert await slow.rest(3) == b""
            dripping.cancel()


async def test_answers_that_nobody_reads_are_given_up(
    nats_server: NatsHandle, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WRITE_WAIT_S", 0.3)
    asked = 400
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
        wire(client) as greedy,
    ):
        one = len((await client.get("/openapi.json")).content)
        await greedy.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
        for _ in range(10):
            assert await is_served(client)
            await asyncio.sleep(0.1)
        assert len(await greedy.rest(10)) < asked * one / 2


async def test_memory_for_unread_answers_is_bounded(
    nats_server: NatsHandle, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits longest goes; the others keep their answers."""
    monkeypatch.setattr(http, "UNREAD_BYTES_MAX", 100_000)
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
        wire(client) as first,
        wire(client) as second,
    ):
        await first.send(asked)
        await asyncio.sleep(0.5)
        await second.send(asked)
        await first.rest(10)  # ends: it was cut off
        assert await is_served(client)


async def test_connections_are_bounded_and_freed(
    nats_server: NatsHandle, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ADDRESS_CONNECTIONS_MAX", 8)
    monkeypatch.setattr(http, "REQUEST_WAIT_S", 1.0)
    async with market(nats_server.url), api(nats_server.url, table.store) as client:
        idle = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(20)]
        refused = 0
        for reader, _ in idle:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    with suppress(ConnectionError):
                        await reader.read(1)
                    refused += 1
        assert refused >= 12
        async with asyncio.timeout(5):
            while True:
                with suppress(httpx2.TransportError):
                    if await is_served(client):
                        break
                await asyncio.sleep(0.05)
        for _, writer in idle:
            writer.transport.abort()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nX: " + b"1" * 40_000 + b"\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "url_too_long"),
        (
            b"GET /api/v1/info?a=" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            400,
            "url_too_long",
        ),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413, "too_large"),
        (b"GET /api/v1/%ff HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
        (b"GET /prices/latest/%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_parameter"),
        (b"BREW /api/v1/info HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    ],
)
async def test_whatever_is_sent_is_answered_in_one_shape(
    nats_server: NatsHandle, table: Table, sent: bytes, status: int, code: str
) -> None:
    async with (
        market(nats_server.url),
        api(nats_server.url, table.store) as client,
        wire(client) as sender,
    ):
        await sender.send(sent.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
        got, body = answer_of(await sender.rest())
        assert (got, body["error"]["code"], body["data"]) == (status, code, None)
        assert await is_served(client)


async def test_heavy_requests_do_not_starve_light_ones(
    nats_server: NatsHandle, table: Table, postgres_dsn: str
) -> None:
    """A hundred lists that wait for a locked table leave prices and symbols as quick as ever."""
    await table.symbol()
    await table.trade("7", START)
    async with (
        market(nats_server.url),
        Database(postgres_dsn, connections_max=lanes.CONNECTIONS) as database,
        api(nats_server.url, DatabaseReadStore(database), request_timeout_s=2.0) as client,
    ):
        async with table.database.transaction() as session:
            await session.script("LOCK TABLE market_gaps IN ACCESS EXCLUSIVE MODE")
            heavy = [asyncio.create_task(client.get("/api/v1/gaps", timeout=9)) for _ in range(90)]
            heavy += [
                asyncio.create_task(
                    client.get("/api/v1/completeness?exchange=binance&symbol=BTCUSDT", timeout=9)
                )
                for _ in range(5)
            ]
            await asyncio.sleep(0.3)
            light = []
            for _ in range(5):
                began = time.monotonic()
                assert (await get(client, "/prices/latest/BTCUSDT"))["price"] == "7.50"
                await get(client, "/api/v1/symbols")
                light.append(time.monotonic() - began)
            assert sorted(light)[2] < 0.5
            answers = await asyncio.gather(*heavy)
        statuses = [each.status_code for each in answers]
        assert set(statuses) == {503, 504}
        busy = [each for each in answers if each.status_code == 503]
        assert len(busy) >= 90 - lanes.WAITING_MAX - lanes.AT_ONCE["list"]
        assert busy[0].json()["error"]["code"] == "busy"
        assert busy[0].headers["retry-after"] == "1"
        # Given up requests leave their places and their statements.
        assert (await get(client, "/api/v1/gaps"))["data"]["data"] == []
