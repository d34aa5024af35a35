"""Thousands of push clients in one process, written by hand so that they cost next to nothing.

Run as a program beside a test; `crowd` starts it. It is told what to do by lines of JSON and
answers each with one. Clients are in groups; each subscribes topics and keeps the sequence of
every closed candle it gets. A client that is told ``missed`` connects again and resumes.
"""

import asyncio
import json
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

FILES = 16_384
CONNECTING_MAX = 128  # handshakes under way
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
POSITION = b'"position":"'
SENT = b'"sent":'
RECEIVE_BYTES = 65_536


def raise_file_limit(files: int = FILES) -> None:
    """Allow this process as many sockets as asked for, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def masked(body: bytes, opcode: int = 0x81) -> bytes:
    """Return a client's frame; the mask is zero, which is one of those allowed."""
    size = len(body)
    if size < 126:
        return bytes((opcode, 0x80 | size)) + bytes(4) + body
    return bytes((opcode, 0xFE)) + size.to_bytes(2, "big") + bytes(4) + body


class _Client:
    def __init__(self, group: str, topics: Sequence[str], receive_buffer: int | None) -> None:
        self.group = group
        self.topics = topics
        self.receive_buffer = receive_buffer
        self.socket: socket.socket
        self.sequences: set[int] = set()
        self.since: bytes | None = None
        self.rest = b""
        self.is_open = False
        self.is_ready = False
        self.missed = 0


