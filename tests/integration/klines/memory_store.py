"""A CandleStore in memory, and the saver that fills it from the streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import Delivery, PullReader
from market_ingestor.errors import DecodeError, StoreUnavailableError
from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import DecimalTrade

STORE_ACK_WAIT_S = 5.0


class MemoryStore:
    """Trades by id and newest versions of candles.

    Attributes:
        is_back: Clear it to make the store unavailable.
        is_saving: Clear it to let the saver lag; questions are answered all the same.
        is_answering: Clear it to let questions for trades, of which ``asked`` wait, take long.
        commits: How often something was stored.
        refused: Ids of trades it does not take.
        delay_s: How long what was read lies about before it is stored.
        questions: How often it was asked.
        revisions: Every version, in the order stored.
    """

    def __init__(self) -> None:
        self.is_back = asyncio.Event()
        self.is_back.set()
        self.is_saving = asyncio.Event()
        self.is_saving.set()
        self.is_answering = asyncio.Event()
        self.is_answering.set()
        self.delay_s = 0.0
        self.asked = 0
        self.commits = 0
        self.refused: set[str] = set()
        self.questions = 0
        self.rows: dict[tuple[str, str], dict[str, DecimalTrade]] = {}
        self.candles: dict[tuple[str, str, str], dict[int, Kline]] = {}
        self.revisions: list[Kline] = []

    def _ask(self) -> None:
        self.questions += 1
        if not self.is_back.is_set():
            raise StoreUnavailableError("away")

    async def holds(self) -> tuple[bool, bool]:
        self._ask()
        await asyncio.sleep(0)
        return any(self.rows.values()), any(self.candles.values())

    async def trades(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[DecimalTrade]:
        self._ask()
        self.asked += 1
        await self.is_answering.wait()
        self.asked -= 1
        await asyncio.sleep(0)
        found = [
            trade
            for trade in self.rows.get((exchange, symbol), {}).values()
            if from_ms * 1_000 <= trade.time_us < to_ms * 1_000
        ]
        return sorted(found, key=lambda trade: (len(trade.id), trade.id))

    async def minutes(self, exchange: str, symbol: str, from_ms: int, to_ms: int) -> Sequence[int]:
        trades = await self.trades(exchange, symbol, from_ms, to_ms)
        rows = await self.klines(exchange, symbol, "1m", from_ms, to_ms)
        found = {each.time_us // 60_000_000 * 60_000 for each in trades}
        return sorted(found | {row.open_time for row in rows})

    async def traded(self, exchange: str, symbol: str, from_ms: int, to_ms: int) -> Sequence[int]:
        trades = await self.trades(exchange, symbol, from_ms, to_ms)
        return sorted({each.time_us // 60_000_000 * 60_000 for each in trades})

    async def price_before(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Decimal | None:
        rows = await self.klines(exchange, symbol, "1m", from_ms, to_ms)
        newest = max(rows, key=lambda row: (row.trade_count > 0, row.open_time), default=None)
        return None if newest is None else Decimal(newest.close)

    async def unlike(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int, price: Decimal
    ) -> Sequence[tuple[int, bool]]:
        rows = await self.klines(exchange, symbol, "1m", from_ms, to_ms)
        known = {row.open_time: row for row in rows}
        found: list[tuple[int, bool]] = []
        for minute in range(from_ms, to_ms, 60_000):
            row = known.get(minute)
            if row is None or row.trade_count or Decimal(row.close) != price:
                found.append((minute, row is not None and row.trade_count > 0))
            if found and found[-1][1]:
                break
        return found

    async def unclosed(self) -> Sequence[tuple[str, str, int]]:
        self._ask()
        await asyncio.sleep(0)
        newest = {
            key: max(each.time_us for each in rows.values())
            for key, rows in self.rows.items()
            if rows
        }
        return [
            (*key, time_us)
            for key, time_us in newest.items()
            if time_us // 60_000_000 * 60_000 not in self.candles.get((*key, "1m"), {})
        ]

    async def gaps(
        self,
        exchange: str,
        symbol: str,
        after_id: int,
        before_id: int,
        from_us: int,
        to_us: int,
        *,
        limit: int,
    ) -> Sequence[tuple[int, int, int, int]]:
        self._ask()
        await asyncio.sleep(0)
        stored = {int(each.id): each.time_us for each in self.rows[exchange, symbol].values()}
        inside = {each: at for each, at in stored.items() if after_id <= each <= before_id}
        known = sorted(({after_id: from_us, before_id: to_us} | inside).items())
        return [
            (left, right, left_us, right_us)
            for (left, left_us), (right, right_us) in pairwise(known)
            if right > left + 1
        ][:limit]

    async def klines(
        self, exchange: str, symbol: str, period: str, from_ms: int, to_ms: int
    ) -> Sequence[Kline]:
        self._ask()
        await asyncio.sleep(0)
        rows = self.candles.get((exchange, symbol, period), {})
        return [rows[opened] for opened in sorted(rows) if from_ms <= opened < to_ms]

    def put_batch(self, each: Delivery) -> None:
        if each.subject.endswith("._"):
            return
        batch = codec.decimal_batch(each.subject, each.payload)
        rows = self.rows.setdefault((batch.exchange, batch.symbol), {})
        for trade in batch.trades:
            if trade.id not in self.refused:
                rows.setdefault(trade.id, trade)

    def put_kline(self, each: Delivery) -> None:
        kline = codec.kline(each.subject, each.payload)
        self.revisions.append(kline)
        rows = self.candles.setdefault((kline.exchange, kline.symbol, kline.period), {})
        known = rows.get(kline.open_time)
        if known is None or known.revision < kline.revision:
            rows[kline.open_time] = kline


async def _save(bus: Bus, store: MemoryStore, stream: str) -> None:
    durable = streams.durable_config(
        subjects.SAVE_DURABLE, ack_wait_s=STORE_ACK_WAIT_S, max_ack_pending=10_000
    )
    put = store.put_batch if stream == subjects.RAW_STREAM else store.put_kline
    async with PullReader(bus, stream, durable) as reader:
        while True:
            arrived = await reader.next(1.0)
            await asyncio.sleep(store.delay_s)
            await store.is_back.wait()
            await store.is_saving.wait()
            for each in arrived:
                with contextlib.suppress(DecodeError):  # a saver's dead letter
                    put(each)
            store.commits += bool(arrived)
            await reader.ack(arrived)


@asynccontextmanager
async def saving(bus: Bus, store: MemoryStore) -> AsyncIterator[None]:
    """Fill ``store`` from both streams and acknowledge what is in it."""
    tasks = [
        asyncio.create_task(_save(bus, store, stream))
        for stream in (subjects.RAW_STREAM, subjects.KLINE_STREAM)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
