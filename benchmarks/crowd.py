"""Ready to be pushed to: WebSocket clients in this process, and a gateway's hub and pump."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Sequence
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

from benchmarks.race import Round
from market_ingestor.model.kline import Kline
from market_ingestor.push import messages
from market_ingestor.push.convoys import Encoding, Seat
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import Message
from market_ingestor.push.outbox import OutboxLimits
from market_ingestor.push.pump import Pump
from market_ingestor.push.subscriptions import parse_topic
from tests.support.crowd import HANDSHAKE

OTHER_FILES: Final = 200


class Sink:
    """The transport of a connection, as the gateway writes to it."""

    encode: Encoding = staticmethod(messages.frames)

    def __init__(self, connection: ServerConnection) -> None:
        transport = connection.transport
        self.seat = Seat(transport.get_write_buffer_size, transport.write)

    @property
    def buffered(self) -> int:
        return self.seat.buffered()

    def write(self, batch: Sequence[Message], *, as_array: bool) -> None:
        assert not as_array
        self.seat.write(messages.frames(batch))

    def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


class Stand:
    """Connections, whose other ends are read between rounds, and a gateway's hub and pump."""

    def __init__(self, runner: asyncio.Runner, clients: int) -> None:
        self._runner = runner
        self.size = clients
        self.connections: list[ServerConnection] = []
        self._clients: list[socket.socket] = []
        self._sequence = 0
        runner.run(self._open())

    async def _open(self) -> None:
        async def keep(connection: ServerConnection) -> None:
            self.connections.append(connection)
            await connection.wait_closed()

        self._server: Server = await serve(
            keep, "127.0.0.1", 0, compression=None, ping_interval=None, write_limit=0
        )
        address = next(iter(self._server.sockets)).getsockname()
        loop = asyncio.get_running_loop()
        for _ in range(self.size):
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, HANDSHAKE)
            await loop.sock_recv(client, 1_024)
            self._clients.append(client)
        self._hub = Hub(OutboxLimits(frames=256, bytes=1024 * 1024), 64 * 1024 * 1024)
        self._hub.begin("abcdef01", 1)
        self._pump = Pump(self._hub)
        for connection in self.connections:
            client_of_pump = self._pump.join(Sink(connection), "127.0.0.1")
            self._hub.subscribe(client_of_pump.outbox, [parse_topic("closed.*.*.1m")])
            self._pump.ready(client_of_pump)
        await self._quiet()

    def drain(self) -> int:
        """Read what was sent; returns the bytes."""
        total = 0
        for client in self._clients:
            try:
                while data := client.recv(1024 * 1024):
                    total += len(data)
            except BlockingIOError:
                continue
        return total

    def push(self, klines: Sequence[tuple[Kline, bytes]]) -> None:
        """Send candles as the gateway does."""
        self._runner.run(self._push(klines))

    async def _push(self, klines: Sequence[tuple[Kline, bytes]]) -> None:
        for each, payload in klines:
            self._sequence += 1
            self._hub.candle(each, payload, self._sequence, 0)
        self._pump.wake()
        await self._quiet()

    async def _quiet(self) -> None:
        while not self._pump.is_quiet:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)

    def write(self, frames: bytes) -> None:
        """Send frames made beforehand."""
        self._runner.run(self._write(frames))

    async def _write(self, frames: bytes) -> None:
        for connection in self.connections:
            connection.transport.write(frames)

    def broadcast(self, texts: Sequence[bytes]) -> None:
        """Send messages as `websockets` does."""
        self._runner.run(self._broadcast(texts))

    async def _broadcast(self, texts: Sequence[bytes]) -> None:
        for text in texts:
            broadcast(self.connections, text)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._server.close()
        self._runner.run(self._server.wait_closed())


def drained(stand: Stand, round_: Round) -> Round:
    """Return a round that finds the sockets empty."""

    def run() -> float:
        stand.drain()
        return round_()

    return run


def fitting(clients: int) -> int:
    """Return so many clients, or as many, like 9,000, as may have both ends open here."""
    wanted = 2 * clients + OTHER_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in (wanted, max(hard, wanted)), (hard, hard):
        with contextlib.suppress(ValueError):  # only root may go beyond the system's
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files >= wanted:
        return clients
    fit = (files - OTHER_FILES) // 2
    unit = int(10 ** (len(str(fit)) - 1))
    return fit // unit * unit
