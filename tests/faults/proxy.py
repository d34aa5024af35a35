"""A TCP link between two parts that can be cut, stalled, slowed and restored.

Owns the connections that go through it. Knows nothing of what is said on them.
"""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Final, Self

BUFFER_BYTES: Final = 64 * 1024
LOOPBACK: Final = "127.0.0.1"


class Link:
    """Forwards every connection made to ``port`` to another port of this machine.

    Attributes:
        name: Whom it joins, as ``ingest>nats``.
        port: Where it listens; it keeps it for its whole life.
        forwarded: Bytes passed on so far, both ways.
    """

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.port = 0
        self.forwarded = 0
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()  # cleared while stalled
        self._open.set()
        self._delay_s = 0.0
        self._refuses = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, limit=BUFFER_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what can be done to it

    def cut(self) -> None:
        """Reset every connection; new ones are taken again at once."""
        for task in self._tasks:
            task.cancel()

    def refuse(self) -> None:
        """Reset every connection, and new ones as well, until `restore`."""
        self._refuses = True
        self.cut()

    def stall(self) -> None:
        """Pass nothing on, and keep every connection open, until `restore`."""
        self._open.clear()

    def slow(self, delay_s: float) -> None:
        """Pass at most 64 KiB on per ``delay_s`` and direction, until `restore`."""
        self._delay_s = delay_s

    def restore(self) -> None:
        """Work as if nothing had been."""
        self._refuses = False
        self._delay_s = 0.0
        self._open.set()

    # -- forwarding

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._refuses:
                raise ConnectionResetError
            await self._join(reader, writer)
        except* (OSError, asyncio.CancelledError):
            _reset(writer)  # one side went away, or the link was cut
        finally:
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward until both sides have ended, or one is lost."""
        await self._open.wait()
        there, back = await asyncio.open_connection(LOOPBACK, self._target, limit=BUFFER_BYTES)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, back))
                pumps.create_task(self._pump(there, writer))
        except BaseException:
            _reset(back)
            raise
        for each in (back, writer):
            each.close()
            with contextlib.suppress(OSError):
                await each.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BUFFER_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            writer.write(data)
            self.forwarded += len(data)
            await writer.drain()
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off: what was not sent is lost, the other side sees a reset."""
    own = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
