"""One running demo for all tests of the page, with an API and a gateway of their own beside it."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Browser

from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from tests.support.browser import running_browser
from tests.support.played import MINUTE_US, publishing
from tests.support.ports import free_ports
from tests.support.processes import Command, command
from tests.support.servers import short_folder
from tests.support.services import Service

# Trades of played markets end with the last full minute: their windows are closed by then.
NOW_US = int(time.time()) // 60 * MINUTE_US


class Site:
    """What the tests look at.

    Attributes:
        demo: Where the demo's own page is, all roles in one process.
        api: Where another API's page is, whose gateway can be killed.
        gateway: That gateway.
        publisher: For trades of played markets.
        bus: For what is not stored.
    """

    def __init__(
        self, demo: str, api: str, gateway: Service, publisher: Publisher, bus: Bus
    ) -> None:
        self.demo = demo
        self.api = api
        self.gateway = gateway
        self.publisher = publisher
        self.bus = bus

    async def knows(self, exchange: str, symbol: str) -> None:
        """Return when candles of a market are stored."""
        query = {"exchange": exchange, "symbol": symbol}
        async with httpx2.AsyncClient(base_url=self.api, trust_env=False) as client:

            async def is_known() -> bool:
                return (await client.get("/api/v1/klines", params=query)).is_success

            await self.gateway.command.until(is_known, 60)


async def _endpoints(running: Command, folder: Path) -> Any:
    file = folder / "endpoints.json"
    await running.until(file.exists, 60)
    await running.until(lambda: "trades/s" in running.output, 60)
    return json.loads(file.read_bytes())


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    logs = tmp_path_factory.mktemp("dashboard")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        running = await stack.enter_async_context(
            command("demo", "--data", str(folder), "--rate", "20", log=logs / "demo.log")
        )
        places = await _endpoints(running, folder)
        api_port, push_port, tcp_port, *health = free_ports(5)
        config = logs / "config.toml"
        config.write_text(
            f'[nats]\nservers = ["{places["nats"]}"]\n[database]\ndsn = "{places["dsn"]}"\n'
            f"[api]\nport = {api_port}\n[gateway]\nport = {push_port}\ntcp_port = {tcp_port}\n"
            '[ingest]\nmode = "test"\n[exchanges]\n'
        )
        services = [
            Service(role, config, port, logs)
            for role, port in zip(("api", "gateway"), health, strict=True)
        ]
        for each in services:
            stack.push_async_callback(each.kill)
            await each.start()
        for each in services:
            await each.ready()
        publisher = await stack.enter_async_context(publishing(places["nats"]))
        bus = await Bus.connect([places["nats"]], name="test")
        stack.push_async_callback(bus.close)
        yield Site(places["api"], f"http://127.0.0.1:{api_port}", services[1], publisher, bus)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running
