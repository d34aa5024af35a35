"""Three NATS nodes, every stream on each: one may die under load, roles may restart in turn."""

import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.simulator import SimulatedVenue
from tests.support.cluster import NODES, Cluster, cluster
from tests.support.processes import Command, command
from tests.support.servers import short_folder

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

STORED = "SELECT count(*) FROM market_trades"
HOLES = """
    SELECT exchange, symbol, max(trade_id::bigint) - min(trade_id::bigint) + 1 - count(*) AS holes
    FROM market_trades GROUP BY exchange, symbol
"""
END_S = 20  # beyond the ten seconds that a role gives itself


class Service:
    """Processes of roles on a cluster, and what can be seen of them from outside."""

    def __init__(self, nodes: Cluster, dsn: str, folder: Path, stack: AsyncExitStack) -> None:
        self.nodes = nodes
        self.config = folder / "config.toml"
        self._dsn = dsn
        self._folder = folder
        self._stack = stack
        self._started = 0

    def configure(self, venues: Sequence[SimulatedVenue]) -> None:
        lines = [
            f"[nats]\nservers = {json.dumps(self.nodes.servers)}\nreplicas = 3",
            f'[database]\ndsn = "{self._dsn}"\nmigrate_on_start = true',
            '[ingest]\nmode = "test"\n[metrics]\nport = 0',
        ]
        lines += [
            f"[exchanges.sim-{venue.name}]\nsymbols = {json.dumps(venue.symbols[:2])}\n"
            f'ws_url = "{venue.ws_url}"\nrest_url = "{venue.rest_url}"'
            for venue in venues
        ]
        self.config.write_text("\n".join(lines))

    async def start(self, *roles: str) -> Command:
        self._started += 1
        log = self._folder / f"{self._started}.log"
        running = command("run", *roles, "--config", str(self.config), log=log)
        return await self._stack.enter_async_context(running)

    async def connect(self) -> None:
        """Look at it from now on; NATS must be there."""
        self.database = await asyncpg.connect(self._dsn)
        self._stack.push_async_callback(self.database.close)
        self.bus = await Bus.connect(self.nodes.servers, name="test")
        self._stack.push_async_callback(self.bus.close)

    async def stored(self) -> int:
        try:
            return int(await self.database.fetchval(STORED))
        except asyncpg.UndefinedTableError:
            return 0

    async def raw_replicas(self) -> dict[str, Any]:
        """Return who leads MARKET_RAW and who follows; nothing while nobody knows."""
        try:
            answer = await self.bus.api(f"STREAM.INFO.{subjects.RAW_STREAM}")
        except TROUBLE:
            return {}
        return dict(answer["cluster"])

    async def is_whole(self) -> bool:
        followers = (await self.raw_replicas()).get("replicas", ())
        return len(followers) == 2 and all(each["current"] for each in followers)

    async def is_saved(self) -> bool:
        state = await self.bus.consumer_state(subjects.RAW_STREAM, subjects.SAVE_DURABLE)
        return state is not None and not state.pending and not state.unacknowledged

    async def go_on(self, saver: Command, count: int) -> None:
        """Wait until so many more trades are stored."""
        wanted = await self.stored() + count

        async def is_enough() -> bool:
            return await self.stored() >= wanted

        await saver.until(is_enough, 90)


@asynccontextmanager
async def service(dsn: str, tmp_path: Path) -> AsyncIterator[Service]:
    with short_folder() as folder:
        async with (
            cluster(folder) as nodes,
            SimulatedVenue("binance", seed=5, rate=300) as binance,
            SimulatedVenue("okx", seed=6, rate=300) as okx,
            AsyncExitStack() as stack,
        ):
            running = Service(nodes, dsn, tmp_path, stack)
            running.configure([binance, okx])
            yield running


async def end(process: Command) -> None:
    process.send(signal.SIGTERM)
    assert await process.ended(END_S) == 0, process.output


async def test_a_node_dies_and_roles_restart_in_turn_under_load_and_nothing_is_lost(
    postgres_dsn: str, tmp_path: Path
) -> None:
    async with service(postgres_dsn, tmp_path) as running:
        ingest, rest = await running.start("ingest"), await running.start("klines", "save")
        await running.connect()
        await running.go_on(rest, 300)

        leader = str((await running.raw_replicas())["leader"])
        assert leader in NODES
        await running.nodes.kill(leader)
        await running.go_on(rest, 1_500)  # the two others have chosen a leader among them
        assert (await running.raw_replicas())["leader"] != leader
        await running.nodes.start(leader)
        await rest.until(running.is_whole, 90)

        await end(rest)  # a rolling restart: readers before writers, while trades go on
        rest = await running.start("klines", "save")
        await running.go_on(rest, 300)
        await end(ingest)
        ingest = await running.start("ingest")
        await running.go_on(rest, 600)

        await end(ingest)
        await rest.until(running.is_saved, 60)
        await end(rest)

        # The venues number their trades one by one: what lies between first and last was sent.
        rows = await running.database.fetch(HOLES)
        assert {row["exchange"] for row in rows} == {"sim-binance", "sim-okx"}
        assert all(row["holes"] == 0 for row in rows), [dict(row) for row in rows]
        for options in ((), ("--account",)):
            arguments = ("verify", "--config", str(running.config), *options)
            async with command(*arguments, log=tmp_path / "verify.log") as verify:
                assert await verify.ended(60) == 0, verify.output
