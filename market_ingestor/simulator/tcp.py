"""A price feed over plain TCP, as simple exchange programs serve it: one JSON object a line.

Owns one listening socket and the trades made up for it; everybody who connects gets every line
from then on. Deterministic prices from a seed.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from market_ingestor.simulator.hub import now_us
from market_ingestor.simulator.markets import build
from market_ingestor.simulator.protocol import US_PER_MS, US_PER_S
from market_ingestor.simulator.server import DEFAULT_RATE
from market_ingestor.simulator.tape import Fill, Tape

FEED_SYMBOLS: Final = ("BTCUSDT", "DOGEUSDT", "TONUSDT", "SOLUSDT", "ETHUSDT")
BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024  # a reader this far behind is cut

_STEP_MIN_S: Final = 0.005
_STEP_MAX_S: Final = 0.25


class FeedStats(msgspec.Struct, kw_only=True):
    """What a feed has done since it started.

    Attributes:
        lines_made: Trades that happened, read by anybody or not.
        lines_sent: Lines handed to sockets, once per socket.
        connections: Sockets ever accepted; ``connections_open`` those open now.
    """

    lines_made: int = 0
    lines_sent: int = 0
    connections: int = 0
    connections_open: int = 0


class PriceFeed:
    """One feed; an async context manager, or `run` it.

    Args:
        name: Of the exchange, for whoever starts several.
        symbols: Pairs that trade.
        seed: Decides prices and the order of trades.
        rate: Trades per second over all symbols, 0 for none.
        has_amounts: Whether lines carry an amount.
        port: 0 for a free one.

    Attributes:
        stats: What it has done.
        sent: Per symbol, how many of its lines went to at least one socket.
    """

    def __init__(
        self,
        name: str = "exchange1",
        symbols: Sequence[str] = FEED_SYMBOLS,
        *,
        seed: int = 0,
        rate: float = DEFAULT_RATE,
        has_amounts: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.name = name
        self.stats = FeedStats()
        self.sent: Counter[str] = Counter()
        self.host = host
        self.port = port
        self._rate = rate
        self._has_amounts = has_amounts
        self._markets = build("binance", symbols)
        first_ids = [1] * len(self._markets)
        self._tape = Tape(
            self._markets, seed=f"{seed}/{name}", time_step_us=US_PER_MS, first_ids=first_ids
        )
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._trading = asyncio.create_task(self._trade())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._trading.cancel()
        await asyncio.wait({self._trading})
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()
        while self._writers:  # noqa: ASYNC110 - each is about to end, one loop turn after the other
            await asyncio.sleep(0)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self:
            await self._trading

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def symbols(self) -> list[str]:
        """What trades."""
        return [market.symbol for market in self._markets]

    def set_rate(self, trades_per_s: float) -> None:
        """Change how fast trades are made up."""
        self._rate = trades_per_s

    def write(self, data: bytes) -> None:
        """Send these bytes to everybody, whatever they are."""
        for writer in list(self._writers):
            if writer.transport.get_write_buffer_size() > BUFFER_BYTES_MAX:
                writer.transport.abort()
            elif not writer.is_closing():
                writer.write(data)

    def drop(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.stats.connections += 1
        self.stats.connections_open += 1
        try:
            while await reader.read(1024):  # what clients say is of no interest
                pass
        except OSError:
            pass  # they may also just go
        finally:
            self._writers.discard(writer)
            self.stats.connections_open -= 1
            writer.close()

    async def _trade(self) -> None:
        last_us, due = now_us(), 0.0
        while True:
            step_s = 1 / self._rate if self._rate > 0 else _STEP_MAX_S
            await asyncio.sleep(min(max(step_s, _STEP_MIN_S), _STEP_MAX_S))
            at_us = max(now_us(), last_us)
            due += self._rate * (at_us - last_us) / US_PER_S
            count = int(due)
            due -= count
            if count:
                self._send(self._tape.take(count, last_us, at_us, ()))
            last_us = at_us

    def _send(self, fills: Sequence[Fill]) -> None:
        readers = sum(not writer.is_closing() for writer in self._writers)
        self.stats.lines_made += len(fills)
        self.stats.lines_sent += len(fills) * readers
        if readers:
            self.sent.update(self._markets[fill.market].symbol for fill in fills)
        self.write(b"".join(map(self._line, fills)))

    def _line(self, fill: Fill) -> bytes:
        market = self._markets[fill.market]
        amount = f',"amount":{market.amount_text(fill.amount)}' if self._has_amounts else ""
        return (
            f'{{"symbol":"{market.symbol}","price":{market.price_text(fill.price)},'
            f'"timestamp":{fill.time_us // US_PER_MS}{amount}}}\n'
        ).encode()