class _Crowd:
    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)
        self.selector = selectors.EpollSelector()
        self.clients: list[_Client] = []
        self.waiting: list[_Client] = []
        self.connecting = 0
        self.delays: dict[str, list[float]] = {}
        self.failures: Counter[str] = Counter()
        self.opened = 0  # open candles, which have no position

    # -- connections

    def connect(self, client: _Client) -> None:
        self.connecting += 1
        client.rest = b""
        client.is_open = client.is_ready = False
        client.socket = socket.socket()
        if client.receive_buffer is not None:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, client.receive_buffer)
        client.socket.setblocking(False)
        client.socket.connect_ex(self.address)
        self.selector.register(client.socket, selectors.EVENT_WRITE, client)

    def fill(self) -> None:
        while self.waiting and self.connecting < CONNECTING_MAX:
            self.connect(self.waiting.pop())

    def subscribe(self, client: _Client) -> None:
        request: dict[str, Any] = {"action": "subscribe", "topics": client.topics}
        if client.since is not None:
            request["since"] = client.since.decode()
        client.socket.send(masked(json.dumps(request).encode()))

    def again(self, client: _Client) -> None:
        self.selector.unregister(client.socket)
        client.socket.close()
        self.waiting.append(client)

    # -- what comes

    def serve(self, timeout_s: float) -> None:
        self.fill()
        for key, events in self.selector.select(timeout_s):
            client: _Client = key.data
            if events & selectors.EVENT_WRITE:
                client.socket.send(HANDSHAKE)
                self.selector.modify(client.socket, selectors.EVENT_READ, client)
                continue
            self.read(client)

    def read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as problem:
            data = b""
            self.failures[type(problem).__name__] += 1
        if not data:
            self.failures["closed"] += 1
            self.selector.unregister(client.socket)
            return
        data = client.rest + data
        if not client.is_open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                client.rest = head
                return
            if b" 101 " not in head[:20]:
                self.failures[head[:20].decode()] += 1
            client.is_open = True
            self.subscribe(client)
        self.frames(client, data)

    def frames(self, client: _Client, data: bytes) -> None:
        start, end = 0, len(data)
        while end - start >= 2:
            size, body = data[start + 1], start + 2
            if size == 126:
                size, body = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
            elif size == 127:
                size, body = int.from_bytes(data[start + 2 : start + 10], "big"), start + 10
            if body + size > end:
                break
            if data[start] == 0x81:
                if self.message(client, data, body, body + size):
                    return
            elif data[start] == 0x89:
                client.socket.send(masked(data[body : body + size], 0x8A))
            start = body + size
        client.rest = data[start:]

    def message(self, client: _Client, data: bytes, start: int, end: int) -> bool:
        """Take a message; True when the client connects again for it."""
        found = data.find(POSITION, start, end)
        if found < 0 and data.startswith(b'{"type":"kline"', start):
            self.opened += 1
            return False
        if found < 0:
            self.failures[data[start : start + 60].decode()] += 1
            return False
        found += len(POSITION)
        stop = data.index(b'"', found, end)
        if data.startswith(b'{"type":"kline"', start):
            sequence = int(data[found + 9 : stop])
            client.sequences.add(sequence)
            sent = data.rfind(SENT, start, end)
            if sent >= 0:
                moment = float(data[sent + len(SENT) : data.index(b"}", sent)])
                self.delays.setdefault(client.group, []).append(time.monotonic() - moment)
        elif data.startswith(b'{"type":"subscribed"', start):
            self.connecting -= 1
            client.is_ready = True
        elif data.startswith(b'{"type":"missed"', start):
            client.missed += 1
            client.since = data[found:stop]
            self.again(client)
            return True
        return False

    # -- what is asked

    def do(self, order: dict[str, Any]) -> Any:
        mine = [each for each in self.clients if each.group == order.get("group", each.group)]
        match order["do"]:
            case "join":
                new = [
                    _Client(order["group"], topics, order.get("receive_buffer"))
                    for topics in order["topics"]
                ]
                self.clients += new
                self.waiting += reversed(new)
                return self.until(lambda: all(each.is_ready for each in new), order)
            case "stop":
                for each in mine:
                    self.selector.unregister(each.socket)
            case "read":
                for each in mine:
                    self.selector.register(each.socket, selectors.EVENT_READ, each)
            case "wait":
                return self.until(
                    lambda: all(len(each.sequences) >= order["count"] for each in mine), order
                )
            case "delays":
                delays = sorted(self.delays.pop(order["group"], []))
                return {
                    "count": len(delays),
                    **{f"p{n}": delays[int(len(delays) * n / 100)] for n in (50, 99) if delays},
                    "max": delays[-1] if delays else None,
                }
            case "report":
                return self.report(mine)
            case _:
                raise ValueError(order)
        return None

    def until(self, condition: Any, order: dict[str, Any]) -> bool:
        """Serve until a condition holds, which is looked at now and then: it costs too."""
        end_at = time.monotonic() + order.get("timeout_s", 30)
        while not condition():
            if time.monotonic() > end_at:
                return False
            look_at = time.monotonic() + 0.05
            while time.monotonic() < look_at:
                self.serve(0.01)
        return True

    def report(self, clients: Sequence[_Client]) -> Any:
        groups: Counter[tuple[tuple[str, ...], tuple[int, ...]]] = Counter()
        for each in clients:
            groups[tuple(each.topics), tuple(sorted(each.sequences))] += 1
        return {
            "missed": sum(1 for each in clients if each.missed),
            "failures": dict(self.failures),
            "opened": self.opened,
            "got": [
                {"topics": topics, "sequences": sequences, "clients": count}
                for (topics, sequences), count in groups.items()
            ],
        }


def _main() -> None:
    raise_file_limit()
    crowd = _Crowd(int(sys.argv[1]))
    orders = selectors.DefaultSelector()
    orders.register(sys.stdin, selectors.EVENT_READ)
    while True:
        crowd.serve(0.02)
        if not orders.select(0):
            continue
        line = sys.stdin.readline()
        if not line:
            return
        sys.stdout.write(json.dumps(crowd.do(json.loads(line))) + "\n")
        sys.stdout.flush()


class CrowdHandle:
    """Tells the crowd what to do."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def do(self, what: str, **order: Any) -> Any:
        """Give an order and return the answer, which comes when it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **order}).encode() + b"\n")
        async with asyncio.timeout(order.get("timeout_s", 30) + 15):
            return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def crowd(port: int) -> AsyncIterator[CrowdHandle]:
    """Run a crowd for the push gateway on ``port``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__),
        str(port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    try:
        yield CrowdHandle(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    _main()
