"""Cuts what a WebSocket server sends into frames where that needs no thought (RFC 6455). Pure.

Owns the frames that make up nearly all of a feed: whole ones with text or bytes. Whatever else
comes is the library's: pings and pongs one by one; from a close, a fragment or anything odd on, all
the rest. Must never know a socket or what a frame means.
"""

from typing import Final, NamedTuple

# First bytes (5.2): the last or only frame of a message, no extension's bits, and what it is.
TEXT: Final = 0x81
BINARY: Final = 0x82
PING: Final = 0x89
PONG: Final = 0x8A

_OURS: Final = frozenset({TEXT, BINARY, PING, PONG})

_HEAD_BYTES: Final = 2
_LENGTH_16: Final = 126  # second byte: the length stands in the next two bytes
_LENGTH_64: Final = 127  # ... in the next eight; above this the frame is masked


class Cut(NamedTuple):
    """What a chunk amounts to.

    Attributes:
        frames: Payloads of whole frames, in order.
        rest: Bytes for the library, which begin and, but for the last, end with a frame.
    """

    frames: list[bytes]
    rest: bytes


class FrameCutter:
    """Takes chunks as they come, behind the handshake's answer.

    Args:
        frame_bytes_max: Longest payload; the library refuses longer ones.

    Attributes:
        is_over: Whether everything from now on is the library's.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._max = frame_bytes_max
        self._rest = bytearray()
        self._needed = 0  # bytes of the frame that ``_rest`` begins with, as far as is known
        self.is_over = False

    def feed(self, chunk: bytes) -> Cut:  # noqa: C901 - a call per frame would double its time
        """Return what ``chunk`` completes; not to be called when it is over."""
        data = chunk
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._needed:
                return Cut([], b"")
            data = bytes(self._rest)
        self._needed = 0
        frames: list[bytes] = []
        others = b""
        at, size, longest = 0, len(data), self._max
        while size - at >= _HEAD_BYTES:
            kind, length = data[at], data[at + 1]
            begin = at + _HEAD_BYTES
            if length >= _LENGTH_16:
                head, begin = begin, begin + (2 if length == _LENGTH_16 else 8)
                if length > _LENGTH_64 or kind >= PING:
                    return self._given_up(frames, others + data[at:])
                if begin > size:
                    break
                if length == _LENGTH_16:  # so nearly all of a feed: a third faster than below
                    length = data[head] << 8 | data[head + 1]
                else:
                    length = int.from_bytes(data[head:begin])
            if kind not in _OURS or length > longest:
                return self._given_up(frames, others + data[at:])
            end = begin + length
            if end > size:
                self._needed = end - at
                break
            if kind >= PING:
                others += data[at:end]
            else:
                frames.append(data[begin:end])
            at = end
        self._rest = bytearray(data[at:])
        return Cut(frames, others)

    def _given_up(self, frames: list[bytes], rest: bytes) -> Cut:
        self.is_over = True
        self._rest.clear()
        return Cut(frames, rest)
