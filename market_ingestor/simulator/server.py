"""One simulated venue as a real server: WebSocket and REST on one port.

Owns its sockets and tasks, and carries out the faults that concern them. What is said on a socket
comes from the venue's front, what is traded from the feeds.
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from market_ingestor.simulator import frames as recordings
from market_ingestor.simulator import http
from market_ingestor.simulator.binance import BinanceFront
from market_ingestor.simulator.bybit import BybitFront
from market_ingestor.simulator.coinbase import CoinbaseFront
from market_ingestor.simulator.connection import Connection
from market_ingestor.simulator.faults import Fault, Timetable
from market_ingestor.simulator.feeds import RatedFeed, ReplayFeed, TapeFeed
from market_ingestor.simulator.finnhub import FinnhubFront
from market_ingestor.simulator.hub import Hub, Stats, now_us
from market_ingestor.simulator.injector import Injector
from market_ingestor.simulator.kraken import KrakenFront
from market_ingestor.simulator.markets import Market, build, default_symbols
from market_ingestor.simulator.okx import OkxFront
from market_ingestor.simulator.protocol import (
    US_PER_S,
    Close,
    Front,
    HttpReply,
    HttpRequest,
    Session,
    Window,
)
from market_ingestor.simulator.truth import TruthLog
from market_ingestor.simulator.world import World

CONTROL_PATH: Final = "/_control"
DEFAULT_RATE: Final = 50.0  # trades/s a venue: lively to look at, nothing for the machine

_FRONTS: Final[dict[str, Callable[[World], Front]]] = {
    "binance": BinanceFront,
    "okx": OkxFront,
    "bybit": BybitFront,
    "coinbase": CoinbaseFront,
    "kraken": KrakenFront,
    "finnhub": FinnhubFront,
}
_BEAT_S: Final = 0.1  # heartbeats, faults and cuts are due to a tenth of a second
_WRITE_LIMIT: Final = 1024 * 1024  # a replay at full speed waits above this much unsent
_HANDSHAKE_S: Final = 120.0  # longer than the slowest handshake or REST answer of a fault
_CLOSE_S: Final = 2.0
_GOING_AWAY: Final = 1001
_NO_PONG: Final = 1008
_NORMAL: Final = 1000

# The websockets library logs every refused handshake, which here is all of REST.
_LOGGER: Final = logging.getLogger("market_ingestor.simulator.websockets")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False
_LOGGER.setLevel(logging.CRITICAL + 1)


class SimulatedVenue:
    """One venue; an async context manager, or `run` it.

    Attributes:
        name: The venue.
        world: Markets and history.
        front: The venue's protocol and limits.
    """

    def __init__(
        self,
        venue: str,
        symbols: Sequence[str] | None = None,
        *,
        seed: int = 0,
        rate: float = DEFAULT_RATE,
        state: Path | None = None,
        frames: Path | None = None,
        speed: float = 0.0,
        faults: Sequence[Fault] = (),
        truth: TruthLog | None = None,
        has_limits: bool = True,
        make_feed: Callable[[Hub], RatedFeed] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Prepare the venue; nothing is opened before it is entered.

        Args:
            venue: One of `markets.ALL_VENUES`.
            symbols: Pairs to list; None for the venue's usual ones (with ``frames``: only those
                of the recording).
            seed: Decides prices, sizes and the order of trades.
            rate: Trades per second over all symbols.
            state: Folder in which ids, history and tape positions survive a restart.
            frames: Recording to play instead of making trades up.
            speed: How fast to play it: 1 as recorded, 0 as fast as sockets accept.
            faults: What goes wrong when; those of other venues are ignored.
            truth: Where to record what really happened.
            has_limits: Whether the venue limits how often an address connects.
            make_feed: Brings trades of another making, for all markets, instead of a tape.
            host: Address to listen on.
            port: Port, 0 for a free one.

        Raises:
            ValueError: Unknown venue or a symbol that cannot be split.
            ConfigError: The recording cannot be read.
        """
        self.name = venue
        self._host = host
        self._port = port
        self._seed = f"{seed}/{venue}"
        self._rate = rate
        self._state = state
        self._speed = speed
        self._has_limits = has_limits
        self._make_feed = make_feed
        markets, self._recording = _listing(venue, symbols, frames)
        recorded = [] if self._recording is None else self._recording.markets
        self._made = len(markets)
        self.world = World([*markets, *recorded])
        self.front = _FRONTS[venue](self.world)
        self._hub = Hub(venue, self.front, self.world, truth)
        limits = self.front.limits
        self._connects = Window(limits.connects, limits.connects_window_s)
        self._timetable = Timetable(self._mine(faults), self._seed)
        self._sessions: WeakKeyDictionary[ServerConnection, Session] = WeakKeyDictionary()
        self._rated_feed: RatedFeed | None = None
        self._replay_feed: ReplayFeed | None = None

    # -- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._hub.started_us = now_us()
        tape_feed: TapeFeed | None = None
        if self._make_feed is not None:
            self._rated_feed = self._make_feed(self._hub)
            self._rated_feed.rate = self._rate
        elif self._made:
            self._rated_feed = tape_feed = TapeFeed(
                self._hub, self._made, seed=self._seed, rate=self._rate, state=self._state
            )
        if self._recording is not None:
            self._replay_feed = ReplayFeed(
                self._hub, self._recording, speed=self._speed, state=self._state
            )
        self._injector = Injector(self._hub, tape_feed, self._replay_feed, self._made)
        self._inject_due()
        try:
            self._server = await self._listen()
        except BaseException:
            self._close_feeds()
            raise
        self._port = self._server.sockets[0].getsockname()[1]
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        feeds = [each for each in (self._rated_feed, self._replay_feed) if each is not None]
        self._loops = [self._tasks.create_task(each.run()) for each in feeds]
        self._loops.append(self._tasks.create_task(self._beat()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for task in self._loops:
                task.cancel()
            for connection in self._hub.connections:
                if connection.dead_until_us is not None:
                    connection.abort()  # it would never answer a close frame
            self._server.close(code=_GOING_AWAY)
            try:
                async with asyncio.timeout(2 * _CLOSE_S):
                    await self._server.wait_closed()
            except TimeoutError:
                for connection in self._hub.connections:
                    connection.abort()  # it takes nothing any more, not even a close frame
                await self._server.wait_closed()
        finally:
            try:
                # Not told of the caller's error: it would come back wrapped in a group.
                await self._tasks.__aexit__(None, None, None)
            finally:
                self._close_feeds()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self:
            await self._server.wait_closed()

    @property
    def ws_url(self) -> str:
        """The base a connector is configured with; it appends the venue's path."""
        return f"ws://{self._host}:{self._port}"

    @property
    def rest_url(self) -> str:
        """The base of REST."""
        return f"http://{self._host}:{self._port}"

    @property
    def stats(self) -> Stats:
        """What the venue has done."""
        return self._hub.stats

    @property
    def symbols(self) -> list[str]:
        """The normalised symbols of everything listed; of a recording when there is one."""
        recorded = self.world.markets[self._made :]
        return [market.symbol for market in (recorded or self.world.listed())]

    @property
    def is_played(self) -> bool:
        """Whether a recording has been played to its end (False without one)."""
        return self._replay_feed is not None and self._replay_feed.is_played

    def set_rate(self, trades_per_s: float) -> None:
        """Change how fast trades are made up."""
        self._rate = trades_per_s
        if self._rated_feed is not None:
            self._rated_feed.rate = trades_per_s

    def inject(self, fault: Fault) -> None:
        """Let a fault happen now, whatever its cue.

        Raises:
            ValueError: It names a symbol that the venue does not have.
        """
        market = None if fault.symbol is None else self.world.by_symbol(fault.symbol)
        if fault.symbol is not None and market is None:
            raise ValueError(f"{self.name} has no symbol {fault.symbol}")
        self._injector.inject(fault, None if market is None else market.index)

    async def _listen(self) -> Server:
        return await serve(
            self._handle,
            self._host,
            self._port,
            process_request=self._process_request,
            server_header=None,
            compression="deflate" if self.front.limits.compresses else None,
            open_timeout=_HANDSHAKE_S,
            close_timeout=_CLOSE_S,
            ping_interval=None,
            write_limit=_WRITE_LIMIT,
            logger=_LOGGER,
        )

    def _close_feeds(self) -> None:
        for feed in (self._rated_feed, self._replay_feed):
            if feed is not None:
                feed.close()

    # -- sockets ----------------------------------------------------------------------------------

    async def _process_request(self, socket: ServerConnection, request: Request) -> Response | None:
        parsed = http.parsed(request)
        if not http.is_upgrade(request):
            return http.response(await self._rest(parsed))
        if parsed.path == CONTROL_PATH:
            return None
        at_us, elapsed_s = now_us(), self._hub.elapsed_s()
        refusal = self._hub.windows.active("refuse", elapsed_s)
        if refusal is not None:
            return http.response(_refused(refusal.status, refusal.retry_after_s))
        if self._has_limits and not self._connects.admits(at_us):
            return http.response(_refused(self.front.limits.connect_refusal, None))
        slow = self._hub.windows.active("slow_handshake", elapsed_s)
        if slow is not None:
            await asyncio.sleep(slow.delay_s or 0)
        session = self.front.accept(parsed.path, parsed.query, now_us())
        if session is None:
            return http.response(_refused(self.front.limits.bad_handshake, None))
        self._sessions[socket] = session
        return None

    async def _rest(self, request: HttpRequest) -> HttpReply:
        self.stats.rest_requests += 1
        windows, elapsed_s = self._hub.windows, self._hub.elapsed_s()
        slow = windows.active("rest_slow", elapsed_s)
        if slow is not None:
            await asyncio.sleep(slow.delay_s or 0)
        error = windows.active("rest_error", elapsed_s)
        if error is not None:
            return self.front.failure(error.status, error.retry_after_s)
        delay = windows.active("rest_delay", elapsed_s)
        self.world.rest_delay_us = 0 if delay is None else int((delay.delay_s or 0) * US_PER_S)
        return self.front.rest(request, now_us())

    async def _handle(self, socket: ServerConnection) -> None:
        session = self._sessions.pop(socket, None)
        if session is None:
            await self._control(socket)
            return
        connection = Connection(socket, session, now_us())
        self._hub.connections.append(connection)
        self.stats.connections += 1
        self.stats.connections_open += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                interval_s = self.front.limits.ping_interval_s
                pinger = tasks.create_task(self._ping(connection)) if interval_s else None
                await self._read(connection)
                if pinger is not None:
                    pinger.cancel()
        finally:
            self._hub.connections.remove(connection)
            session.closed()
            self.stats.connections_open -= 1
            self._hub.note("closed", {"code": socket.close_code})

    async def _read(self, connection: Connection) -> None:
        connection.answer(connection.session.greet(now_us()), now_us())
        self._subscribed(connection, set())
        try:
            async for message in connection.socket:
                if isinstance(message, str) and connection.is_open:
                    before = connection.markets()
                    at_us = now_us()
                    answers = connection.session.receive(message, at_us)
                    connection.answer(answers, at_us)
                    self._subscribed(connection, before)
        except ConnectionClosed:
            pass  # noted by the caller with its code

    def _subscribed(self, connection: Connection, before: set[int]) -> None:
        markets = connection.markets()
        connection.muted &= markets
        if self._hub.windows.active("deaf", self._hub.elapsed_s()) is not None:
            connection.muted |= markets - before
        if self._replay_feed is not None:
            self._replay_feed.subscribed(markets - connection.muted)

    async def _ping(self, connection: Connection) -> None:
        """Send protocol pings as the venue does, and cut who does not answer in time."""
        limits = self.front.limits
        waiting: deque[tuple[int, asyncio.Future[float] | None]] = deque()
        try:
            while True:
                await asyncio.sleep(limits.ping_interval_s)
                while waiting and (pong := waiting[0][1]) is not None and pong.done():
                    waiting.popleft()
                at_us = now_us()
                if waiting and at_us - waiting[0][0] >= limits.pong_deadline_s * US_PER_S:
                    connection.end(Close(_NO_PONG, "Pong timeout"))
                elif connection.is_open:
                    waiting.append((at_us, await _sent_ping(connection, at_us)))
        except ConnectionClosed:
            pass  # the reader sees it too
        finally:
            for _, pong in waiting:
                if pong is not None:
                    pong.cancel()

    async def _beat(self) -> None:
        """Do what is due by time: heartbeats, cues of faults, planned cuts."""
        while True:
            await asyncio.sleep(_BEAT_S)
            self._inject_due()
            at_us = now_us()
            for connection in list(self._hub.connections):
                if connection.is_open:
                    connection.answer(connection.session.tick(at_us), at_us)
                self._end_due(connection, at_us)

    def _inject_due(self) -> None:
        for fault in self._timetable.due(self._hub.elapsed_s(), self.stats.trades_made):
            self.inject(fault)

    def _end_due(self, connection: Connection, at_us: int) -> None:
        if connection.dead_until_us is not None:
            if at_us >= connection.dead_until_us:
                connection.abort()
            return
        life_s = self.front.limits.life_max_s
        shortened = self._hub.windows.active("max_life", self._hub.elapsed_s())
        if shortened is not None:
            life_s = shortened.delay_s or life_s
        is_old = life_s and at_us - connection.opened_us > life_s * US_PER_S
        is_cut = connection.cut_at_us is not None and at_us >= connection.cut_at_us
        if is_old or is_cut:
            connection.end(Close(_NORMAL))
        if connection.close_due is not None and connection.close_due.code:
            close, connection.close_due = connection.close_due, Close(0)
            self._tasks.create_task(_close(connection, close))

    # -- faults -----------------------------------------------------------------------------------

    def _mine(self, faults: Sequence[Fault]) -> list[Fault]:
        """Return the faults meant for this venue; those for all skip symbols it does not have."""
        mine = []
        for fault in faults:
            is_known = fault.symbol is None or self.world.by_symbol(fault.symbol) is not None
            if fault.venue == self.name and not is_known:
                raise ValueError(f"{self.name} has no symbol {fault.symbol}")
            if is_known and fault.venue in {None, self.name}:
                mine.append(fault)
        return mine

    # -- control ----------------------------------------------------------------------------------

    async def _control(self, socket: ServerConnection) -> None:
        """Take commands: a `Fault`, ``{"command":"stats"}``, ``{"command":"rate","value":N}``."""
        try:
            async for message in socket:
                await socket.send(msgspec.json.encode(self._command(message)).decode())
        except ConnectionClosed:
            pass

    def _command(self, message: str | bytes) -> dict[str, object]:
        try:
            request = msgspec.json.decode(message)
            command = request.get("command") if isinstance(request, dict) else None
            if command == "stats":
                return {"ok": True, "stats": msgspec.to_builtins(self.stats)}
            if command == "rate":
                self.set_rate(msgspec.convert(request.get("value"), float))
            else:
                self.inject(msgspec.convert(request, Fault))
        except (msgspec.MsgspecError, ValueError) as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True}


def _listing(
    venue: str, symbols: Sequence[str] | None, frames: Path | None
) -> tuple[list[Market], recordings.Recording | None]:
    """Return the markets to make trades for, and the recording whose markets follow them."""
    if frames is None:
        return build(venue, symbols or default_symbols(venue)), None
    recorded = {market.native for market in recordings.load(venue, frames).markets}
    wanted = [each for each in build(venue, symbols or ()) if each.native not in recorded]
    markets = build(venue, [f"{each.base}-{each.quote}" for each in wanted])
    return markets, recordings.load(venue, frames, len(markets))


def _refused(status: int, retry_after_s: int | None) -> HttpReply:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    phrase = HTTPStatus(status).phrase.encode()
    return HttpReply(status=status, body=phrase, content_type="text/plain", headers=headers)


async def _sent_ping(connection: Connection, at_us: int) -> asyncio.Future[float] | None:
    """Send a ping; return its pong to come, None when the client does not even take the ping."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            return asyncio.ensure_future(await connection.socket.ping(struct.pack(">Q", at_us)))
    except TimeoutError:
        return None


async def _close(connection: Connection, close: Close) -> None:
    """Close with a handshake; a client that takes nothing any more is cut."""
    try:
        async with asyncio.timeout(2 * _CLOSE_S):
            await connection.socket.close(close.code, close.reason)
    except TimeoutError:
        connection.abort()
