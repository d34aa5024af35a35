"""What a role writes: structured, of changes only, repeats limited, each line with its feed."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from market_ingestor.storage.migrate import migrate
from tests.support.ports import free_ports
from tests.support.processes import Command, command
from tests.support.servers import NatsHandle

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PUBLISHED = "market_ingestor_trades_published_total{"
REJECTED = "market_ingestor_trades_rejected_total{"


def lines(process: Command) -> list[dict[str, Any]]:
    """Return every line; one that is not JSON fails here."""
    return [json.loads(line) for line in process.output.splitlines()]


def events(process: Command) -> list[str]:
    return [line["event"] for line in lines(process)]


async def total(port: int, name: str) -> float:
    """Return the sum of the series of a metric."""
    async with httpx2.AsyncClient() as client:
        try:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        except httpx2.HTTPError:
            return 0
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def test_a_feed_tells_its_story_in_few_lines_that_belong_together(
    nats_server: NatsHandle, postgres_dsn: str, tmp_path: Path
) -> None:
    await migrate(postgres_dsn)
    (port,) = free_ports(1)
    async with SimulatedVenue("binance", ["BTCUSDT"], seed=4, rate=200) as venue:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[nats]\nservers = ["{nats_server.url}"]\n[database]\ndsn = "{postgres_dsn}"\n'
            f'[ingest]\nmode = "test"\n[metrics]\nport = {port}\n'
            f'[exchanges.sim-binance]\nsymbols = ["BTCUSDT"]\nws_url = "{venue.ws_url}"\n'
            f'rest_url = "{venue.rest_url}"\n'
        )
        arguments = ("run", "ingest", "--config", str(config))
        async with command(*arguments, log=tmp_path / "log") as ingest:

            async def published(count: int) -> bool:
                return await total(port, PUBLISHED) >= count

            await ingest.until(lambda: "feed_up" in events(ingest), 60)
            quiet = len(lines(ingest))
            await ingest.until(lambda: published(400), 60)
            assert len(lines(ingest)) == quiet  # trades are no news

            for _ in range(100):
                venue.inject(Fault(fault="garbage"))

            async def rejected() -> bool:
                return await total(port, REJECTED) >= 100

            await ingest.until(rejected, 30)
            assert 1 <= Counter(events(ingest))["input_rejected"] <= 5

            venue.inject(Fault(fault="cut"))
            await ingest.until(lambda: Counter(events(ingest))["feed_up"] == 2, 30)
            ingest.send(signal.SIGTERM)
            assert await ingest.ended(20) == 0

    written = lines(ingest)
    for line in written:
        assert {"event", "level", "timestamp"} <= line.keys()
    feeds = [line["feed"] for line in written if line["event"] == "feed_up"]
    assert len(set(feeds)) == 2
    first = [line["event"] for line in written if line.get("feed") == feeds[0]]
    assert first[0] == "feed_up"
    assert {"input_rejected", "connection_ended", "connection_lost"} <= set(first)
    second = [line["event"] for line in written if line.get("feed") == feeds[1]]
    assert "feed_up" in second
    assert "connection_lost" not in second
    assert all(line["exchange"] == "sim-binance" for line in written if "feed" in line)
    assert written[-1]["event"] == "process_stopped"
