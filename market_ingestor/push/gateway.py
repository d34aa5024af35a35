"""The push gateway: reads the bus, serves WebSocket and TCP clients. SHELL.

Everything it holds is derived: it starts from the newest part of the stream of closed candles and
needs nothing of an earlier life.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog

from market_ingestor import metrics
from market_ingestor.access import AccessPolicy
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import state_of
from market_ingestor.bus.jetstream import TROUBLE, Bus, StreamState
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.errors import DecodeError
from market_ingestor.model.exchange import (
    is_simulated,
    simulated_name,
)
from market_ingestor.model.trade import TradeBatch
from market_ingestor.push import positions
from market_ingestor.push.binance.desk import BinanceDesk
from market_ingestor.push.binance.streams import Address
from market_ingestor.push.catch_up import CatchUp, KlineHistory
from market_ingestor.push.desk import Desk
from market_ingestor.push.door import PER_ADDRESS_MAX, Door
from market_ingestor.push.hub import Hub
from market_ingestor.push.outbox import Outbox, OutboxLimits, PushCounters
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.reading import reading
from market_ingestor.push.ring import OVERHEAD_BYTES
from market_ingestor.push.subscriptions import EVENT
from market_ingestor.push.tcp import TcpServer
from market_ingestor.push.trade_feed import TradeFeed
from market_ingestor.push.websocket import GOING_AWAY, POLICY, SERVICE_RESTART, WebSocketServer
from market_ingestor.runtime.files import allow_open_files
from market_ingestor.runtime.role import Health
from market_ingestor.runtime.web import listen

_log = structlog.get_logger(__name__)

RING_AGE: Final = timedelta(hours=2)  # how far back the ring reaches after a start
WARM_UP_S: Final = 10.0  # to read it; then clients are let in and the rest is read beside them
POLL_S: Final = 1.0
STUCK_S: Final = 60.0  # a socket that took not one byte for so long is given up
IDLE_S: Final = 300.0  # a client without subscriptions that says nothing either
OTHER_FILES: Final = 2_000  # connections that are no clients yet, and all that is not a client
LOG_EVERY_S: Final = 60.0  # between two lines about messages that cannot be read

_any_json: Final = msgspec.json.Decoder(msgspec.Raw)


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose.

    Attributes:
        host: Address to bind.
        port: Of WebSockets; 0 lets the system choose.
        tcp_port: Of plain TCP likewise; None: not served.
        send_buffer: Messages queued for one client, and handed to its socket at a time.
        send_buffer_bytes: The same in bytes.
        ring_bytes: Closed candles kept in memory.
        max_clients: At the same time, over both transports.
        max_clients_per_address: The same from one address; behind a trusted proxy from the one
            it names.
        limit_loopback: Local clients count as from one address too.
        access: Who may connect.
        stop_timeout_s: For clients to answer the closing handshake.
    """

    host: str = "127.0.0.1"
    port: int = 8081
    tcp_port: int | None = 8888
    send_buffer: int = 256
    send_buffer_bytes: int = 1024 * 1024
    ring_bytes: int = 64 * 1024 * 1024
    max_clients: int = 20_000
    max_clients_per_address: int = PER_ADDRESS_MAX
    limit_loopback: bool = False
    access: AccessPolicy = AccessPolicy()
    stop_timeout_s: float = 3.0


