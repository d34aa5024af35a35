"""One open WebSocket of a simulated venue: bytes out, and the faults a single socket can have.

Writes whole frames straight to the transport: a frame built once goes to every socket as it is,
and many frames go out in one write. Must never know what the frames mean.
"""

import secrets
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from market_ingestor.simulator.protocol import Close, Outgoing, Session

# A reader this far behind is cut, as venues do. Generous: it is seconds of the fastest tape.
BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024

_SMALL: Final = 126  # RFC 6455 5.2: lengths below go into the second byte
_MEDIUM: Final = 65_536  # ... below this into two more bytes, else into eight
_TEXT: Final = b"\x81"
_BINARY: Final = b"\x82"


def frame(payload: bytes, opcode: bytes = _TEXT) -> bytes:
    """Return ``payload`` as one unmasked, final WebSocket frame."""
    size = len(payload)
    if size < _SMALL:
        return opcode + size.to_bytes() + payload
    if size < _MEDIUM:
        return opcode + b"\x7e" + size.to_bytes(2) + payload
    return opcode + b"\x7f" + size.to_bytes(8) + payload


class Connection:
    """A socket and the session it carries.

    Attributes:
        socket: The WebSocket.
        session: What the venue knows about it.
        opened_us: When the handshake ended.
        muted: Markets whose subscription was acknowledged in vain.
        skips: Trades still to be kept from this socket alone, by market (None: any).
        stalled_until_us: No data before this; heartbeats go on.
        dead_until_us: Half open until then, then reset; None while all is well.
        cut_at_us: A planned cut; None without one.
        close_due: How the server should end it; None while it lives.
    """

    def __init__(self, socket: ServerConnection, session: Session, now_us: int) -> None:
        self.socket = socket
        self.session = session
        self.opened_us = now_us
        self.muted: set[int] = set()
        self.skips: dict[int | None, int] = {}
        self.stalled_until_us = 0
        self.dead_until_us: int | None = None
        self.cut_at_us: int | None = None
        self.close_due: Close | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything written now may arrive."""
        return (
            self.close_due is None
            and self.dead_until_us is None
            and self.socket.state is State.OPEN
            and not self.socket.transport.is_closing()
        )

    def takes_data(self, now_us: int) -> bool:
        """Whether trades are to be written to it now."""
        return now_us >= self.stalled_until_us and self.is_open

    def wanted(self, variant: str) -> set[int]:
        """Return the markets of a variant that this socket really gets."""
        markets = self.session.wanted.get(variant, set())
        return markets - self.muted if self.muted else markets

    def markets(self) -> set[int]:
        """Return every market subscribed, in whatever variant."""
        return set().union(*self.session.wanted.values())

    def write(self, frames: bytes, now_us: int) -> None:
        """Send frames that are already built; a reader too far behind is ended."""
        if not frames or not self.is_open:
            return
        transport = self.socket.transport
        transport.write(frames)
        self.session.last_sent_us = now_us
        if transport.get_write_buffer_size() > BUFFER_BYTES_MAX:
            self.end(self.session.too_slow())

    def answer(self, outgoing: list[Outgoing], now_us: int) -> None:
        """Send what the session said, up to the first close."""
        texts: list[bytes] = []
        close: Close | None = None
        for each in outgoing:
            if isinstance(each, Close):
                close = each
                break
            texts.append(frame(each.encode()))
        self.write(b"".join(texts), now_us)
        if close is not None:
            self.end(close)

    def write_garbage(self, now_us: int) -> None:
        """Send bytes that are neither text nor JSON."""
        self.write(frame(secrets.token_bytes(64), _BINARY), now_us)

    def keep_back(self, market: int) -> bool:
        """Return whether a trade of ``market`` is to be kept from this socket, and count it."""
        for key in (market, None):
            left = self.skips.get(key, 0)
            if left:
                self.skips[key] = left - 1
                if left == 1:
                    del self.skips[key]
                return True
        return False

    def go_silent(self, until_us: int) -> None:
        """Stop reading and sending, as a peer whose network died."""
        self.dead_until_us = until_us
        self.socket.transport.pause_reading()

    def abort(self) -> None:
        """Reset the TCP connection; what is still buffered is lost."""
        self.close_due = Close(0)
        self.socket.transport.abort()

    def end(self, close: Close) -> None:
        """Ask for the end; the server carries it out."""
        if self.close_due is None:
            if close.code:
                self.close_due = close
            else:
                self.abort()
