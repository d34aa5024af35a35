"""A running gateway on a real nats-server, and the clients that talk to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import close_time
from market_ingestor.model.trade import Trade, TradeBatch
from market_ingestor.push.catch_up import KlineHistory
from market_ingestor.push.gateway import Gateway, GatewayOptions

LIMITS = streams.StreamLimits(max_age_s=3_600, max_bytes=64 * 1024**2, duplicate_window_s=30)
MINUTE = 60_000
START = 1_763_676_000_000  # 2025-11-20 22:00 UTC
TOPIC = "kline.binance.BTCUSDT.1m"


def kline(
    minute: int = 0,
    *,
    symbol: str = "BTCUSDT",
    revision: int = 1,
    closed: bool = True,
    **fields: Any,
) -> Kline:
    opened = START + minute * MINUTE
    base: dict[str, Any] = {
        "v": 1,
        "exchange": "binance",
        "symbol": symbol,
        "period": "1m",
        "open_time": opened,
        "close_time": close_time(opened, "1m"),
        "open": "67123.45",
        "high": "67150",
        "low": "67100.1",
        "close": "67149.99",
        "volume": "12.5",
        "quote_volume": "839123.12",
        "buy_volume": "6.25",
        "buy_quote_volume": "419561.56",
        "trade_count": 345,
        "first_trade_id": "3456789012",
        "last_trade_id": "3456789356",
        "closed": closed,
        "complete": True,
        "revision": revision if closed else 0,
        "reason": ("close" if revision == 1 else "late") if closed else "open",
    }
    return Kline(**(base | fields))


def batch(n: int, symbol: str = "BTCUSDT") -> TradeBatch[str]:
    trade = Trade[str](id=str(n), price="1.5", amount="2", side="buy", time_us=START * 1_000)
    return TradeBatch[str](
        v=1,
        exchange="binance",
        symbol=symbol,
        feed="i0-1",
        n=n,
        source="ws",
        received_us=START * 1_000,
        prev_id=None,
        trades=[trade],
    )


def event(symbol: str = "BTCUSDT") -> MarketEvent:
    return MarketEvent(
        v=1,
        exchange="binance",
        symbol=symbol,
        type="gap_found",
        time_us=START * 1_000,
        after_id="1",
        before_id="9",
        missing=7,
        from_time=START,
        to_time=START + 1,
        detail="test",
    )


class Market:
    """Publishes what the stages before the gateway would."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._is_back = asyncio.Event()
        bus.on_reconnect(self._is_back.set)

    async def make_streams(self) -> None:
        """Create the streams that are not there."""
        configs = streams.market_streams(
            raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
        )
        await ensure_streams(self.bus, configs, update=True)

    async def reconnected(self) -> None:
        """Return when the connection is back after it was lost."""
        async with asyncio.timeout(15):
            await self._is_back.wait()

    async def closed(self, *klines: Kline) -> None:
        for each in klines:
            subject = subjects.kline(each.exchange, each.symbol, each.period)
            await self.bus.client.request(subject, codec.encode(each), timeout=5)

    async def many_closed(self, klines: Iterable[Kline]) -> None:
        """Publish without waiting for each answer, and wait until the stream has them all."""
        before = (await self.bus.stream_state(subjects.KLINE_STREAM)).last_sequence
        count = 0
        for each in klines:
            subject = subjects.kline(each.exchange, each.symbol, each.period)
            await self.bus.client.publish(subject, codec.encode(each))
            count += 1
        async with asyncio.timeout(30):
            while True:
                state = await self.bus.stream_state(subjects.KLINE_STREAM)
                if state.last_sequence >= before + count:
                    return
                await asyncio.sleep(0.01)

    async def open(self, *klines: Kline) -> None:
        for each in klines:
            subject = subjects.live(each.exchange, each.symbol, each.period)
            await self.bus.client.publish(subject, codec.encode(each))
        await self.bus.client.flush()

    async def stats(self, symbol: str = "BTCUSDT", price: str = "1") -> None:
        payload = msgspec.json.encode(
            {"v": 1, "exchange": "binance", "symbol": symbol, "last_price": price}
        )
        await self.bus.client.publish(subjects.stats("binance", symbol), payload)
        await self.bus.client.flush()

    async def trades(self, each: TradeBatch[str]) -> None:
        subject = subjects.raw(each.exchange, each.symbol)
        await self.bus.client.request(subject, codec.encode(each), timeout=5)

    async def event(self, each: MarketEvent) -> None:
        subject = subjects.event(each.exchange, each.symbol)
        await self.bus.client.request(subject, codec.encode(each), timeout=5)


@asynccontextmanager
async def market(url: str) -> AsyncIterator[Market]:
    bus = await Bus.connect([url], name="test")
    try:
        made = Market(bus)
        await made.make_streams()
        yield made
    finally:
        await bus.close()


@asynccontextmanager
async def gateway(
    url: str,
    history: KlineHistory | None = None,
    is_test_mode: Callable[[], bool] = lambda: False,
    **options: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway until the block ends, on ports of the system's choice."""
    bus = await Bus.connect([url], name="gateway")
    running = Gateway(
        bus,
        GatewayOptions(**{"port": 0, "tcp_port": 0} | options),
        history=history,
        is_test_mode=is_test_mode,
    )
    task = asyncio.create_task(running.run())
    try:
        async with asyncio.timeout(20):
            while not running.health().is_ready:
                if task.done():
                    task.result()
                await asyncio.sleep(0.01)
        yield running
        running.stop()
        async with asyncio.timeout(10):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bus.close()


class PushClient:
    """A WebSocket client of the native protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **fields: Any) -> None:
        await self.connection.send(json.dumps(fields))

    async def receive(self, wait_s: float = 5) -> Any:
        async with asyncio.timeout(wait_s):
            return json.loads(await self.connection.recv())

    async def ask(self, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer, which comes before anything it caused."""
        await self.send(**fields)
        answer: dict[str, Any] = await self.receive()
        return answer

    async def until(self, count: int, wait_s: float = 10) -> list[dict[str, Any]]:
        """Return the next ``count`` messages."""
        return [await self.receive(wait_s) for _ in range(count)]

    async def closed(self, count: int, wait_s: float = 10) -> list[dict[str, Any]]:
        """Return the next ``count`` closed candles, leaving out what is open."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            message = await self.receive(wait_s)
            assert message["type"] == "kline", message
            if message["data"]["closed"]:
                found.append(message)
        return found

    async def is_quiet(self, wait_s: float = 0.3) -> bool:
        """Return whether nothing comes for a while."""
        try:
            await self.receive(wait_s)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def client(port: int, **options: Any) -> AsyncIterator[PushClient]:
    async with connect(
        f"ws://127.0.0.1:{port}/ws", compression=None, max_size=None, proxy=None, **options
    ) as connection:
        yield PushClient(connection)


def minutes(messages: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return minute and revision of candles."""
    return [
        ((each["data"]["open_time"] - START) // MINUTE, each["data"]["revision"])
        for each in messages
    ]
