"""Recorded frames through the whole service: every row, every digit of every candle."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.support.processes import Command, command
from tests.support.recorded import (
    BINANCE_FRAMES,
    binance_trades,
    candles,
    needs_binance_frames,
)
from tests.support.servers import short_folder

Connection: TypeAlias = "asyncpg.Connection[Any]"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.xdist_group("demo"),  # two demos at once would race for the usual ports
    pytest.mark.slow,
    needs_binance_frames,
    pytest.mark.timeout(300),
]

TRADES = 3_144
FIRST_WHOLE = 1_680_652_800_000  # 2023-04-05 00:00 UTC
LAST_OPENED = FIRST_WHOLE + 6 * 60_000  # the tape ends within this minute
MINUTE_MS = 60_000


@asynccontextmanager
async def demo(folder: Path, log: Path) -> AsyncIterator[tuple[Command, Connection]]:
    arguments = ("demo", "--data", str(folder), "--frames", f"binance={BINANCE_FRAMES}")
    async with command(*arguments, log=log) as running:
        endpoints = folder / "endpoints.json"
        endpoints.unlink(missing_ok=True)
        await running.until(endpoints.exists, 60)
        dsn = json.loads(endpoints.read_bytes())["dsn"]

        async def has_schema() -> bool:
            connection = await asyncpg.connect(dsn)
            try:
                found = await connection.fetchval("SELECT to_regclass('market_klines')")
                return found is not None
            finally:
                await connection.close()

        await running.until(has_schema, 60)
        connection = await asyncpg.connect(dsn)
        try:
            yield running, connection
        finally:
            await connection.close()


async def stopped(running: Command) -> None:
    running.send(signal.SIGTERM)
    assert await running.ended(20) == 0, running.output


async def stored_candles(connection: Connection) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        "SELECT *, (extract(epoch FROM open_time) * 1000)::bigint AS opened"
        " FROM market_klines ORDER BY period, open_time"
    )
    return [dict(row) for row in rows]


async def trades_digest(connection: Connection) -> Any:
    return await connection.fetchrow(
        "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY length(trade_id), trade_id))"
        " FROM market_trades t"
    )


def check_candles(rows: list[dict[str, Any]], period: str, minutes: int) -> int:
    """Compare every stored candle of a period, field by field; return how many there were."""
    expected = candles(binance_trades(), minutes)
    mine = [row for row in rows if row["period"] == period]
    for row in mine:
        for field, value in expected[row["opened"]].items():
            assert row[field] == value, (period, row["opened"], field)
    return len(mine)


async def test_recorded_trades_become_exactly_their_candles(tmp_path: Path) -> None:
    with short_folder() as folder:
        async with demo(folder, tmp_path / "first.log") as (running, database):

            async def all_stored() -> bool:
                stored = await database.fetchval("SELECT count(*) FROM market_trades")
                closed = await database.fetchval(
                    "SELECT count(*) FROM market_klines WHERE period = '1m'"
                )
                return bool(stored == TRADES and closed == 8)  # 23:59 and 00:00 .. 00:06

            await running.until(all_stored, 90)
            rows = await stored_candles(database)
            assert check_candles(rows, "1m", 1) == 8
            assert check_candles(rows, "5m", 5) >= 2
            incomplete = [row["opened"] for row in rows if row["period"] == "1m"
                          and not row["complete"]]  # fmt: skip
            assert incomplete == [FIRST_WHOLE - MINUTE_MS]  # cut by the start of the recording
            (five,) = [
                row for row in rows if row["period"] == "5m" and row["opened"] == FIRST_WHOLE
            ]
            assert (five["open"], five["high"], five["low"], five["close"]) == (
                Decimal("28165.47"),
                Decimal("28168.76"),
                Decimal("28155.21"),
                Decimal("28156.07"),
            )
            assert (five["volume"], five["trade_count"]) == (Decimal("83.42189"), 2363)
            ids = await database.fetch("SELECT trade_id, price, amount, side FROM market_trades")
            assert {(int(r["trade_id"]), r["price"], r["amount"], r["side"]) for r in ids} == {
                (trade.id, trade.price, trade.amount, trade.side) for trade in binance_trades()
            }
            first_digest = await trades_digest(database)
            await stopped(running)

        async with demo(folder, tmp_path / "second.log") as (running, database):

            async def is_flowing() -> bool:
                # The saver has committed again once the marks of the new feed are acknowledged.
                return "trades/s" in running.output

            await running.until(is_flowing, 60)
            await running.until(lambda: running.output.count("trades/s") >= 5, 30)
            assert await trades_digest(database) == first_digest
            again = {(row["period"], row["opened"]): row for row in await stored_candles(database)}
            for row in rows:
                assert again[row["period"], row["opened"]] == row
            await stopped(running)
