"""All roles as processes of their own: a trade's whole way, and an orderly end."""

import asyncio
import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.client import connect

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import OrderedReader
from tests.integration.roles.stack import ROLES, VENUES, running
from tests.support.processes import command
from tests.support.servers import NatsHandle

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(240)]


async def stream_ids(bus: Bus) -> set[tuple[str, str, str]]:
    """Return the distinct trades that JetStream accepted."""
    ids: set[tuple[str, str, str]] = set()
    async with OrderedReader(bus, subjects.RAW_STREAM, start_sequence=1) as reader:
        last = (await bus.stream_state(subjects.RAW_STREAM)).last_sequence
        read = 0
        while read < last:
            for each in await reader.next(5):
                read = each.sequence
                batch = json.loads(each.payload)
                for trade in batch.get("trades", ()):
                    ids.add((batch["exchange"], batch["symbol"], trade["id"]))
    return ids


async def test_a_trade_goes_its_whole_way(
    nats_server: NatsHandle, postgres_dsn: str, tmp_path: Path
) -> None:
    async with running(nats_server.url, postgres_dsn, tmp_path) as stack:
        for role, process in stack.roles.items():
            await process.until(partial(stack.ready, role), 60)

        seen: dict[bool, dict[str, dict[str, Any]]] = {True: {}, False: {}}
        async with connect(f"ws://127.0.0.1:{stack.ports['push-port']}/ws") as client:
            await client.send(
                json.dumps({"action": "subscribe", "topics": ["kline.*.*.1m"], "id": 1})
            )
            async with asyncio.timeout(100):
                while len(seen[True]) < len(VENUES):
                    message = json.loads(await client.recv())
                    if message["type"] == "kline":
                        candle = message["data"]
                        assert candle["simulated"] is True
                        seen[candle["closed"]][candle["exchange"]] = candle
        assert set(seen[False]) == {f"sim-{name}" for name in VENUES}

        bus = await Bus.connect([nats_server.url], name="test")
        accepted: set[tuple[str, str, str]] = set()
        for role in ROLES:
            started = time.monotonic()
            stack.roles[role].send(signal.SIGTERM)
            assert await stack.roles[role].ended(10) == 0, stack.roles[role].output
            assert time.monotonic() - started < 10
            if role == "klines":
                accepted = await stream_ids(bus)  # nothing is added any more

                async def all_acknowledged() -> bool:
                    state = await bus.consumer_state(subjects.RAW_STREAM, subjects.SAVE_DURABLE)
                    return state is not None and not state.pending and not state.unacknowledged

                await stack.roles["save"].until(all_acknowledged, 20)
        state = await bus.consumer_state(subjects.RAW_STREAM, subjects.SAVE_DURABLE)
        assert state is not None
        assert (state.pending, state.unacknowledged) == (0, 0)
        await bus.close()

        connection = await asyncpg.connect(postgres_dsn)
        try:
            rows = await connection.fetch("SELECT exchange, symbol, trade_id FROM market_trades")
            closed = await connection.fetch(
                "SELECT exchange, symbol, open_time, close FROM market_klines WHERE period = '1m'"
            )
        finally:
            await connection.close()
        assert len(rows) == len(accepted)
        assert {tuple(row) for row in rows} == accepted
        assert len({row["exchange"] for row in closed}) == len(VENUES)

        for options in ((), ("--account",)):
            arguments = ("verify", "--config", str(stack.config), *options)
            async with command(*arguments, log=tmp_path / "verify.log") as verify:
                assert await verify.ended(30) == 0, verify.output
