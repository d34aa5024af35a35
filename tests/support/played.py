"""Markets whose trades a test plays: published as ingest publishes, at any times it likes."""

import asyncio
import math
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.model.event import EventType, MarketEvent
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.stats import (
    DayStats,
    MovingAverages,
    Stats,
    TickVwap,
    Volatility,
    WindowStats,
)
from market_ingestor.model.trade import FeedPosition, Mark, Source, TextTrade, Trade, TradeBatch

MINUTE_US: Final = 60_000_000
BATCH: Final = 200


def walk(
    rng: random.Random, *, price: float, places: int, start_us: int, end_us: int, count: int,
    first_id: int, volatility: float = 0.0004,
) -> list[TextTrade]:  # fmt: skip
    """Return trades of a random walk, evenly jittered over a span, in the order of id and time."""
    times = sorted(start_us + int(rng.random() * (end_us - start_us)) for _ in range(count))
    made = []
    for number, time_us in enumerate(times):
        price *= math.exp(rng.gauss(0, volatility))
        amount = min(rng.lognormvariate(0, 1.1), 20) * 4_000 / price
        made.append(
            Trade[str](
                id=str(first_id + number),
                price=f"{price:.{places}f}",
                amount=f"{amount:.5f}" if amount >= 1e-4 else "0.0001",
                side="buy" if rng.random() < 0.5 else "sell",
                time_us=time_us,
            )
        )
    return made


class Player:
    """One feed of one exchange.

    Args:
        exchange: Its data is simulated where the name says so.
    """

    def __init__(self, publisher: Publisher, exchange: str, source: Source = "ws") -> None:
        self._publisher = publisher
        self._exchange = exchange
        self._source = source
        self._feed = f"played-{uuid.uuid4().hex[:8]}"
        self._positions: dict[str, FeedPosition] = {}

    async def trades(
        self, symbol: str, trades: Sequence[TextTrade], *, prev_id: str | None = None
    ) -> None:
        """Publish trades, received when the newest of each message was made.

        Args:
            prev_id: Before the first; else the last one this feed brought.
        """
        for start in range(0, len(trades), BATCH):
            part = list(trades[start : start + BATCH])
            before = self._positions.get(symbol, FeedPosition(n=0, id=None))
            batch = TradeBatch[str](
                v=1, exchange=self._exchange, symbol=symbol, feed=self._feed, n=before.n + 1,
                source=self._source, received_us=part[-1].time_us,
                prev_id=(prev_id if start == 0 else None) or before.id, trades=part,
                simulated=is_simulated(self._exchange),
            )  # fmt: skip
            self._positions[symbol] = FeedPosition(n=batch.n, id=part[-1].id)
            await self._publisher.send(
                subjects.raw(self._exchange, symbol),
                codec.encode(batch),
                subjects.batch_id(self._feed, symbol, batch.n),
            )

    async def mark(self, received_us: int) -> None:
        """Say that up to this time there was nothing more."""
        mark = Mark(
            v=1, exchange=self._exchange, feed=self._feed, received_us=received_us,
            symbols=dict(self._positions), end=False, simulated=is_simulated(self._exchange),
        )  # fmt: skip
        await self._publisher.send(
            subjects.mark(self._exchange),
            codec.encode(mark),
            subjects.mark_id(self._feed, received_us),
        )

    async def gap(self, symbol: str, kind: EventType, after: TextTrade, before: TextTrade) -> None:
        """Tell of a hole between two trades."""
        event = MarketEvent(
            v=1, exchange=self._exchange, symbol=symbol, type=kind, time_us=before.time_us,
            after_id=after.id, before_id=before.id, missing=int(before.id) - int(after.id) - 1,
            from_time=after.time_us // 1_000, to_time=before.time_us // 1_000, detail="played",
            simulated=is_simulated(self._exchange),
        )  # fmt: skip
        await self._publisher.send(
            subjects.event(self._exchange, symbol), codec.encode(event), uuid.uuid4().hex
        )

    async def settle(self) -> None:
        """Return when everything is acknowledged."""
        assert await self._publisher.drain(30)


def statistics(exchange: str, symbol: str, price: str, *, time_us: int = 0) -> Stats:
    """Return statistics of which only the price says anything."""
    window = WindowStats(
        average=price, vwap=price, high=price, low=price, volume="1234.5", trade_count=20
    )
    return Stats(
        v=1, exchange=exchange, symbol=symbol, time_us=time_us, resolution_ms=100,
        last_price=price, last_amount="1", last_side=None,
        windows=dict.fromkeys(("5s", "1m", "5m"), window),
        vwap_ticks=TickVwap(n=100, value=None), sma=MovingAverages(period="1m", values={}),
        volatility=Volatility(period="1m", n=30, value=None),
        day=DayStats(open=price, high=price, low=price, volume="1", quote_volume="1",
                     change="0", change_percent="1.25", trade_count=1),
        simulated=is_simulated(exchange),
    )  # fmt: skip


@asynccontextmanager
async def publishing(nats_url: str) -> AsyncIterator[Publisher]:
    """Give a publisher of its own connection."""
    bus = await Bus.connect([nats_url], name="test")
    publisher = Publisher(bus)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()
