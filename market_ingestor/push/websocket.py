"""Push over WebSockets: the handshake, the reading loop, the closing. SHELL.

Where a client connects decides how it is spoken to: natively, or as Binance does.
"""

import asyncio
import contextlib
import http
import json
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import websockets.exceptions
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State

from market_ingestor.access import AccessPolicy, client_address, is_origin_allowed, is_token
from market_ingestor.access import presented_token as token_of
from market_ingestor.push import messages
from market_ingestor.push.binance import calls
from market_ingestor.push.binance.streams import Address, BadStreamError, parse_address
from market_ingestor.push.convoys import Encoding, Seat
from market_ingestor.push.desk import RateLimit
from market_ingestor.push.door import Door
from market_ingestor.push.messages import BadRequestError, Message
from market_ingestor.push.pump import Client, ClientGoneError, Pump

OPEN_TIMEOUT_S: Final = 10.0  # for the HTTP request of the handshake
TOKEN_TIMEOUT_S: Final = 10.0  # for the first message, where it has to bring a token
PING_INTERVAL_S: Final = 20.0
PING_TIMEOUT_S: Final = 60.0  # a slow client finds the ping behind what its buffers hold
SEND_BUFFER_BYTES: Final = 64 * 1024  # of the kernel: what lies there can grow no newer
BACKLOG: Final = (
    1_024  # connections the system accepted and we did not yet: a crowd that comes back
)
GOODBYES_MAX: Final = 256  # closing frames between two turns of everything else
RECEIVE_BUFFER_BYTES: Final = 16 * 1024
CLOSE_TIMEOUT_S: Final = 3.0  # for the client's half of the closing handshake

NATIVE_PATHS: Final = frozenset({"/ws", "/ws/", "/"})  # with host and port alone, "/" is meant

RETRY_AFTER_S: Final = 5  # before somebody who was one too many asks again

_DATA: Final = frozenset({Opcode.TEXT, Opcode.BINARY})
GOING_AWAY: Final = 1001
POLICY: Final = 1008
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013

# What a single client does wrong is counted, not logged: a hostile one would fill the disk.
_quiet: Final = logging.getLogger("market_ingestor.push.connections")
_quiet.setLevel(logging.CRITICAL)


def shrink_buffers(transport: asyncio.BaseTransport) -> None:
    """Keep the kernel from taking megabytes for a client.

    Values are conflated only before they are handed to the kernel; and what is read at a time
    is parsed at a time, while everybody else waits.
    """
    with contextlib.suppress(OSError):
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _refusal(connection: ServerConnection, code: int, text: str) -> Response:
    """Return the answer to a handshake that asks for what there is not, in Binance's shape."""
    answer = connection.respond(
        http.HTTPStatus.BAD_REQUEST, json.dumps({"code": code, "msg": text}) + "\n"
    )
    del answer.headers["Content-Type"]
    answer.headers["Content-Type"] = "application/json"
    return answer


