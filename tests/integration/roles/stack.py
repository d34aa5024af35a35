"""All roles as processes of their own, on simulated venues."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from market_ingestor.simulator import SimulatedVenue
from tests.support.http import local_client
from tests.support.ports import free_ports
from tests.support.processes import Command, command

VENUES = ("binance", "okx", "bybit", "coinbase", "kraken")
ROLES = ("ingest", "klines", "save", "gateway", "api")


class Stack:
    """Simulated venues in this process, and one process per role."""

    def __init__(
        self,
        roles: dict[str, Command],
        ports: dict[str, int],
        config: Path,
        venues: Sequence[SimulatedVenue],
    ) -> None:
        self.venues = venues
        self.roles = roles
        self.ports = ports
        self.config = config

    async def ready(self, role: str) -> bool:
        async with local_client() as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.ports[role]}/health/ready")
            except httpx2.HTTPError:
                return False
            return answer.status_code == 200

    async def health(self, role: str) -> dict[str, Any]:
        async with local_client() as client:
            answer = await client.get(f"http://127.0.0.1:{self.ports[role]}/health")
            return dict(answer.json())


@asynccontextmanager
async def running(
    nats_url: str, dsn: str, tmp_path: Path, *, venues: Sequence[str] = VENUES
) -> AsyncIterator[Stack]:
    names = (*ROLES, "api-port", "push-port", "tcp-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    async with AsyncExitStack() as stack:
        lines = [
            f'[nats]\nservers = ["{nats_url}"]',
            f'[database]\ndsn = "{dsn}"\nmigrate_on_start = true',
            '[ingest]\nmode = "test"',
            f"[gateway]\nport = {ports['push-port']}\ntcp_port = {ports['tcp-port']}",
            f"[api]\nport = {ports['api-port']}",
        ]
        simulated = []
        for name in venues:
            venue = await stack.enter_async_context(SimulatedVenue(name, seed=7, rate=40))
            simulated.append(venue)
            lines.append(
                f"[exchanges.sim-{name}]\nsymbols = {json.dumps(venue.symbols[:3])}\n"
                f'ws_url = "{venue.ws_url}"\nrest_url = "{venue.rest_url}"'
            )
        config = tmp_path / "config.toml"
        config.write_text("\n".join(lines))
        roles = {
            role: await stack.enter_async_context(
                command(
                    "run",
                    role,
                    "--config",
                    str(config),
                    log=tmp_path / f"{role}.log",
                    env={"MARKET_INGESTOR_METRICS__PORT": str(ports[role])},
                )
            )
            for role in ROLES
        }
        yield Stack(roles, ports, config, simulated)
