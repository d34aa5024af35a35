"""Candles equal the trades, and what a push client collected equals the candles."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from market_ingestor.storage.timescale import Database
from market_ingestor.storage.verify import SETTLE_S, verify
from tests.faults.collector import Collector, Window
from tests.faults.world import World
from tests.support.processes import command

SETTLED_S: Final = 5.0  # nothing has happened for longer than that when it is checked
EXAMPLES: Final = 5
COMMAND_S: Final = 900.0  # for a look at millions of trades
NUMBERS: Final = (
    "open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "buy_quote_volume",
)  # fmt: skip
FACTS: Final = ("trade_count", "first_trade_id", "last_trade_id", "complete", "reason")

_VERSIONS: Final = f"""
SELECT exchange, symbol, period, (extract(epoch FROM open_time) * 1000)::bigint AS open_ms,
    revision, {", ".join((*NUMBERS, *FACTS))}
FROM market_kline_revisions
"""  # noqa: S608 - the names above
_NEWEST: Final = """
SELECT k.exchange, k.symbol, k.period, k.open_time, k.revision, max(r.revision) AS newest,
    count(r.revision) AS versions
FROM market_klines AS k
LEFT JOIN market_kline_revisions AS r USING (exchange, symbol, period, open_time)
GROUP BY 1, 2, 3, 4, 5 HAVING k.revision <> max(r.revision) OR count(r.revision) <> k.revision
"""


async def differences(world: World) -> tuple[int, list[str]]:
    """Recompute every candle that has settled; return how many there are and what differs."""
    now = datetime.now(UTC) + timedelta(seconds=SETTLE_S - SETTLED_S)
    async with Database(world.servers.dsn, statement_timeout_s=None) as database:
        report = await verify(database, now=now)
    found = [str(each) for each in (*report.differences, *report.unclosed)]
    return report.compared, found


async def commands(world: World) -> list[str]:
    """Run `verify` and `verify --account` as an operator would; return what they complain of."""
    problems: list[str] = []
    for options in ((), ("--account",)):
        arguments = ("verify", "--config", str(world.config), *options)
        async with command(*arguments, log=world.folder / "verify.log") as running:
            if await running.ended(COMMAND_S) != 0:
                problems.append(f"verify {' '.join(options)}: {running.output[-2000:]}")
    return problems


async def pushed(session: asyncpg.Connection, collector: Collector) -> list[str]:
    """Compare every version in the tables with what the client got."""
    problems = list(collector.wrong)
    stored: dict[tuple[Window, int], Any] = {}
    for row in await session.fetch(_VERSIONS):
        stored[(row["exchange"], row["symbol"], row["period"], row["open_ms"]), row["revision"]] = (
            row
        )
    got = collector.versions
    missing, extra = sorted(stored.keys() - got.keys()), sorted(got.keys() - stored.keys())
    if missing:
        problems.append(f"{len(missing)} versions never reached the client: {missing[:EXAMPLES]}")
    if extra:
        problems.append(f"{len(extra)} versions are in no table: {extra[:EXAMPLES]}")
    other = [key for key in stored.keys() & got.keys() if not _is_same(stored[key], got[key])]
    problems += [f"{key}: {dict(stored[key])} was pushed as {got[key]}" for key in other[:EXAMPLES]]
    rows = await session.fetch(_NEWEST)
    problems += [f"revisions are not 1..n: {dict(row)}" for row in rows[:EXAMPLES]]
    return problems


def _is_same(row: Any, candle: dict[str, Any]) -> bool:
    numbers = all(f"{row[name]:f}" == candle[name] for name in NUMBERS)
    return numbers and all(row[name] == candle[name] for name in FACTS)
