"""Push over plain TCP: one JSON message per line out, lines of topics in. SHELL."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Final, cast

from market_ingestor.access import AccessPolicy
from market_ingestor.push import messages
from market_ingestor.push.convoys import Encoding, Seat
from market_ingestor.push.desk import Desk, RateLimit
from market_ingestor.push.door import Door
from market_ingestor.push.messages import BadRequestError, Message, Token
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.websocket import BACKLOG, shrink_buffers

SILENCE_S: Final = 1.0  # a client that has sent nothing for so long only wants to look
TOKEN_TIMEOUT_S: Final = 10.0
DEFAULT_TOPICS: Final = ("stats.*.*",)  # prices and VWAP of everything


KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))  # s, s, probes


def _keep_alive(raw: socket.socket) -> None:
    """Have the system find out that a client is gone: this protocol has no ping."""
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            option = getattr(socket, name, None)  # macOS names the first one otherwise
            if option is not None:
                raw.setsockopt(socket.IPPROTO_TCP, option, value)


class _Line(asyncio.Protocol):
    """One TCP client, and its `Sink`."""

    def __init__(self, server: "TcpServer") -> None:
        self._server = server
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._limit = RateLimit(asyncio.get_running_loop().time())

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(0)  # see push.pump
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else ""
        if not self._server.door.enter(address):
            refusal = messages.error("too_many_clients", "too many clients: try again later")
            self._transport.write(refusal.text + b"\n")
            self._transport.close()
            return
        self._address = address
        shrink_buffers(transport)
        _keep_alive(transport.get_extra_info("socket"))
        self._client = self._server.pump.join(self, address)
        self._client.is_trusted = not self._server.tokens
        loop = asyncio.get_running_loop()
        if self._client.is_trusted:
            self._timer = loop.call_later(SILENCE_S, self._give_default)
        else:
            self._timer = loop.call_later(TOKEN_TIMEOUT_S, self._end_wait_for_token)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._stop_timer()
        self._transport = None
        if self._client is not None:
            self._server.pump.part(self._client)
            self._client = None
            self._server.door.leave(self._address)

    def eof_received(self) -> bool:
        """Go on writing: ``echo 'stats.*.*' | nc`` has nothing more to say and wants to read."""
        return True

    def resume_writing(self) -> None:
        if self._client is not None:
            self._server.pump.ready(self._client)

    def data_received(self, data: bytes) -> None:
        if self._client is None:
            return
        self._stop_timer()
        self._client.heard_at = asyncio.get_running_loop().time()
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = bytearray(rest)
        for line in lines:
            self._take_line(self._client, bytes(line).strip())
        if len(rest) > messages.MESSAGE_BYTES_MAX:
            self._refuse(self._client, BadRequestError("message_too_big", "line too long"))
            self._end()

    # -- Sink

    @property
    def buffered(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def write(self, batch: Sequence[Message], *, as_array: bool) -> None:  # noqa: ARG002 - lines
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(messages.lines(batch))

    @property
    def encode(self) -> Encoding:
        return messages.lines

    @property
    def seat(self) -> Seat | None:
        if self._transport is None or self._transport.is_closing():
            return None
        return Seat(self._transport.get_write_buffer_size, self._transport.write)

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - TCP has neither
        if self._transport is not None:
            if self._client is not None:
                self._server.pump.unseat(self._client)
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- what a line means

    def _take_line(self, client: Client, line: bytes) -> None:
        if client.is_gone or not line:
            return
        try:
            self._follow(client, line)
        except BadRequestError as problem:
            self._refuse(client, problem)
            if problem.code in {"rate_limited", "unauthorized"}:
                self._end()

    def _follow(self, client: Client, line: bytes) -> None:
        self._stop_timer()
        if self._limit.is_over(client.heard_at, line):
            raise BadRequestError("rate_limited", "too many requests")
        if line.startswith(b"{") or not client.is_trusted:
            self._show_token(client, line)
        else:
            self._server.desk.replace(client, line.decode("utf-8", "replace").split())

    def _show_token(self, client: Client, line: bytes) -> None:
        try:
            request = messages.parse_request(line)
        except BadRequestError:
            request = None
        if not isinstance(request, Token):
            if not client.is_trusted:
                raise BadRequestError("unauthorized", "send a token first")
            raise BadRequestError("bad_message", "a line is topics separated by blanks")
        self._server.desk.show_token(client, request)
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._give_default)

    def _give_default(self) -> None:
        self._timer = None
        if self._client is not None:
            self._server.desk.replace(self._client, DEFAULT_TOPICS)

    def _end_wait_for_token(self) -> None:
        self._timer = None
        if self._client is not None:
            self._refuse(self._client, BadRequestError("unauthorized", "no token"))
            self._end()

    def _refuse(self, client: Client, problem: BadRequestError) -> None:
        self._server.desk.refuse(client, problem)

    def _end(self) -> None:
        """Write what is to be said at last, then close."""
        if self._client is not None:
            self._server.pump.finish(self._client)
        self.close(0, "")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TcpServer:
    """Accepts plain TCP clients."""

    def __init__(self, pump: Pump, desk: Desk, door: Door, access: AccessPolicy) -> None:
        self.pump = pump
        self.desk = desk
        self.door = door
        self.tokens = access.tokens
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept clients on a socket that listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Line(self), sock=listener, backlog=BACKLOG)

    def stop(self) -> None:
        """Stop listening; the connections are closed by whoever knows the clients."""
        if self._server is not None:
            self._server.close()
