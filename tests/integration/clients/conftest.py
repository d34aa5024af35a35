"""A service with two live venues and days of candles, for clients others wrote."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import BlockingPortal

from market_ingestor.model.period import MINUTE_MS
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import moment
from tests.support.processes import PROJECT, command
from tests.support.servers import PostgresHandle, running_nats, short_folder

PROGRAMS = Path(__file__).parent / "programs"
CLIENTS_PYTHON = PROJECT / ".venv-clients/bin/python"
SET_UP = (
    "(. cmd/_bootstrap.sh; use_environment .venv-clients; ensure_environment requirements-clients)"
)

MINUTES = 2_500  # more than two pages of 1,000
QUIET = (100, 102)  # minutes without trades: ids go on
HOLE = (200, 210)  # minutes nobody watched
SEED = """
INSERT INTO market_klines (exchange, symbol, period, open_time, open, high, low, close, volume,
    quote_volume, buy_volume, buy_quote_volume, trade_count, first_trade_id, last_trade_id,
    complete, revision, reason)
SELECT 'sim-kraken', 'ETHUSD', '1m', $1::timestamptz + n * interval '1 minute', 2000 + n, 2001 + n,
    1999 + n, 2000 + n, 3, 6000, 1, 2000, 10, (id * 10)::text, (id * 10 + 9)::text, true, 1, 'close'
FROM generate_series(0, $2::int - 1) AS n,
    LATERAL (SELECT CASE WHEN n >= 102 THEN n - 2 ELSE n END AS id) AS ids
WHERE n NOT BETWEEN 100 AND 101 AND n NOT BETWEEN 200 AND 209
"""
SYMBOL = """
INSERT INTO market_symbols (exchange, symbol, venue_symbol, base, quote, price_step, amount_step,
    volume_kind, trade_count, first_trade_at, last_trade_at)
VALUES ('sim-kraken', 'ETHUSD', 'ETH/USD', 'ETH', 'USD', 0.01, 0.00000001, 'base', 24900, $1, $1)
"""
GAP = """
INSERT INTO market_gaps (exchange, symbol, detected_at, after_id, before_id, from_time, to_time,
    missing, state)
VALUES ('sim-kraken', 'ETHUSD', $1, '1979', '2080', $1, $2, 100, 'unfillable')
"""


class Service:
    """Where it is, and what it was given of ETH/USD.

    Attributes:
        since: When the candles of ETH/USD begin, in milliseconds.
    """

    def __init__(self, api: str, push: str, since: int) -> None:
        self.api = api
        self.push = push
        self.since = since

    @property
    def openings(self) -> list[int]:
        """Return when the candles of ETH/USD open that a client must see."""
        return [self.since + n * MINUTE_MS for n in range(MINUTES) if not HOLE[0] <= n < HOLE[1]]

    async def asked_by(self, program: str, *arguments: object) -> Any:
        """Run a program in the clients' environment and return what it printed."""
        if not CLIENTS_PYTHON.exists():
            pytest.skip(f"the clients are not installed: {SET_UP}")
        process = await asyncio.create_subprocess_exec(
            CLIENTS_PYTHON,
            PROGRAMS / program,
            *map(str, arguments),
            env={name: value for name, value in os.environ.items() if "PROXY" not in name.upper()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(100):
                printed, complaints = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, complaints.decode()
        return json.loads(printed)


def free_ports(count: int) -> list[int]:
    """Return ports that are free, all different."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture(scope="module")
async def service(
    server_portal: BlockingPortal,
    postgres_server: PostgresHandle,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Service]:
    """Run every role in test mode against simulated Kraken and Binance."""
    folder = tmp_path_factory.mktemp("clients")
    since = int(time.time()) // 60 * MINUTE_MS - (MINUTES + 100) * MINUTE_MS
    async with AsyncExitStack() as stack:
        path = stack.enter_context(short_folder())
        nats = stack.enter_context(server_portal.wrap_async_context_manager(running_nats(path)))
        dsn = postgres_server.create_database("clients")
        stack.callback(postgres_server.drop_database, "clients")
        await seeded(dsn, since)
        venues = [
            await stack.enter_async_context(SimulatedVenue(name, symbols, rate=60))
            for name, symbols in (("kraken", ["BTC/USD"]), ("binance", ["BTCUSDT"]))
        ]
        api, push, tcp, health = free_ports(4)
        config = folder / "config.toml"
        config.write_text(
            f"""
            nats = {{ servers = ["{nats.url}"] }}
            database = {{ dsn = "{dsn}" }}
            ingest = {{ mode = "test" }}
            api = {{ port = {api} }}
            gateway = {{ port = {push}, tcp_port = {tcp} }}
            metrics = {{ port = {health} }}
            """
            + "\n".join(
                f"[exchanges.sim-{venue.name}]\nsymbols = {json.dumps(list(venue.symbols))}\n"
                f'ws_url = "{venue.ws_url}"\nrest_url = "{venue.rest_url}"'
                for venue in venues
            )
        )
        process = await stack.enter_async_context(
            command("run", "--config", str(config), log=folder / "run.log")
        )
        address = f"http://127.0.0.1:{api}"

        async def trades() -> bool:
            async with httpx2.AsyncClient(trust_env=False) as client:
                try:
                    for where, symbol in (("kraken", "BTCUSD"), ("binance", "BTCUSDT")):
                        answer = await client.get(
                            f"{address}/binance/{where}/api/v3/trades", params={"symbol": symbol}
                        )
                        if answer.status_code != 200 or len(answer.json()) < 30:
                            return False
                except httpx2.HTTPError:
                    return False
            return True

        await process.until(trades, 60)
        yield Service(address, f"ws://127.0.0.1:{push}", since)


async def seeded(dsn: str, since: int) -> None:
    """Make the schema, and candles of ETH/USD on Kraken that nothing feeds any more."""
    await migrate(dsn)
    async with Database(dsn) as database:
        at = [since + n * MINUTE_MS for n in (0, HOLE[0], HOLE[1], MINUTES)]
        moments = [moment(each) for each in at]
        await database.fetch(
            "SELECT market_ensure_partitions('market_klines', $1::timestamptz[])",
            [moment(since + hour * 3_600_000) for hour in range(MINUTES // 60 + 2)],
        )
        await database.fetch(SEED, moments[0], MINUTES)
        await database.fetch(SYMBOL, moments[3])
        await database.fetch(GAP, moments[1], moments[2])
