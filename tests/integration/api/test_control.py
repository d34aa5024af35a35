"""Mode and subscriptions over REST, with ingest processes that are frozen and killed."""

import asyncio
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from market_ingestor.access import AccessPolicy
from market_ingestor.api.control import APPLY_S_MAX
from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import NatsSettings
from market_ingestor.model.control import Mode
from market_ingestor.runtime.bus_setup import prepare_bus
from market_ingestor.simulator import SimulatedVenue
from tests.integration.api.harness import Table, api
from tests.support.processes import Command, command
from tests.support.servers import NatsHandle

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

JSON = {"Content-Type": "application/json"}
WAIT_S = 20.0
APPLY_S = 3.0  # a frozen process is waited for that long here
MODES: tuple[Mode, ...] = ("live", "test")
NAMES = tuple(f"C{n:03}USDT" for n in range(500))


class Desk:
    """An API and the ingest processes it steers."""

    def __init__(self, client: httpx2.AsyncClient, ingest: list[Command]) -> None:
        self.client = client
        self.ingest = ingest

    async def call(self, method: str, path: str, status: int = 200) -> Any:
        answer = await self.client.request(method, path, headers=JSON, timeout=30)
        assert answer.status_code == status, answer.text
        body = answer.json()
        return body["data"] if "/api/v1/" in path and status == 200 else body

    async def mode(self) -> dict[str, Any]:
        return dict(await self.call("GET", "/mode"))

    async def feeds(self, exchange: str) -> dict[str, str]:
        page = await self.call("GET", "/api/v1/subscriptions")
        return {
            each["symbol"]: each["feed"] for each in page["data"] if each["exchange"] == exchange
        }


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await is_so():  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.05)


