"""Whatever happens on the way, candles end equal to the fold of the stored trades."""

import asyncio
import random
from collections.abc import Iterable

import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import KlinesSettings
from market_ingestor.klines import columns as trade_columns
from market_ingestor.klines.candle import kline_of
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import open_time
from market_ingestor.model.trade import DecimalTrade
from tests.integration.klines.harness import (
    MINUTE,
    T0,
    Feed,
    connected,
    processing,
    publishing,
    until_async,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

PERIODS = ("1m", "3m", "5m", "1h")
SETTINGS = KlinesSettings(periods=PERIODS, lateness_s=2, hold_max_s=10)
MINUTES = 12
KEY = ("binance", "BTCUSDT")


def expected(trades: Iterable[DecimalTrade], period: str, through: int) -> dict[int, Kline]:
    """Return the candles of closed windows, straight from the trades."""
    rows: dict[int, list[DecimalTrade]] = {}
    for trade in trades:
        rows.setdefault(open_time(trade.time_us // 1_000, period), []).append(trade)
    return {
        opened: kline_of(
            Fold.of(trade_columns.of_trades(rows[opened])), *KEY, period, opened, complete=True
        )
        for opened in rows
        if open_time(opened, period) + (open_time(opened, period) - opened) <= through
    }


def content(kline: Kline) -> tuple[object, ...]:
    return (
        kline.open,
        kline.high,
        kline.low,
        kline.close,
        kline.volume,
        kline.quote_volume,
        kline.buy_volume,
        kline.buy_quote_volume,
        kline.trade_count,
        kline.first_trade_id,
        kline.last_trade_id,
    )


def differences(store: MemoryStore, through: int) -> list[str]:
    """Return where stored candles differ from the fold of stored trades."""
    found: list[str] = []
    for period, length in (("1m", 1), ("3m", 3), ("5m", 5), ("1h", 60)):
        rows = store.candles.get((*KEY, period), {})
        wanted = expected(store.rows[KEY].values(), period, 10**15)
        for opened in sorted(set(rows) | set(wanted)):
            if opened + length * MINUTE > through:
                continue
            have, want = rows.get(opened), wanted.get(opened)
            if have is None or want is None or content(have) != content(want):
                found.append(f"{period} {(opened - T0) // MINUTE}: {have} is not {want}")
    return found


def revisions_grow_by_one(store: MemoryStore) -> bool:
    newest: dict[tuple[str, int], int] = {}
    for kline in store.revisions:
        key = (kline.period, kline.open_time)
        if kline.revision != newest.get(key, 0) + 1:
            return False
        newest[key] = kline.revision
    return True


class Script:
    """A random course of trades of one symbol over some minutes, over two feeds and a refill."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows = self._rows()
        self.step = 0

    def _rows(self) -> list[tuple[int, int, str, str]]:
        rows = []
        at = 0
        for number in range(1, 400):
            at += self.random.choice((10, 500, 2_000, 4_000))
            price = f"{100 + self.random.randint(-500, 500) / 100:.2f}"
            rows.append((number, at, price, f"{self.random.randint(1, 999) / 1000}"))
        return [row for row in rows if row[1] < MINUTES * MINUTE]

    async def play(self, bus: Bus, feeds: list[Feed], refill: Feed) -> None:
        """Publish everything; some late, some twice, some only by the refill."""
        del bus
        late: list[tuple[int, int, str, str]] = []
        index = 0
        while index < len(self.rows):
            count = self.random.randint(1, 8)
            rows = self.rows[index : index + count]
            index += count
            luck = self.random.random()
            now = rows[-1][1] + 100
            if luck < 0.1:
                late += rows
            else:
                await feeds[0].trades(*rows, received=now)
                if luck < 0.4:
                    await feeds[1].trades(*rows, received=now + 50)
            for feed in feeds:
                await feed.mark(now + 100)
            if late and self.random.random() < 0.1:
                self.random.shuffle(late)
                for row in late:
                    await refill.trades(row, received=now, prev_id=str(row[0] - 1))
                late.clear()
            if self.random.random() < 0.3:
                await asyncio.sleep(0.05)
        end = MINUTES * MINUTE
        for row in late:
            await refill.trades(row, received=end, prev_id=str(row[0] - 1))
        last = self.rows[-1]
        await feeds[0].trades((last[0] + 1, end + 30_000), received=end + 30_100)


@pytest.mark.parametrize("seed", range(4))
async def test_candles_equal_the_fold_of_the_trades_after_any_course(
    nats_server: NatsHandle, seed: int
) -> None:
    store = MemoryStore()
    store.delay_s = 0.4
    script = Script(seed)
    through = T0 + MINUTES * MINUTE
    async with connected(nats_server) as bus, publishing(bus) as publisher, saving(bus, store):
        feeds = [Feed(publisher, "a"), Feed(publisher, "b")]
        refill = Feed(publisher, "r", source="rest")
        play = asyncio.create_task(script.play(bus, feeds, refill))
        try:
            for _ in range(3):
                async with processing(bus, store, SETTINGS):
                    await asyncio.sleep(script.random.random() / 4)
            async with (
                processing(bus, store, SETTINGS) as first,
                processing(bus, store, SETTINGS) as second,
            ):
                await play

                async def is_settled() -> bool:
                    state = await bus.stream_state(subjects.KLINE_STREAM)
                    await asyncio.sleep(0.5)
                    after = await bus.stream_state(subjects.KLINE_STREAM)
                    saved = await bus.consumer_state(subjects.KLINE_STREAM, "save")
                    raw = await bus.stream_state(subjects.RAW_STREAM)
                    return (
                        state == after
                        and saved is not None
                        and saved.ack_floor == after.last_sequence
                        and all(
                            each.health().details["position"] > raw.last_sequence
                            and each.corrections.waiting == 0
                            for each in (first, second)
                        )
                    )

                await until_async(is_settled, 30)
        finally:
            play.cancel()
    assert differences(store, through) == []
    assert revisions_grow_by_one(store)
    assert all(each.complete for each in store.candles[*KEY, "1m"].values() if each.open_time > T0)
