"""All roles with TLS, a NATS user each, tokens and marked secrets, watched by a Prometheus."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest
import yaml
from websockets.asyncio.client import connect

from tests.integration.deploy.production import (
    DEPLOY,
    ROLES,
    VENUE,
    Production,
    production,
)
from tests.support.ports import free_ports
from tests.support.processes import program
from tests.support.servers import PostgresHandle, short_folder
from tests.support.tools import needs, run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("production"),  # one worker, one stack
    needs("openssl"),
]


@pytest.fixture(scope="module")
async def stack(postgres_server: PostgresHandle) -> AsyncIterator[tuple[Production, str]]:
    dsn = await asyncio.to_thread(postgres_server.create_database, "production")
    with short_folder() as folder:
        async with production(dsn, folder) as running:
            yield running, dsn
    await asyncio.to_thread(postgres_server.drop_database, "production")


async def test_every_role_works_with_its_own_rights_over_tls(stack: tuple[Production, str]) -> None:
    running, dsn = stack
    token = running.secrets[0]
    url = f"ws://127.0.0.1:{running.ports['push-port']}/ws"
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        topics = [f"kline.{VENUE}.*.1m", f"trade.{VENUE}.*", f"stats.{VENUE}.*"]
        await client.send(json.dumps({"action": "subscribe", "topics": topics}))
        seen: set[str] = set()
        async with asyncio.timeout(30):
            while not seen >= {"kline", "trades", "stats"}:
                seen.add(json.loads(await client.recv())["type"])
    connection = await asyncpg.connect(dsn)

    async def stored() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM market_trades"))

    assert await running.roles["save"].until(stored, 30) > 0
    await connection.close()
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
        port = running.ports["api-port"]
        answer = await http.get(f"http://127.0.0.1:{port}/api/v1/trades/BTCUSDT?exchange={VENUE}")
    assert answer.status_code == 200, answer.text
    for name, text in running.output().items():
        assert "ermissions" not in text, f"{name}: {text}"
        assert "Traceback" not in text, f"{name}: {text}"


async def test_the_containers_health_check_tells_a_living_role(
    stack: tuple[Production, str],
) -> None:
    async def status(port: int) -> int:
        script = str(DEPLOY / "healthcheck.py")
        env = {"MARKET_INGESTOR_METRICS__PORT": str(port)}
        process = await asyncio.create_subprocess_exec(sys.executable, script, env=env)
        return await process.wait()

    assert await status(stack[0].ports["klines"]) == 0
    (nobody,) = free_ports(1)
    assert await status(nobody) == 1


@needs("promtool")
@pytest.mark.parametrize("role", ROLES)
async def test_promtool_finds_nothing_wrong(stack: tuple[Production, str], role: str) -> None:
    scraped = await stack[0].get(role, "/metrics")
    assert not run("promtool", "check", "metrics", text=scraped.text)


@needs("prometheus")
async def test_prometheus_scrapes_every_role_and_nothing_alarms(
    stack: tuple[Production, str], tmp_path: Path
) -> None:
    running, _ = stack
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    assert len(job["static_configs"][0]["targets"]) == len(ROLES)
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{running.ports[role]}" for role in ROLES]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yaml")]
    (tmp_path / "prometheus.json").write_text(json.dumps(config))
    (port,) = free_ports(1)
    arguments = (
        f"--config.file={tmp_path / 'prometheus.json'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    log = tmp_path / "prometheus.log"
    async with (
        program("prometheus", *arguments, log=log) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client,
    ):

        async def ask(expression: str) -> list[dict[str, dict[str, str]]]:
            try:
                answer = await client.get("/query", params={"query": expression})
            except httpx2.HTTPError:
                return []
            if not answer.is_success:  # it answers before it can
                return []
            return list(answer.json()["data"]["result"])

        async def all_up() -> bool:
            return len(await ask('up{job="market-ingestor"} == 1')) == len(ROLES)

        await server.until(all_up, 30)
        roles = await ask("count by (instance) (market_ingestor_build_info)")
        assert len(roles) == len(ROLES)
        folded = "sum(trade_process_total) > 0"
        await server.until(lambda: ask(folded), 20)
        rules = (await client.get("/rules")).json()["data"]["groups"]
        states = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
        assert set(states.values()) <= {"ok", "unknown"}, states
        assert await ask('ALERTS{alertstate="firing"}') == []


async def test_no_secret_is_written_or_served_anywhere(stack: tuple[Production, str]) -> None:
    """The last test of the stack: it ends the roles, so that what an end writes is read too."""
    running, _ = stack
    api = f"http://127.0.0.1:{running.ports['api-port']}"
    served = []
    async with httpx2.AsyncClient() as client:
        for token in (running.secrets[0] + "x", "wrong"):  # refusals must not repeat what was given
            headers = {"Authorization": f"Bearer {token}"}
            refused = await client.get(f"{api}/api/v1/symbols", headers=headers)
            assert refused.status_code == 401
            served.append(refused.text)
    for path in ("/health", "/metrics"):
        served += [(await running.get(role, path)).text for role in ROLES]
    for role, process in running.roles.items():
        process.send(signal.SIGTERM)
        assert await process.ended(20) == 0, f"{role}: {process.output}"
    written = running.output()
    assert set(written) >= set(ROLES)
    for secret in running.secrets:
        for name, text in written.items():
            assert secret not in text, f"{name} wrote a secret"
        assert not any(secret in text for text in served)
    assert len(set(running.secrets)) == 10
