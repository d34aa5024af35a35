"""The running service does what its OpenAPI document says, whatever it is asked."""

import asyncio
import shutil
import sysconfig
import time
from pathlib import Path

import pytest

from market_ingestor.model.trade import Trade
from tests.integration.api.harness import Table, api, eventually
from tests.integration.api.test_prices import Recorded, mark, publish
from tests.integration.push.harness import kline, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

# Wrong methods are the router's: one of them an operation is enough. Binance says 400 where others
# say 404, and has each path twice for the same handler; so have prices.
CONFIG = """
[phases.coverage]
unexpected-methods = ["TRACE"]

[[operations]]
include-path-regex = "^/(api/v3|fapi|dapi|prices/highest|prices/lowest)/"
enabled = false

[[operations]]
include-path-regex = "^/binance/"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404"]
"""
EXAMPLES = 4  # of each operation and phase: a few hundred requests, seconds


@pytest.mark.slow
@pytest.mark.timeout(300)  # it is given twelve hundred questions to ask
async def test_schemathesis_finds_nothing(
    nats_server: NatsHandle, table: Table, tmp_path: Path
) -> None:
    """Every status documented, every body of its schema, nothing refused that should be taken."""
    recorded = Recorded(table)
    await recorded.save("binance", recorded.trades(300, 3_600_000_000, 1))
    await recorded.fold(recorded.now_us - 2_000_000)
    await table.klines(*(kline(n) for n in range(20)))
    await table.symbol(at_ms=recorded.now_us // 1_000 - 3_600_000)
    for n in range(20):
        await table.gap(n)
    async with market(nats_server.url) as bus, api(nats_server.url, table.store) as client:
        fresh = Trade[str](
            id="9999", price="1.5", amount="2", side=None, time_us=time.time_ns() // 1_000
        )
        await publish(bus, "binance", [fresh])
        await mark(bus)

        async def is_served() -> bool:
            return (await client.get("/prices/average/binance/BTCUSDT")).status_code == 200

        await eventually(is_served)
        program = shutil.which("schemathesis", path=sysconfig.get_path("scripts"))
        assert program is not None
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        running = await asyncio.create_subprocess_exec(
            program, "run", f"{client.base_url}/openapi.json",
            "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1",
            "--phases", "coverage,fuzzing", "--no-color", "--workers", "2",
            "--request-timeout", "10", "--generation-database", "none",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await running.communicate()
    assert running.returncode == 0, said.decode()[-20_000:]
