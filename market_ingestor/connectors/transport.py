"""What carries a venue's frames: a WebSocket, or lines over plain TCP. SHELL.

Owns the opening of a connection by its address, and nothing that happens on it: `connectors.
connection` drives either. Must never know a venue, and never log an address: keys stand in some.
"""

import asyncio
import contextlib
import logging
import socket as sockets
from collections.abc import Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from market_ingestor.connectors.frame_cutter import FrameCutter
from market_ingestor.connectors.tcp import SCHEME
from market_ingestor.connectors.tcp_lines import LineCutter
from market_ingestor.errors import excerpt

OPEN_TIMEOUT_S: Final = 10.0  # a handshake takes a second from anywhere
CLOSE_TIMEOUT_S: Final = 2.0  # for the other side's close frame; nothing depends on it
FRAMES_QUEUED_MAX: Final = 1_024  # read from the socket and not yet taken; bounds memory in a pause
CHUNK_BYTES: Final = 1 << 16  # read from a TCP feed at once
# Of a TCP feed that says nothing, the kernel asks each second whether the other side is there.
KEEPALIVE: Final = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}
_PONG: Final = 0x8A  # first byte of an unmasked pong (RFC 6455, 5.2)
_HEAD_BYTES: Final = 2  # of a control frame from a server; the second byte is the payload's length
_HEAD_END: Final = b"\r\n\r\n"  # of the answer to the handshake
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

# The library logs requests with their address, and so with the key, when somebody asks for it.
_SILENT: Final = logging.getLogger("market_ingestor.connectors.websockets")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL + 1)


class LinesClosedError(Exception):
    """A TCP feed has ended; the text says how."""


# What `Transport.frames` and `Transport.send` raise when the connection is over.
CLOSED: Final = (ConnectionClosed, LinesClosedError)


class Transport(Protocol):
    """An open connection that yields frames.

    Attributes:
        heard: Set whenever anything arrives, control frames included, answers to `probe` not.
    """

    heard: bool

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Return what can be aborted."""

    async def frames(self) -> Sequence[bytes]:
        """Return all frames that have come, at least one; one of `CLOSED` when none will."""

    async def send(self, message: str) -> None:
        """Send a frame."""

    async def probe(self) -> None:
        """Return when the other side has answered a question; one of `CLOSED` when it cannot."""

    async def close(self) -> None:
        """End it in order; what arrives until then can still be read."""


class WebSocket(ClientConnection):
    """A WebSocket that knows whether it heard anything, the server's pings included.

    It cuts plain frames out of what it reads by itself and hands them out by the read: the
    library's parser and queue take 2.8 us a frame, this a tenth, and whoever has many frames at
    once can work on them together. All else goes through the library.
    """

    heard = True
    is_probed = False

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._cutter = FrameCutter(protocol.max_message_size or 0)
        self._head = b""
        self._frames: list[bytes] = []
        self._is_held = False  # not read any more, because so many frames wait here
        self._news: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Note that something came; a pong that we asked for tells nothing of the data."""
        is_answer = self.is_probed and data[0] == _PONG and len(data) == _HEAD_BYTES + data[1]
        if not is_answer:
            self.heard = True
        if self.state is State.CONNECTING:
            data = self._behind_head(data)
        if self.state is State.CONNECTING or self._cutter.is_over:
            rest = data
        else:
            frames, rest = self._cutter.feed(data)
            self._frames += frames
        if rest:
            super().data_received(rest)
        if len(self._frames) > FRAMES_QUEUED_MAX and not self._is_held:
            self._is_held = True
            self.transport.pause_reading()
        self._tell()

    def _behind_head(self, data: bytes) -> bytes:
        """Give the library the answer to the handshake; returns what came behind it."""
        joined = self._head + data
        end = joined.find(_HEAD_END)
        if end < 0:
            self._head = joined[1 - len(_HEAD_END) :]
            return data
        cut = end + len(_HEAD_END) - len(self._head)
        super().data_received(data[:cut])
        return data[cut:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the reader see that nothing more will come."""
        super().connection_lost(exc)
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def frames(self) -> Sequence[bytes]:
        """Return all frames that have come, at least one; ConnectionClosed when none will."""
        while not self._frames:
            if self._cutter.is_over or self.state is State.CLOSED:
                return [await self.recv(decode=False)]
            self._news = self.loop.create_future()
            await self._news
        frames, self._frames = self._frames, []
        if self._is_held:
            self._is_held = False
            self.transport.resume_reading()
        return frames

    async def probe(self) -> None:
        """Ping and return with the pong: whatever the server had sent by then has come."""
        self.is_probed = True
        await (await self.ping())


class LineSocket:
    """Lines over TCP, each a frame."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line_bytes_max: int
    ) -> None:
        self.heard = True
        self._reader = reader
        self._writer = writer
        self._cutter = LineCutter(line_bytes_max)
        self._lines: list[bytes] = []
        self._ended: str | None = None

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Return the TCP connection."""
        return self._writer.transport

    async def frames(self) -> Sequence[bytes]:
        """Return all lines that have come, at least one."""
        while not self._lines:
            if self._ended is not None:
                raise LinesClosedError(self._ended)
            try:
                chunk = await self._reader.read(CHUNK_BYTES)
            except OSError as problem:
                chunk, self._ended = b"", excerpt(repr(problem))
            if chunk:
                self.heard = True
                self._lines.extend(self._cutter.feed(chunk))
            else:
                self._ended = self._ended or "closed by the other side"
                self._lines.extend(self._cutter.end())
        lines, self._lines = self._lines, []
        return lines

    async def send(self, message: str) -> None:
        """Send a line."""
        try:
            self._writer.write(message.encode() + b"\n")
            await self._writer.drain()
        except OSError as problem:
            raise LinesClosedError(repr(problem)) from problem

    async def probe(self) -> None:
        """Return at once: a feed of lines answers nothing, so the kernel asks (`KEEPALIVE`)."""

    async def close(self) -> None:
        """Close, with a deadline."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._writer.wait_closed()


async def open_transport(url: str, *, frame_bytes_max: int) -> Transport:
    """Return an open connection to ``url``.

    Raises:
        OSError, TimeoutError, WebSocketException: There is none; the texts may name the address.
    """
    address = urlsplit(url)
    if address.scheme == SCHEME:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        _keep_alive(writer.get_extra_info("socket"))
        return LineSocket(reader, writer, frame_bytes_max)
    socket = await connect(
        url,
        compression=None,  # costs more CPU than the bandwidth is worth
        proxy=None if address.hostname in _LOOPBACK else True,
        open_timeout=OPEN_TIMEOUT_S,
        ping_interval=None,  # the venue's own heartbeat counts; ours ended healthy ones
        close_timeout=CLOSE_TIMEOUT_S,
        max_size=frame_bytes_max,
        max_queue=FRAMES_QUEUED_MAX,
        logger=_SILENT,
        create_connection=WebSocket,
    )
    assert isinstance(socket, WebSocket)  # noqa: S101 - create_connection made it
    return socket


def _keep_alive(socket: sockets.socket) -> None:
    """Have the kernel end a connection whose other side is gone without a word."""
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        option = getattr(sockets, name, None)  # not every system has all three
        if option is not None:
            socket.setsockopt(sockets.IPPROTO_TCP, option, value)


def is_too_big(closed: Exception) -> bool:
    """Return whether a connection was ended because of a frame beyond the bound."""
    sent = closed.sent if isinstance(closed, ConnectionClosed) else None
    return sent is not None and sent.code == CloseCode.MESSAGE_TOO_BIG
