"""Push clients that mean harm."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, Final

from tests.faults.kinds.fault import Fault
from tests.faults.world import World

COPIES: Final = 4  # of each kind of client
HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
EVERYTHING: Final = ["trade.*.*", "stats.*.*", "event.*.*", "kline.*.*.*"]


class HostileClients(Fault, frozen=True, kw_only=True):
    """Clients that read nothing of what they ask for, and send garbage or far too much."""

    @property
    def kind(self) -> str:
        return "hostile push clients"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({"hostile"})

    async def begin(self, world: World) -> None:
        push, tcp = world.ports["push"], world.ports["tcp"]
        async with asyncio.TaskGroup() as tasks:
            for said in _said():
                for _ in range(COPIES):
                    tasks.create_task(self._one(push, HANDSHAKE + said))
            tasks.create_task(self._one(push, b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 10_000))
            tasks.create_task(self._one(push, os.urandom(4_096)))
            tasks.create_task(self._one(tcp, b"*" * 1_000_000))
            tasks.create_task(self._one(tcp, b"trade.*.* kline.*.*.*\n"))

    async def _one(self, port: int, data: bytes) -> None:
        """Say it all at once, read nothing, and break off in the end."""
        with contextlib.suppress(OSError):  # the gateway is away, or has had enough
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            try:
                writer.write(data)
                await asyncio.sleep(self.seconds)
            finally:
                writer.transport.abort()


def _said() -> Iterator[bytes]:
    """Give what each kind of client says after its handshake."""
    yield _text(_subscribe(EVERYTHING))
    yield _text("{" * 1_000) * 1_000
    yield _text("x" * 10_000_000)
    yield b"".join(
        _text(_subscribe([f"kline.a.B{number}.1m"], snapshot=10**9)) for number in range(1_000)
    )
    yield _text(_subscribe(EVERYTHING, since="\ud800"))
    yield os.urandom(10_000)


def _subscribe(topics: list[str], **more: Any) -> str:
    return json.dumps({"action": "subscribe", "topics": topics, **more})


def _text(text: str) -> bytes:
    """Return a client's text frame; its mask of zeros leaves the text as it is."""
    payload = text.encode()
    mask = b"\0\0\0\0"
    if len(payload) < 126:
        return bytes([0x81, 0x80 | len(payload)]) + mask + payload
    if len(payload) < 1 << 16:
        return b"\x81\xfe" + len(payload).to_bytes(2) + mask + payload
    return b"\x81\xff" + len(payload).to_bytes(8) + mask + payload
