"""The role ``api`` on real servers, and what puts rows where the savers would."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2

from market_ingestor.api.app import ApiOptions
from market_ingestor.api.control import APPLY_S_MAX, Control
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.role import ApiRole
from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import Bus
from market_ingestor.model.control import Mode
from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import Trade, TradeBatch
from market_ingestor.storage.read_store import DatabaseReadStore
from market_ingestor.storage.timescale import Database
from tests.integration.push.harness import START, Market

INSERT_KLINE = """
INSERT INTO {table} (exchange, symbol, period, open_time, open, high, low, close, volume,
    quote_volume, buy_volume, buy_quote_volume, trade_count, first_trade_id, last_trade_id,
    complete, revision, reason)
VALUES ($1, $2, $3, $4, $5::text::numeric, $6::text::numeric, $7::text::numeric,
    $8::text::numeric, $9::text::numeric, $10::text::numeric, $11::text::numeric,
    $12::text::numeric, $13, $14, $15, $16, $17, $18)
"""
INSERT_TRADE = """
INSERT INTO market_trades (exchange, symbol, trade_id, time, price, amount, side, received_at)
VALUES ($1, $2, $3, $4, $5::text::numeric, $6::text::numeric, $7, $4)
"""
PARTITIONS = "SELECT market_ensure_partitions($1, ARRAY[$2::timestamptz])"
INSERT_SYMBOL = """
INSERT INTO market_symbols
    (exchange, symbol, volume_kind, trade_count, first_trade_at, last_trade_at)
VALUES ($1, $2, 'base', 3, $3, $3)
"""
INSERT_GAP = """
INSERT INTO market_gaps (exchange, symbol, detected_at, after_id, before_id, from_time, to_time,
    missing, state)
VALUES ('binance', $1, $2, $3, '9', $2, $2, 5, 'open')
"""


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1_000, UTC)


class Table:
    """Puts committed rows where the savers would."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = DatabaseReadStore(database)

    async def klines(self, *klines: Kline) -> None:
        for each in klines:
            opened = moment(each.open_time)
            fields = (
                each.open, each.high, each.low, each.close, each.volume, each.quote_volume,
                each.buy_volume, each.buy_quote_volume, each.trade_count, each.first_trade_id,
                each.last_trade_id, each.complete, each.revision, each.reason,
            )  # fmt: skip
            for table in ("market_klines", "market_kline_revisions"):
                await self.database.fetch(PARTITIONS, table, opened)
                await self.database.fetch(
                    INSERT_KLINE.format(table=table),
                    each.exchange, each.symbol, each.period, opened, *fields,
                )  # fmt: skip

    async def trade(
        self, trade_id: str, time_ms: int, *, symbol: str = "BTCUSDT", exchange: str = "binance"
    ) -> None:
        at = moment(time_ms)
        await self.database.fetch(PARTITIONS, "market_trades", at)
        await self.database.fetch(
            INSERT_TRADE, exchange, symbol, trade_id, at, f"{trade_id}.50", "0.10", "buy"
        )

    async def symbol(
        self, symbol: str = "BTCUSDT", exchange: str = "binance", at_ms: int = START
    ) -> None:
        await self.database.fetch(INSERT_SYMBOL, exchange, symbol, moment(at_ms))

    async def gap(self, n: int, symbol: str = "BTCUSDT") -> None:
        await self.database.fetch(INSERT_GAP, symbol, moment(START + n // 2), f"{n:04}")


@asynccontextmanager
async def api(
    url: str,
    store: ReadStore,
    *,
    is_test_mode: Callable[[], bool] = lambda: False,
    modes: Sequence[Mode] = (),
    apply_s_max: float = APPLY_S_MAX,
    **options: Any,
) -> AsyncIterator[httpx2.AsyncClient]:
    """Run the role, and give a client of it."""
    bus = await Bus.connect([url], name="api")
    control = Control(
        bus,
        ControlBoard(bus),
        mode="test" if is_test_mode() else "live",
        modes=modes,
        apply_s_max=apply_s_max,
    )
    options.setdefault("exchanges", frozenset({"binance", "kraken"}))
    role = ApiRole(bus, store, ApiOptions(port=0, **options), control=control)
    task = asyncio.create_task(role.run())
    try:
        async with asyncio.timeout(20):
            while not role.health().is_ready:
                if task.done():
                    task.result()
                await asyncio.sleep(0.01)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{role.port}", trust_env=False
        ) as client:
            yield client
        role.stop()
        async with asyncio.timeout(10):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bus.close()


async def get(client: httpx2.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def eventually(condition: Callable[[], Any], wait_s: float = 5) -> Any:
    """Return what ``condition`` gives once it is true."""
    async with asyncio.timeout(wait_s):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.02)


async def publish_trades(bus: Market, n: int, trades: list[tuple[str, int, str]]) -> None:
    batch = TradeBatch[str](
        v=1,
        exchange="binance",
        symbol="BTCUSDT",
        feed="i0-1",
        n=n,
        source="ws",
        received_us=START * 1_000,
        prev_id=None,
        trades=[
            Trade[str](id=id_, price=price, amount="1", side=None, time_us=time_ms * 1_000)
            for id_, time_ms, price in trades
        ],
    )
    await bus.trades(batch)
