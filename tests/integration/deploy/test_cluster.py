"""Three NATS nodes, every stream on each: one may die under load and nothing is lost."""

import json
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.simulator import SimulatedVenue
from tests.support.cluster import NODES, cluster
from tests.support.processes import command
from tests.support.servers import short_folder

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(240)]

VENUES = ("binance", "okx")
STORED = "SELECT count(*) FROM market_trades"
HOLES = """
    SELECT exchange, symbol, max(trade_id::bigint) - min(trade_id::bigint) + 1 - count(*) AS holes
    FROM market_trades GROUP BY exchange, symbol
"""


async def test_a_node_of_three_dies_under_load_and_nothing_is_lost(
    postgres_dsn: str, tmp_path: Path
) -> None:
    with short_folder() as folder:
        async with (
            cluster(folder) as nodes,
            SimulatedVenue("binance", seed=5, rate=300) as binance,
            SimulatedVenue("okx", seed=6, rate=300) as okx,
        ):
            config = tmp_path / "config.toml"
            lines = [
                f"[nats]\nservers = {json.dumps(nodes.servers)}\nreplicas = 3",
                f'[database]\ndsn = "{postgres_dsn}"\nmigrate_on_start = true',
                '[ingest]\nmode = "test"\n[metrics]\nport = 0',
            ]
            lines += [
                f"[exchanges.sim-{venue.name}]\nsymbols = {json.dumps(venue.symbols[:2])}\n"
                f'ws_url = "{venue.ws_url}"\nrest_url = "{venue.rest_url}"'
                for venue in (binance, okx)
            ]
            config.write_text("\n".join(lines))
            chosen = ("--config", str(config))
            async with (
                command("run", "ingest", *chosen, log=tmp_path / "ingest.log") as ingest,
                command("run", "klines", "save", *chosen, log=tmp_path / "rest.log") as rest,
            ):
                connection = await asyncpg.connect(postgres_dsn)

                async def stored() -> int:
                    try:
                        return int(await connection.fetchval(STORED))
                    except asyncpg.UndefinedTableError:
                        return 0

                async def stored_beyond(count: int) -> bool:
                    return await stored() > count

                await rest.until(lambda: stored_beyond(300), 60)
                bus = await Bus.connect(nodes.servers, name="test")

                async def replicas() -> dict[str, Any]:
                    try:
                        answer = await bus.api(f"STREAM.INFO.{subjects.RAW_STREAM}")
                    except TROUBLE:
                        return {}
                    return dict(answer["cluster"])

                leader = str((await replicas())["leader"])
                assert leader in NODES
                await nodes.kill(leader)
                # The two others choose a leader among them, and everything goes on.
                before = await stored()
                await rest.until(lambda: stored_beyond(before + 1_500), 60)
                assert (await replicas())["leader"] != leader

                await nodes.start(leader)

                async def whole_again() -> bool:
                    others = (await replicas()).get("replicas", ())
                    return len(others) == 2 and all(each["current"] for each in others)

                await rest.until(whole_again, 60)
                ingest.send(signal.SIGTERM)
                assert await ingest.ended(20) == 0, ingest.output

                async def all_saved() -> bool:
                    state = await bus.consumer_state(subjects.RAW_STREAM, subjects.SAVE_DURABLE)
                    return state is not None and not state.pending and not state.unacknowledged

                await rest.until(all_saved, 30)
                await bus.close()
                rest.send(signal.SIGTERM)
                assert await rest.ended(20) == 0, rest.output

            # The venues number their trades one by one: what lies between first and last was sent.
            rows = await connection.fetch(HOLES)
            assert {row["exchange"] for row in rows} == {f"sim-{name}" for name in VENUES}
            assert all(row["holes"] == 0 for row in rows), [dict(row) for row in rows]
            await connection.close()
            for options in ((), ("--account",)):
                arguments = ("verify", *chosen, *options)
                async with command(*arguments, log=tmp_path / "verify.log") as verify:
                    assert await verify.ended(60) == 0, verify.output