@asynccontextmanager
async def desk(
    nats_url: str,
    table: Table,
    dsn: str,
    folder: Path,
    *,
    shards: int,
    symbols: tuple[str, ...],
    apply_s: float = APPLY_S_MAX,
    simulated_rest: str | None = None,
) -> AsyncIterator[Desk]:
    """Run simulated venues, some of them in the part of real ones, ingest processes and an API."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        real = await enter(SimulatedVenue("okx", symbols, seed=1, rate=100))
        simulated = await enter(SimulatedVenue("binance", symbols, seed=2, rate=100))
        lines = [f'[nats]\nservers = ["{nats_url}"]', f'[database]\ndsn = "{dsn}"']
        for name, venue, rest_url in (
            ("okx", real, real.rest_url),
            ("sim-binance", simulated, simulated_rest or simulated.rest_url),
        ):
            lines.append(
                f'[exchanges.{name}]\nsymbols = ["BTCUSDT"]\n'
                f'ws_url = "{venue.ws_url}"\nrest_url = "{rest_url}"'
            )
        config = folder / "config.toml"
        config.write_text("\n".join(lines))
        await prepare_bus([nats_url], NatsSettings())
        ingest = [
            await enter(
                command(
                    "run", "ingest", "--config", str(config), "--shard", f"{index + 1}/{shards}",
                    log=folder / f"ingest{index}.log",
                    env={"MARKET_INGESTOR_METRICS__PORT": "0"},
                )
            )
            for index in range(shards)
        ]  # fmt: skip
        client = await enter(api(nats_url, table.store, apply_s_max=apply_s, modes=MODES))
        made = Desk(client, ingest)

        async def are_up() -> bool:
            return len((await made.mode())["members"]) == shards and await made.feeds("okx") == {
                "BTCUSDT": "up"
            }

        await eventually(are_up)
        yield made


async def test_processes_are_switched_and_given_symbols(
    nats_server: NatsHandle, table: Table, postgres_dsn: str, tmp_path: Path
) -> None:
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    async with desk(
        nats_server.url, table, postgres_dsn, tmp_path, shards=2, symbols=symbols
    ) as made:
        # Symbols: in any spelling, twice the same, by exactly one process, and away again.
        for spelling in ("eth-usdt", "ETH_USDT", "ETHUSDT"):
            change = await made.call("PUT", f"/api/v1/subscriptions/okx/{spelling}")
            assert (change["symbol"], change["feed"]) == ("ETHUSDT", "up")
        page = (await made.call("GET", "/api/v1/subscriptions"))["data"]
        assert [(each["symbol"], each["added"]) for each in page] == [
            ("BTCUSDT", False),
            ("ETHUSDT", True),
        ]
        for _ in range(2):
            change = await made.call("DELETE", "/api/v1/subscriptions/okx/btc-usdt")
            assert (change["subscribed"], change["feed"]) == (False, None)
        assert await made.feeds("okx") == {"ETHUSDT": "up"}
        for path, code in (("okx/NOPE", "unknown_symbol"), ("nope/BTCUSDT", "unknown_exchange")):
            for method in ("PUT", "DELETE"):
                refused = await made.call(method, f"/api/v1/subscriptions/{path}", 404)
                assert refused["error"]["code"] == code
        refused = await made.call("PUT", "/api/v1/subscriptions/okx/%2A", 400)

        # Modes: all processes, and the API itself.
        switched = await made.call("POST", "/mode/test")
        assert {each["mode"] for each in switched["members"]} == {"test"}
        assert len(switched["members"]) == 2
        assert all(each["applied"] for each in switched["members"])
        assert await made.feeds("sim-binance") == {"BTCUSDT": "up"}
        info = await made.call("GET", "/api/v1/info")
        assert info["mode"] == "test"
        # In test mode an exchange is its simulation; okx has none.
        assert (await made.call("PUT", "/api/v1/subscriptions/binance/solusdt"))["exchange"] == (
            "sim-binance"
        )
        await made.call("PUT", "/api/v1/subscriptions/okx/solusdt", 404)

        # Many at once, from several sides: every answer is 200, and all agree in the end.
        ways = [f"/mode/{random.choice(('test', 'live'))}" for _ in range(20)]
        answers = await asyncio.gather(
            *(made.client.post(each, headers=JSON, timeout=30) for each in ways)
        )
        assert {each.status_code for each in answers} == {200}
        final = await made.call("POST", "/mode/live")
        assert {each["mode"] for each in final["members"]} == {"live"}
        assert await made.feeds("okx") == {"ETHUSDT": "up"}


async def test_a_frozen_or_killed_process_is_named(
    nats_server: NatsHandle, table: Table, postgres_dsn: str, tmp_path: Path
) -> None:
    async with desk(
        nats_server.url, table, postgres_dsn, tmp_path, shards=2, symbols=("BTC-USDT",),
        apply_s=APPLY_S,
    ) as made:  # fmt: skip
        names = {each["shard"]: each["member"] for each in (await made.mode())["members"]}
        frozen, killed = made.ingest
        frozen.send(signal.SIGSTOP)
        late = await made.call("POST", "/mode/test", 504)
        assert late["error"]["code"] == "not_applied"
        assert late["error"]["members"] == [names["1/2"]]
        assert names["1/2"] in late["message"]
        mode = await made.mode()
        assert mode["mode"] == "test"
        assert [each["member"] for each in mode["members"] if not each["applied"]] == [names["1/2"]]
        frozen.send(signal.SIGCONT)

        async def is_applied() -> bool:
            return all(each["applied"] for each in (await made.mode())["members"])

        await eventually(is_applied)
        killed.send(signal.SIGKILL)
        late = await made.call("POST", "/mode/live", 504)
        assert late["error"]["members"] == [names["2/2"]]

        # It ages away, and then nobody waits for it.
        async def is_alone() -> bool:
            return len((await made.mode())["members"]) == 1

        await eventually(is_alone)
        await made.call("POST", "/mode/test")
        frozen.send(signal.SIGTERM)
        assert await frozen.ended(WAIT_S) == 0
        # Nobody is left: what is wanted is kept for who comes.
        assert (await made.call("POST", "/mode/live"))["members"] == []
        nobody = await made.call("PUT", "/api/v1/subscriptions/okx/btcusdt", 503)
        assert nobody["error"]["code"] == "no_ingest"


async def test_what_a_switch_waits_for_is_said(
    nats_server: NatsHandle, table: Table, postgres_dsn: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with desk(
        nats_server.url, table, postgres_dsn, tmp_path, shards=1, symbols=("BTC-USDT",),
        simulated_rest=nobody,
    ) as made:  # fmt: skip
        late = await made.call("POST", "/mode/test", 504)
        assert "sim-binance: instruments not loaded yet: " in late["message"]
        assert await made.feeds("okx") == {"BTCUSDT": "up"}  # goes on meanwhile


async def test_five_hundred_symbols_at_once(
    nats_server: NatsHandle, table: Table, postgres_dsn: str, tmp_path: Path
) -> None:
    async with desk(
        nats_server.url, table, postgres_dsn, tmp_path, shards=1, symbols=("BTC-USDT", *NAMES)
    ) as made:
        limit = asyncio.Semaphore(50)

        async def put(name: str) -> int:
            async with limit:
                path = f"/api/v1/subscriptions/okx/{name}"
                return (await made.client.put(path, headers=JSON, timeout=30)).status_code

        statuses = await asyncio.gather(*map(put, NAMES))
        assert set(statuses) <= {200, 504}

        async def are_up() -> bool:
            feeds = await made.feeds("okx")
            return len(feeds) == 501 and set(feeds.values()) == {"up"}

        await eventually(are_up)
        assert statuses.count(200) > 400


async def test_the_buckets_may_be_deleted_under_it(
    nats_server: NatsHandle, table: Table, postgres_dsn: str, tmp_path: Path
) -> None:
    async with desk(
        nats_server.url, table, postgres_dsn, tmp_path, shards=1,
        symbols=("BTC-USDT", "ETH-USDT"),
    ) as made:  # fmt: skip
        await made.call("PUT", "/api/v1/subscriptions/okx/ethusdt")
        bus = await Bus.connect([nats_server.url], name="vandal")
        for bucket in (subjects.CONTROL_BUCKET, subjects.MEMBERS_BUCKET):
            await bus.api(f"STREAM.DELETE.{subjects.bucket_stream(bucket)}")
        await made.call("DELETE", "/api/v1/subscriptions/okx/btcusdt")
        await bus.put_fenced(subjects.bucket_subject(subjects.CONTROL_BUCKET, "state"), b"{", None)
        await made.call("POST", "/mode/test")
        await made.call("POST", "/mode/live")
        assert await made.feeds("okx") == {"ETHUSDT": "up"}
        await bus.close()


async def test_a_mode_that_is_not_configured_is_a_conflict(
    nats_server: NatsHandle, table: Table
) -> None:
    await prepare_bus([nats_server.url], NatsSettings())
    async with api(nats_server.url, table.store, modes=("live",)) as client:
        answer = await client.post("/mode/test", headers=JSON)
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "mode_not_configured"
        assert (await client.post("/mode/live", headers=JSON)).status_code == 200
        assert (await client.get("/mode")).json()["mode"] == "live"


async def test_refusals_over_http(nats_server: NatsHandle, table: Table) -> None:
    await prepare_bus([nats_server.url], NatsSettings())
    async with api(nats_server.url, table.store, modes=("live",)) as client:
        for headers, status in (
            ({}, 403),
            (JSON | {"Origin": "http://evil.example"}, 403),
            (JSON | {"Host": "evil.example"}, 403),
            (JSON | {"X-Forwarded-For": "127.0.0.1"}, 403),
        ):
            answer = await client.post("/mode/live", headers=headers)
            assert answer.status_code == status, headers
        assert (await client.get("/mode/live")).status_code == 405
        assert (await client.post("/api/v1/info", headers=JSON)).status_code == 405
    access = AccessPolicy(tokens=("read",), control_tokens=("steer",))
    async with api(nats_server.url, table.store, modes=("live",), access=access) as client:
        for token, reads, changes in (("read", 200, 403), ("steer", 200, 200), ("no", 401, 401)):
            headers = JSON | {"Authorization": f"Bearer {token}"}
            assert (await client.get("/mode", headers=headers)).status_code == reads
            assert (await client.post("/mode/live", headers=headers)).status_code == changes
        assert (await client.post("/mode/live", headers=JSON)).status_code == 401