class Gateway:
    """The role ``gateway``.

    Args:
        bus: A connection of its own.
        history: Where closed candles older than the ring are; None: snapshots hold what
            memory has.
        is_test_mode: Whether the exchanges clients of Binance streams name are simulated ones.

    Attributes:
        port: Where WebSockets are served, once it runs.
        tcp_port: Where plain TCP is served, once it runs.
    """

    name = "gateway"

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions,
        *,
        history: KlineHistory | None = None,
        is_test_mode: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bus = bus
        self._options = options
        self._history = history
        self._is_test_mode = is_test_mode
        limits = OutboxLimits(frames=options.send_buffer, bytes=options.send_buffer_bytes)
        self._hub = Hub(limits, options.ring_bytes)
        self._stopping = asyncio.Event()
        self._warm = asyncio.Event()
        self._trades = TradeFeed(bus, self._hub.trade_patterns, self._on_trades)
        self._door = Door(
            options.max_clients,
            options.max_clients_per_address,
            proxies=options.access.trusted_proxies,
            exempts_loopback=not options.limit_loopback,
        )
        self._reported = PushCounters()
        self._logged_at = 0.0
        self._is_serving = False
        self._serves_simulated = False
        self.port = options.port
        self.tcp_port = options.tcp_port

    # -- Role

    def stop(self) -> None:
        """Close every client with 1001 and return from `run`."""
        self._stopping.set()

    def health(self) -> Health:
        """Return how it is: ready while it serves clients and hears the bus."""
        problems = []
        if not self._bus.is_up:
            problems.append("NATS does not answer")
        if not self._warm.is_set():
            problems.append("the stream of closed candles is being read")
        is_ready = self._is_serving and not problems and not self._stopping.is_set()
        return Health(
            is_ready=is_ready,
            problems=tuple(problems),
            details={
                "clients": self._door.clients,
                "connections": self._door.connections,
                "ring_candles": len(self._hub.ring),
                "ring_bytes": self._hub.ring.size,
                "position": self._hub.ring.position(self._hub.ring.last_sequence),
            },
        )

    async def run(self) -> None:
        """Serve clients until `stop`."""
        self._pump = Pump(self._hub)
        catch_up = CatchUp(self._bus, self._hub, self._pump, self._history)
        access = self._options.access
        desk = Desk(self._hub, self._pump, catch_up, access.tokens, self._trades)
        sockets = WebSocketServer(
            self._pump, self._door, access, desk, functools.partial(self._binance_desk, desk)
        )
        lines = TcpServer(self._pump, desk, self._door, access)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(each)
                for each in (
                    self._follow_candles(),
                    self._follow_events(),
                    self._trades.run(),
                    self._keep_house(),
                )
            ]
            try:
                await self._serve(sockets, lines)
            finally:
                self._is_serving = False
                await self._close(sockets, lines)
                for task in work:
                    task.cancel()

    def _binance_desk(self, desk: Desk, address: Address) -> BinanceDesk:
        """Return who talks to a client of Binance streams.

        In test mode an exchange means its simulation: that is settled when a client connects, and
        one whose exchange comes to mean another is disconnected. It connects again, as Binance's
        clients must every day, and never has prices of both in one stream.
        """
        follows_mode = not is_simulated(address.exchange)
        if self._serves_simulated:
            address = address._replace(exchange=simulated_name(address.exchange))
        return BinanceDesk(
            self._hub,
            self._pump,
            desk.accepts,
            self._trades,
            address,
            follows_mode=follows_mode,
        )

    def _follow_mode(self) -> None:
        """Serve another mode, once it is another."""
        is_test = self._is_test_mode()
        if is_test == self._serves_simulated:
            return
        self._serves_simulated = is_test
        for client in self._pump.clients:
            if client.follows_mode:
                client.sink.close(SERVICE_RESTART, "the mode changed: connect again")

    async def _serve(self, sockets: WebSocketServer, lines: TcpServer) -> None:
        await self._bus.subscribe_core(subjects.LIVE_ALL, self._on_live)
        await self._bus.subscribe_core(subjects.STATS_ALL, self._on_stats)
        if not await self._first_of(self._warm, self._stopping, WARM_UP_S):
            _log.warning("ring_not_warm", after_s=WARM_UP_S)
        if self._stopping.is_set():
            return
        self._follow_mode()
        wanted = self._options.max_clients + OTHER_FILES
        allowed = allow_open_files(wanted)
        if allowed < wanted:
            _log.warning("open_files_limit_low", limit=allowed, wanted=wanted)
        listener = listen("gateway.port", self._options.host, self._options.port)
        await sockets.start(listener)
        self.port = listener.getsockname()[1]
        if self._options.tcp_port is not None:
            listener = listen("gateway.tcp_port", self._options.host, self._options.tcp_port)
            await lines.start(listener)
            self.tcp_port = listener.getsockname()[1]
        self._is_serving = True
        _log.info("gateway_serving", host=self._options.host, port=self.port, tcp=self.tcp_port)
        await self._stopping.wait()

    async def _first_of(self, one: asyncio.Event, other: asyncio.Event, wait_s: float) -> bool:
        waits = [asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return bool(done)

    async def _close(self, sockets: WebSocketServer, lines: TcpServer) -> None:
        lines.stop()
        for client in self._pump.clients:
            self._pump.finish(client)
        await sockets.stop(self._options.stop_timeout_s)
        for client in self._pump.clients:  # what is left speaks TCP
            client.sink.close(GOING_AWAY, "")
        self._report(0, clients=0)

    # -- closed candles

    async def _follow_candles(self) -> None:
        while True:
            state = await state_of(self._bus, subjects.KLINE_STREAM)
            first = await self._ring_start(state)
            self._hub.begin(positions.epoch_of(state.created), first)
            _log.info("ring_begun", first_sequence=first, last_sequence=state.last_sequence)
            async with reading(self._bus, state, first) as reader:
                await self._read_candles(reader, state.last_sequence)

    async def _read_candles(self, reader: OrderedReader, warm_sequence: int) -> None:
        while True:
            if self._hub.ring.last_sequence >= warm_sequence:
                self._warm.set()
            for arrived in await reader.next(POLL_S):
                self._on_candle(arrived)
            self._pump.wake()

    async def _ring_start(self, state: StreamState) -> int:
        """Return the sequence from which the ring would be full, at most `RING_AGE` ago."""
        since = datetime.now(UTC) - RING_AGE
        try:
            by_age = await self._bus.sequence_since(subjects.KLINE_STREAM, since)
        except TROUBLE:
            by_age = state.first_sequence
        average = state.bytes // max(state.messages, 1)
        by_size = state.last_sequence - self._options.ring_bytes // (2 * average + OVERHEAD_BYTES)
        return max(by_age, by_size, state.first_sequence, 1)

    def _on_candle(self, arrived: Delivery) -> None:
        try:
            kline = codec.candle(arrived.subject, arrived.payload)
        except DecodeError as problem:
            self._reject(problem)
            self._hub.ring.skip(arrived.sequence)
            return
        if arrived.sequence > self._hub.ring.last_sequence:
            self._hub.candle(kline, arrived.payload, arrived.sequence, arrived.stored_us)

    # -- open candles and statistics

    def _on_live(self, subject: str, payload: bytes) -> None:
        try:
            kline = codec.candle(subject, payload)
        except DecodeError as problem:
            self._reject(problem)
            return
        self._hub.open_candle(kline, payload, _now_us())
        self._pump.wake()

    def _on_stats(self, subject: str, payload: bytes) -> None:
        try:
            exchange, symbol = subjects.names(subject)
            _any_json.decode(payload)
        except DecodeError as problem:
            self._reject(problem)
            return
        except msgspec.MsgspecError as problem:
            self._reject(DecodeError(subject, str(problem)))
            return
        self._hub.stats(exchange, symbol, payload, _now_us())
        self._pump.wake()

    # -- events and trades

    async def _follow_events(self) -> None:
        while True:
            state = await state_of(self._bus, subjects.EVENT_STREAM)
            async with reading(self._bus, state, state.last_sequence + 1) as reader:
                while True:
                    for arrived in await reader.next(POLL_S):
                        self._on_event(arrived)

    def _on_event(self, arrived: Delivery) -> None:
        try:
            names = subjects.names(arrived.subject)
            codec.event(arrived.subject, arrived.payload)
        except DecodeError as problem:
            self._reject(problem)
            return
        self._ready(self._hub.passing((EVENT, *names), arrived.payload))

    def _on_trades(self, arrived: Delivery) -> None:
        try:
            batch = _batch(arrived.subject, arrived.payload)
        except DecodeError as problem:
            self._reject(problem)
            return
        if batch is not None:
            self._ready(self._hub.trades(batch, arrived.payload))

    def _ready(self, outboxes: Iterable[Outbox]) -> None:
        for outbox in outboxes:
            self._pump.ready_outbox(outbox)

    # -- keeping house

    def _reject(self, problem: DecodeError) -> None:
        """Count a message nobody can use; the line about it is limited in rate."""
        metrics.dead_letters_total.labels(role=self.name, reason="decode").inc()
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY_S:
            self._logged_at = now
            _log.warning("message_rejected", subject=problem.subject, reason=problem.reason)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self._follow_mode()
            now = asyncio.get_running_loop().time()
            queued = 0
            for client in self._pump.clients:
                queued += client.outbox.queue_bytes + client.sink.buffered
                self._look_after(client, now)
            self._report(queued, clients=self._door.clients)

    def _look_after(self, client: Client, now: float) -> None:
        """Give up a client that takes nothing, or wants nothing."""
        buffered = client.sink.buffered
        if not buffered or client.stuck_since is None or buffered < client.stuck_bytes:
            client.stuck_bytes, client.stuck_since = buffered, now
        elif now - client.stuck_since > STUCK_S:  # it may have grown, by answers to pings
            client.sink.abort()
        if not client.outbox.topics and now - client.heard_at > IDLE_S:
            client.sink.close(POLICY, "idle")

    def _report(self, queued: int, clients: int) -> None:
        """Bring the metrics up to date."""
        seen, now = self._reported, self._hub.counters
        metrics.push_clients.set(clients)
        metrics.push_queue_bytes.set(queued)
        metrics.push_messages_sent_total.inc(now.sent - seen.sent)
        metrics.push_messages_conflated_total.inc(now.conflated - seen.conflated)
        metrics.push_messages_dropped_total.inc(now.dropped - seen.dropped)
        seen.sent, seen.conflated, seen.dropped = now.sent, now.conflated, now.dropped


def _now_us() -> int:
    return time.time_ns() // 1_000


def _batch(subject: str, payload: bytes) -> TradeBatch[str] | None:
    """Return trades that are what their subject says; None for a mark, which has none."""
    names = subjects.names(subject)
    if names[1] == subjects.MARK_TOKEN:
        return None
    batch = codec.text_batch(subject, payload)
    if (batch.exchange, batch.symbol) != names:
        raise DecodeError(subject, "the trades belong to another subject")
    return batch
