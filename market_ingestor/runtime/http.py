"""HTTP/1.1 towards clients that may be slow, silent or hostile. SHELL.

What uvicorn leaves open: a request that never ends, an answer that is never read, connections
without number. Each is bounded here, and whoever is cut off harms nobody else.
"""

import asyncio
import json
import math
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers
REQUEST_WAIT_S: Final = 10.0  # from the first byte, or from connecting, to the last of a request
WRITE_WAIT_S: Final = 20.0  # in which a client must read `READ_BYTES_MIN` of what waits for it
READ_BYTES_MIN: Final = 256 * 1024
UNREAD_BYTES_MAX: Final = 64 * 1024 * 1024  # of all clients; then the longest waiting is cut off
CONNECTIONS_MAX: Final = 768  # fewer than the descriptors a process usually may have
ADDRESS_CONNECTIONS_MAX: Final = 512  # of one address, so that none takes them all

_REASON: Final = f"not an HTTP/1.1 request, or with a head of more than {HEAD_BYTES_MAX} bytes"
_REFUSED: Final = json.dumps(
    {"data": None, "error": {"code": "bad_request", "message": _REASON}, "message": _REASON},
    separators=(",", ":"),
).encode()


class BoundedProtocol(H11Protocol):
    """One connection, with deadlines; see the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._paused_at = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        # uvicorn declares ``connections`` as a set of protocols of several kinds.
        same = sum(1 for each in self.connections if self._is_neighbour(each))
        if len(self.connections) > CONNECTIONS_MAX or same > ADDRESS_CONNECTIONS_MAX:
            transport.abort()
            return
        self._watch_request(is_awaited=True)

    def _is_neighbour(self, other: Any) -> bool:
        return bool(other.client and self.client and other.client[0] == self.client[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._watch_request(is_awaited=False)
        self._cancel_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._watch_request(is_awaited=self._is_amid_request())

    def on_response_complete(self) -> None:
        """Go on with what the client sent meanwhile."""
        super().on_response_complete()
        self._watch_request(is_awaited=self._is_amid_request())

    def _is_amid_request(self) -> bool:
        """Return whether a request has begun and not ended."""
        if self.transport.is_closing():
            return False
        if self.conn.their_state is h11.SEND_BODY:
            return True
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def _watch_request(self, *, is_awaited: bool) -> None:
        if is_awaited and self._request_deadline is None:
            self._request_deadline = self.loop.call_later(REQUEST_WAIT_S, self.transport.abort)
        elif not is_awaited and self._request_deadline is not None:
            self._request_deadline.cancel()
            self._request_deadline = None

    def pause_writing(self) -> None:
        """Wait for the client to read, as long as it does, and while there is room."""
        super().pause_writing()
        self._paused_at = self.loop.time()
        self._watch_reading()
        waiting = sorted(
            (each for each in self.connections if isinstance(each, BoundedProtocol)),
            key=lambda each: each.paused_at,
        )
        unread = sum(each.unread for each in waiting)
        for each in waiting:
            if unread <= UNREAD_BYTES_MAX:
                break
            unread -= each.unread
            each.transport.abort()

    @property
    def paused_at(self) -> float:
        """Return when the client last fell behind, infinity while it does not lag."""
        return self._paused_at if self.flow.write_paused else math.inf

    @property
    def unread(self) -> int:
        """Return how many bytes wait for the client."""
        return self.transport.get_write_buffer_size()

    def _watch_reading(self) -> None:
        self._cancel_write_deadline()
        self._write_deadline = self.loop.call_later(
            WRITE_WAIT_S, self._require_reading, self.unread
        )

    def _require_reading(self, unread_before: int) -> None:
        """Cut the client off unless it has read enough since the last look."""
        if unread_before - self.unread < READ_BYTES_MIN:
            self.transport.abort()
        else:
            self._watch_reading()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._cancel_write_deadline()
        super().resume_writing()

    def _cancel_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request in the shape all failures have."""
        del msg  # says less than ours
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(_REFUSED)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=_REFUSED),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