class _Connection(ServerConnection):
    """A connection that tells when its socket is empty again and when it is lost."""

    client: Client | None = None
    pump: Pump | None = None
    address = ""
    binance: Address | None = None  # what it connected to, unless it speaks natively
    is_trusted = False
    is_lost = False
    server_of_ours: "WebSocketServer"
    peer = ""
    is_counted = False
    controls: RateLimit | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        shrink_buffers(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        self.is_counted = self.server_of_ours.came(self)
        if not self.is_counted:
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """Count control frames: each costs us an answer, and no request limit sees them."""
        if isinstance(event, Frame) and event.opcode not in _DATA:
            if self.controls is None:
                self.controls = RateLimit(self.loop.time())
            if self.controls.is_over(self.loop.time()):
                self.give_up("too many control frames")
                return
        super().process_event(event)

    @property
    def takes_data(self) -> bool:
        """Return whether anything may still be written.

        Nonsense that comes with a handshake ends what is written before the handshake is done:
        the protocol is open then, and its socket takes nothing.
        """
        return self.protocol.state is State.OPEN and not self.protocol.eof_sent

    def give_up(self, reason: str) -> None:
        """Say why, as far as the client reads, and close."""
        if self.takes_data:
            self.protocol.send_close(POLICY, reason)
            self.send_data()
        self.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.client is not None and self.pump is not None:
            self.pump.ready(self.client)

    def send_data(self) -> None:
        """Write what the protocol has to say; behind a closing frame there may be nothing more."""
        if self.client is not None and self.pump is not None and not self.takes_data:
            self.pump.unseat(self.client)
        super().send_data()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        if self.is_counted:
            self.server_of_ours.went(self)
        if self.client is not None and self.pump is not None:
            self.pump.part(self.client)

    def abort(self) -> None:
        """Cut the connection; asyncio allows that only while there is one."""
        if not self.is_lost:
            self.transport.abort()


class _Socket:
    """The `Sink` of a WebSocket."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    @property
    def buffered(self) -> int:
        return self._connection.transport.get_write_buffer_size()

    def write(self, batch: Sequence[Message], *, as_array: bool) -> None:
        if self._connection.takes_data:
            encode = messages.array_frame if as_array else messages.frames
            self._connection.transport.write(encode(batch))

    @property
    def encode(self) -> Encoding:
        return messages.frames

    @property
    def seat(self) -> Seat | None:
        if not self._connection.takes_data:
            return None
        transport = self._connection.transport
        return Seat(transport.get_write_buffer_size, transport.write)

    def close(self, code: int, reason: str) -> None:
        # The frame goes out now; the connection's own task sees to the rest.
        if self._connection.takes_data:
            self._connection.protocol.send_close(code, reason)
            self._connection.send_data()

    def abort(self) -> None:
        self._connection.abort()


class Conversation(Protocol):
    """Follows what one kind of client asks for."""

    def begin(self, client: Client) -> None:
        """Meet a client that has just connected."""

    async def follow(self, client: Client, payload: bytes) -> bool:
        """Do what a message asks, and return whether the client may stay."""

    def refuse(self, client: Client, problem: BadRequestError) -> None:
        """Answer with an error."""


class WebSocketServer:
    """Accepts WebSocket clients.

    Args:
        door: Counts clients and refuses those too many.
        native: Follows the requests of native clients.
        binance: Gives who follows the calls of a client that connected to a Binance address.
    """

    def __init__(
        self,
        pump: Pump,
        door: Door,
        access: AccessPolicy,
        native: Conversation,
        binance: Callable[[Address], Conversation],
    ) -> None:
        self._pump = pump
        self._door = door
        self._access = access
        self._native = native
        self._binance = binance
        self._server: Server | None = None
        self._connections: set[_Connection] = set()

    def came(self, connection: _Connection) -> bool:
        """Count a connection that begins; False when it is one too many to be heard."""
        if not self._door.knock(connection.peer):
            return False
        self._connections.add(connection)
        return True

    def went(self, connection: _Connection) -> None:
        """Count a connection off."""
        self._connections.discard(connection)
        self._door.go(connection.peer)

    async def start(self, listener: socket.socket) -> None:
        """Accept clients on a socket that listens."""
        ours = type("_OurConnection", (_Connection,), {"server_of_ours": self})
        self._server = await serve(
            self._handle,
            sock=listener,
            compression=None,  # it would hold tens of kilobytes per client
            process_request=self._admit,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=messages.MESSAGE_BYTES_MAX,
            max_queue=4,  # requests are followed one after the other; more wait in the kernel
            write_limit=0,  # writing pauses while any byte waits: see push.pump
            server_header=None,
            logger=_quiet,
            create_connection=ours,
            backlog=BACKLOG,
        )

    async def stop(self, timeout_s: float) -> None:
        """Close every client with 1001; those that do not answer in time are cut off.

        Who is only now shaking hands is refused at once.
        """
        if self._server is None:
            return
        self._server.close(close_connections=False)
        try:
            async with asyncio.timeout(timeout_s):
                await self._say_goodbye()
                await self._server.wait_closed()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()

    async def _say_goodbye(self) -> None:
        """Write the closing frames, some at a time: their answers come while others are told."""
        for number, connection in enumerate(list(self._connections), start=1):
            if connection.protocol.state is State.CONNECTING:
                connection.abort()
            else:
                _Socket(connection).close(GOING_AWAY, "")
            if number % GOODBYES_MAX == 0:
                await asyncio.sleep(0)

    # -- the handshake

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse with an HTTP answer, or let the handshake go on."""
        ours = cast("_Connection", connection)
        forwarded = request.headers.get_all("X-Forwarded-For")
        ours.address = client_address(ours.peer, ",".join(forwarded), self._access.trusted_proxies)
        try:
            ours.binance = parse_address(request.path, request.headers.get("X-MBX-TIME-UNIT"))
        except (BadStreamError, ValueError) as problem:
            return _refusal(connection, calls.BAD_REQUEST, str(problem))
        if ours.binance is None and urlsplit(request.path).path not in NATIVE_PATHS:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "push clients connect to /ws\n")
        origin, host = request.headers.get("Origin"), request.headers.get("Host")
        if not is_origin_allowed(origin, host, self._access.origins):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "origin not allowed\n")
        token = token_of(request.headers)
        if token is not None and self._access.tokens:
            if not is_token(token, self._access.tokens):
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, "not a valid token\n")
            ours.is_trusted = True
        if not self._access.tokens:
            ours.is_trusted = True
        if not self._door.has_room(ours.address):
            return self._too_many(connection)
        return None

    def _too_many(self, connection: ServerConnection) -> Response:
        answer = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer

    async def _handle(self, connection: ServerConnection) -> None:
        ours = cast("_Connection", connection)
        if not self._door.enter(ours.address):
            await connection.close(TRY_AGAIN_LATER, "too many clients")
            return
        try:
            await self._serve(ours)
        finally:
            self._door.leave(ours.address)

    async def _serve(self, connection: _Connection) -> None:
        address = connection.binance
        talk = self._native if address is None else self._binance(address)
        client = self._pump.join(_Socket(connection), connection.address)
        client.is_trusted = connection.is_trusted
        connection.client = client
        connection.pump = self._pump
        try:
            await self._converse(connection, client, talk)
        except (websockets.exceptions.ConnectionClosed, ClientGoneError):
            pass
        finally:
            self._pump.part(client)

    async def _converse(self, connection: _Connection, client: Client, talk: Conversation) -> None:
        talk.begin(client)
        loop = asyncio.get_running_loop()
        limit = RateLimit(loop.time())
        patience_s = None if client.is_trusted else TOKEN_TIMEOUT_S
        may_stay = True
        while may_stay:
            try:
                async with asyncio.timeout(patience_s):
                    payload = await connection.recv(decode=False)
            except TimeoutError:
                break
            patience_s = None
            client.heard_at = loop.time()
            if limit.is_over(client.heard_at, payload):
                talk.refuse(client, BadRequestError("rate_limited", "too many requests"))
                await self._part_with(connection, client, "too many requests")
                return
            may_stay = await talk.follow(client, payload)
        await self._part_with(connection, client, "no valid token")

    async def _part_with(self, connection: _Connection, client: Client, reason: str) -> None:
        """Write what is to be said at last, then close."""
        self._pump.finish(client)
        await connection.close(POLICY, reason)
