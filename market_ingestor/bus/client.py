"""nats-py's client, with what it leaves to others. SHELL.

Nothing goes in clear text to a server that should speak TLS, a lost socket is told to whoever
writes, and messages that come by the thousand take a short way (`bus.wire`). Connecting, TLS,
logging in, finding servers and coming back to them are nats-py's.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import ParseResult

import nats.errors
import structlog
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from market_ingestor.bus.wire import Handler, MessageCutter, Repeated, publication, status

_log = structlog.get_logger(__name__)

LOG_INTERVAL_S: Final = 30.0
PLAIN_SCHEMES: Final = ("nats", "tls")  # TLS begins after the server has said hello


class BusTransport(TcpTransport):
    """A socket whose loss is a `ConnectionResetError` for whoever writes.

    On uvloop it is a RuntimeError: nats-py's flusher takes that for the end of the process and
    stops without a word, and the next to publish is hit by it.

    Args:
        cutter: Sees what is read before nats-py does.
    """

    def __init__(self, cutter: MessageCutter) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # nats-py has no types there
        self._cutter = cutter

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Open a connection; lines are read from it until `read` is called."""
        self._cutter.restart()
        await super().connect(uri, buffer_size, connect_timeout)

    async def read(self, buffer_size: int) -> bytes:
        """Return what is for nats-py of what comes next; nothing at the end only."""
        while True:
            data: bytes = await super().read(buffer_size)
            passed = self._cutter.feed(data)
            if passed or not data:
                return passed

    def write(self, payload: bytes) -> None:
        """Write bytes.

        Raises:
            ConnectionResetError: The connection is gone.
        """
        with _telling_loss():
            super().write(payload)  # type: ignore[no-untyped-call] # nats-py has no types there

    def writelines(self, payload: Sequence[bytes]) -> None:
        """Write pieces, as `write`."""
        with _telling_loss():
            super().writelines(payload)  # type: ignore[no-untyped-call] # as above


@contextlib.contextmanager
def _telling_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as problem:
        raise ConnectionResetError(str(problem)) from problem


class BusClient(Client):
    """A client that sends nothing in clear text to a server that should speak TLS.

    nats-py leaves that to the server: one that says it has no TLS, or somebody between us and it
    who says so, is given the password.

    Attributes:
        must_encrypt: Whether to speak to nobody without TLS.
    """

    def __init__(self) -> None:
        super().__init__()
        self.must_encrypt = False
        self._cutter = MessageCutter(self._on_failure)
        self._failure_logged_at = -LOG_INTERVAL_S

    def _on_failure(self, problem: Exception) -> None:
        if time.monotonic() - self._failure_logged_at >= LOG_INTERVAL_S:
            self._failure_logged_at = time.monotonic()
            _log.error("message_handler_failed", exc_info=problem)

    async def listen(self, subject: str, handler: Handler) -> Callable[[], Awaitable[None]]:
        """Call ``handler`` within the read for each message; returns what ends it.

        Nothing is queued: a handler that keeps messages bounds them itself.
        """
        # The number nats-py will take, for nothing can come between: the first message must not
        # come before its handler.
        sid = str(self._sid + 1).encode()
        self._cutter.handlers[sid] = handler
        try:
            subscription = await self.subscribe(subject, cb=_ignore)
        except BaseException:
            del self._cutter.handlers[sid]
            raise

        async def end() -> None:
            self._cutter.handlers.pop(sid, None)
            await subscription.unsubscribe()

        return end

    async def send(self, commands: bytes) -> None:
        """Send commands of `bus.wire`, as `publish` does those it makes.

        Raises:
            nats.errors.Error: The connection is closed, or lost and too much is waiting for it.
        """
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        if self.is_draining_pubs:
            raise nats.errors.ConnectionDrainingError
        if (
            not self.is_connected
            and len(commands) + self._pending_data_size > self._max_pending_size
        ):
            raise nats.errors.OutboundBufferLimitError
        await self._send_command(commands)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def ask(self, subject: str, payload: bytes, *, reply: str) -> bytes | None:
        """Return the first answer to come to ``reply``, None when the server says nobody listens.

        Waits as long as it takes, also for nothing when the connection is lost.
        """
        answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def take(_subject: str, _reply: str, header: bytes, answer: bytes) -> None:
            if not answered.done():
                answered.set_result(answer if status(header) is None else None)

        end = await self.listen(reply, take)
        try:
            await self.send(publication(subject, payload, reply=reply))
            return await answered
        finally:
            with contextlib.suppress(nats.errors.Error):
                await end()

    def abandon(self) -> None:
        """Close the sockets of a connection that never came about; nats-py leaves them behind."""
        for name in ("_io_writer", "_bare_io_writer"):  # the second one is from before TLS
            writer = getattr(self._transport, name, None)
            if writer is not None and not writer.is_closing():
                writer.close()

    async def _connect_to_server(self, s: Srv) -> None:
        # What waits would come before what was lost with the last connection.
        self._pending = [each for each in self._pending if not isinstance(each, Repeated)]
        self._pending_data_size = sum(map(len, self._pending))
        if self._transport or s.uri.scheme not in PLAIN_SCHEMES:
            await super()._connect_to_server(s)
            return
        # The first time; later connections are made with the same transport.
        s.last_attempt = time.monotonic()
        self._transport = BusTransport(self._cutter)
        await self._transport.connect(
            s.uri,
            buffer_size=DEFAULT_BUFFER_SIZE,
            connect_timeout=self.options["connect_timeout"],
        )

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self.must_encrypt and not info.get("tls_required"):
            self.abandon()
            raise nats.errors.Error("the server offers no TLS")
        await super()._process_info(info, initial_connection)


async def _ignore(_: Msg) -> None:
    """Take what comes behind the end of a subscription."""
