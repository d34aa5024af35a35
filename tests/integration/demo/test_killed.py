"""The demo killed without warning: the next one ends what is left of it and loses nothing."""

import json
import signal
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.support.processes import Command, command
from tests.support.servers import short_folder

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.xdist_group("demo"),  # two demos at once would race for the usual ports
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

HOLES = """
SELECT exchange, symbol, max(trade_id::bigint) - min(trade_id::bigint) + 1 - count(*) AS missing
FROM market_trades WHERE received_at < now() - interval '2 seconds' AND exchange <> 'sim-bybit'
GROUP BY exchange, symbol
"""  # two writers may commit neighbouring batches in either order; Bybit's 60 trades are soon gone


async def rows_of(running: Command, folder: Path, at_least: int) -> str:
    """Wait until the demo has stored so many trades; return its DSN."""
    endpoints = folder / "endpoints.json"
    await running.until(endpoints.exists, 60)
    dsn = str(json.loads(endpoints.read_bytes())["dsn"])

    async def enough() -> bool:
        try:
            connection = await asyncpg.connect(dsn)
        except OSError:
            return False
        try:
            stored = await connection.fetchval("SELECT count(*) FROM market_trades")
        except asyncpg.UndefinedTableError:
            return False
        finally:
            await connection.close()
        return bool(stored >= at_least)

    await running.until(enough, 60)
    return dsn


async def fetch(dsn: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def control(api: str, method: str, path: str) -> Any:
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.request(method, api + path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def feeds(api: str) -> set[tuple[str, str]]:
    page = await control(api, "GET", "/api/v1/subscriptions")
    return {(each["exchange"], each["symbol"]) for each in page["data"]["data"] if each["feed"]}


async def commands_work(folder: Path, logs: Path) -> None:
    """Run commands with the settings that the demo wrote."""
    config = folder / "config.toml"
    assert config.stat().st_mode & 0o777 == 0o600
    for words in (("check",), ("verify",), ("verify", "--account")):
        arguments = (*words, "--config", str(config))
        async with command(*arguments, log=logs / f"{'-'.join(words)}.log") as running:
            assert await running.ended(60) == 0, running.output


async def test_a_killed_demo_goes_on_where_it_was(tmp_path: Path) -> None:
    with short_folder() as folder:
        arguments = ("demo", "--data", str(folder), "--rate", "100")
        async with command(*arguments, log=tmp_path / "first.log") as first:
            dsn = await rows_of(first, folder, 1_000)
            assert (folder / "endpoints.json").stat().st_mode & 0o777 == 0o600
            api = str(json.loads((folder / "endpoints.json").read_bytes())["api"])
            assert (await control(api, "POST", "/mode/test"))["mode"] == "test"
            carried = await feeds(api)
            dropped = next(each for each in carried if each[0] == "sim-kraken")
            # In test mode the venue's own name means its simulation.
            await control(api, "DELETE", f"/api/v1/subscriptions/kraken/{dropped[1].lower()}")
            assert await feeds(api) == carried - {dropped}
            before = {tuple(row) for row in await fetch(dsn, "TABLE market_trades")}
            first.send(signal.SIGKILL)
            await first.ended(10)
        (folder / "endpoints.json").unlink()
        async with command(*arguments, log=tmp_path / "second.log") as second:
            dsn = await rows_of(second, folder, len(before) + 1_000)
            after = {tuple(row) for row in await fetch(dsn, "TABLE market_trades")}
            assert before <= after
            api = str(json.loads((folder / "endpoints.json").read_bytes())["api"])

            async def are_as_before() -> bool:
                return await feeds(api) == carried - {dropped}

            await second.until(are_as_before, 30)

            async def has_no_hole() -> bool:
                # What was in flight at the kill comes back over REST within moments.
                return all(not row["missing"] for row in await fetch(dsn, HOLES))

            await second.until(has_no_hole, 30)
            assert len(await fetch(dsn, HOLES)) >= 5

            async def are_filled() -> bool:  # which is said after it was done
                gaps = await fetch(dsn, "SELECT exchange FROM market_gaps WHERE state <> 'filled'")
                return {row["exchange"] for row in gaps} <= {"sim-bybit"}

            await second.until(are_filled, 30)
            await commands_work(folder, tmp_path)
            second.send(signal.SIGTERM)
            assert await second.ended(20) == 0, second.output
            assert "the same command goes on" in second.output


async def test_a_second_demo_on_the_same_folder_names_the_first(tmp_path: Path) -> None:
    with short_folder() as folder:
        arguments = ("demo", "--data", str(folder))
        async with command(*arguments, log=tmp_path / "first.log") as first:
            await first.until((folder / "endpoints.json").exists, 60)
            async with command(*arguments, log=tmp_path / "second.log") as second:
                assert await second.ended(20) == 1
                assert str(first.process.pid) in second.output
            first.send(signal.SIGTERM)
            assert await first.ended(20) == 0, first.output


async def test_a_demo_ends_by_itself_after_its_duration(tmp_path: Path) -> None:
    with short_folder() as folder:
        arguments = ("demo", "--data", str(folder), "--duration", "3")
        async with command(*arguments, log=tmp_path / "demo.log") as running:
            assert await running.ended(60) == 0, running.output
            assert "trades/s" in running.output
            assert "does not exist" not in running.output  # tables stand before anybody asks them
