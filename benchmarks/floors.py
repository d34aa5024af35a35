"""The stages' floors in processor time per trade, of bare processes: what the whole could cost.

Received: frames of the same load read and dropped by a process of its own. Folded: messages as
large as the service made them, decoded and folded bare (`bench_fold.floor`). Stored: the same
trades' rows as ready text, by bare COPY into the same tables, PostgreSQL's own time included. What
the bus, its clients and the push gateway must do at least is left out, so the sum is low.
"""

import asyncio
import io
import time
from collections.abc import Sequence
from typing import Final

import asyncpg

from benchmarks import bench_fold
from benchmarks.batches import Message, batches
from benchmarks.bench_store import COLUMNS, rows_of
from benchmarks.programs import Load, all_trades, loaded_venues, own_program
from benchmarks.system import System
from benchmarks.usage import spent, usage
from market_ingestor.storage.migrate import migrate

WARM_UP_S: Final = 1.0
BATCH_ROWS: Final = 5_000
SYMBOLS: Final = 100
WAIT_S: Final = 30.0


async def floors_us(
    system: System, *, rate: float, seconds: float, trades: int, per_message: int
) -> dict[str, float]:
    """Return the microseconds per trade of each stage.

    Args:
        rate: Trades a second that are received for ``seconds``.
        trades: How many are folded and stored, so many ``per_message``.
    """
    messages = batches(trades, per_message, symbol_count=SYMBOLS, span_s=40)
    return {
        "receive": await _received_us(system, rate, seconds),
        "fold": _folded_us(messages, trades),
        "store": await _stored_us(system, messages, trades),
    }


async def _received_us(system: System, rate: float, seconds: float) -> float:
    load = Load(venues=("binance",), symbols=SYMBOLS, prebuilt=True)
    log = system.folder / "receive.log"
    async with loaded_venues(system.folder, load) as venues:
        address = all_trades(venues.ports["binance"], load)
        async with own_program(log, "hops", "receive", address) as reader:
            await reader.until(lambda: reader.output, WAIT_S)
            await venues.set_rate(rate)
            await asyncio.sleep(min(WARM_UP_S, seconds))
            pids = {"reader": reader.process.pid}
            before, sent = usage(pids), await venues.trades_sent()
            await asyncio.sleep(seconds)
            used_s = spent(before, usage(pids))["reader"]
            return used_s / (await venues.trades_sent() - sent) * 1e6


def _folded_us(messages: list[Message], trades: int) -> float:
    began = time.process_time()
    bench_fold.floor(messages)
    return (time.process_time() - began) / trades * 1e6


async def _stored_us(system: System, messages: Sequence[Message], trades: int) -> float:
    lines = ["\t".join(map(str, row)) + "\n" for row in rows_of(messages)]
    texts = [
        "".join(lines[at : at + BATCH_ROWS]).encode() for at in range(0, len(lines), BATCH_ROWS)
    ]
    dsn = await system.servers.postgres.create_database("floor")
    await migrate(dsn)
    session = await asyncpg.connect(dsn)
    try:
        pids = {"postgres": system.servers.postgres.pid}
        before, own = usage(pids), time.process_time()
        for text in texts:
            source = io.BytesIO(text)
            await session.copy_to_table("market_trades", source=source, columns=COLUMNS)
        own = time.process_time() - own
        return (own + spent(before, usage(pids))["postgres"]) / trades * 1e6
    finally:
        await session.close()
