"""The seam between a venue's protocol (pure) and the sockets that carry it.

A front speaks one venue's wire format. It is told what arrived and what time it is, and says what
to send; it holds no socket, no clock and no task. Every front is a `Front`, every open WebSocket a
`Session` of it.
"""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Protocol, TypeAlias

import msgspec

from market_ingestor.simulator.tape import Fill

US_PER_S: Final = 1_000_000
US_PER_MS: Final = 1_000


class Close(msgspec.Struct, frozen=True, gc=False):
    """End the connection: a close frame with this code, or a cut without one (code 0)."""

    code: int
    reason: str = ""


Outgoing: TypeAlias = str | Close

# Market index, payload of one frame, number of trades in it.
Frame: TypeAlias = tuple[int, bytes, int]


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A GET request; header names are lower case, repeated query names keep the first value."""

    path: str
    query: dict[str, str]
    headers: dict[str, str] = {}


class HttpReply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What REST answers."""

    status: int = HTTPStatus.OK
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a venue allows one address.

    Attributes:
        connects: Handshakes allowed per window; over it they are refused.
        connects_window_s: Length of that window.
        connect_refusal: Status of a refused handshake.
        bad_handshake: Status of a handshake for what the venue does not have, or grant.
        life_max_s: The venue ends a connection at this age; 0 for never.
        ping_interval_s: How often the venue sends protocol pings; 0 for never.
        pong_deadline_s: How long it waits for the pong.
        compresses: Whether it negotiates permessage-deflate.
    """

    connects: int
    connects_window_s: float
    connect_refusal: int = HTTPStatus.TOO_MANY_REQUESTS
    bad_handshake: int = HTTPStatus.NOT_FOUND
    life_max_s: float = 0
    ping_interval_s: float = 0
    pong_deadline_s: float = 0
    compresses: bool = False


class Session(Protocol):
    """One open WebSocket as its venue sees it.

    Attributes:
        wanted: For every variant of a frame (channel, units, wrapping) the market indexes this
            session is subscribed to.
        last_sent_us: Set by the server after every write that holds data.
    """

    wanted: dict[str, set[int]]
    last_sent_us: int

    def greet(self, now_us: int) -> list[Outgoing]:
        """Return what the venue sends unasked."""
        ...

    def receive(self, message: str, now_us: int) -> list[Outgoing]:
        """Handle one text message and return the answers, in order."""
        ...

    def tick(self, now_us: int) -> list[Outgoing]:
        """Return what is due by time alone: heartbeats, cuts. Called several times a second."""
        ...

    def closed(self) -> None:
        """Take note that the connection is over."""
        ...

    def too_slow(self) -> Close:
        """Return how the venue ends a connection that does not read."""
        ...

    def notice(self, now_us: int) -> tuple[str | None, float]:
        """Return the venue's warning of a planned cut (None: it has none) and its lead, seconds."""
        ...

    def replay_variant(self) -> str:
        """Return how recorded frames are wrapped for this session: ``wrapped`` or ``raw``."""
        ...


class Front(Protocol):
    """One venue's wire protocol."""

    name: str
    limits: Limits
    time_step_us: int

    def accept(self, path: str, query: dict[str, str], now_us: int) -> Session | None:
        """Return a session for a handshake on ``path``, None where the venue has no such path."""
        ...

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:
        """Return the frames of a variant that carry ``fills``, in order."""
        ...

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer a REST request."""
        ...

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the venue's own body for an injected REST failure."""
        ...

    def unknown_message(self, now_us: int) -> str:
        """Return a message that is well-formed for this venue but that no document mentions."""
        ...

    def first_id(self, market: int, start_s: int) -> int:
        """Return the first trade id of a market whose tape begins at ``start_s`` (Unix)."""
        ...


class Window:
    """Counts events in a sliding window; the building block of every venue's limits."""

    def __init__(self, limit: float, window_s: float) -> None:
        self._limit = limit
        self._window_us = int(window_s * US_PER_S)
        self._events: deque[tuple[int, float]] = deque()
        self._used = 0.0

    def used(self, now_us: int) -> float:
        """Return the weight counted in the window that ends now."""
        while self._events and self._events[0][0] <= now_us - self._window_us:
            self._used -= self._events.popleft()[1]
        return self._used

    def admits(self, now_us: int, weight: float = 1) -> bool:
        """Count an event of ``weight`` and return whether it is within the limit.

        Refused events are not counted, so the memory is bounded by the limit.
        """
        if self.used(now_us) + weight > self._limit:
            return False
        self._events.append((now_us, weight))
        self._used += weight
        return True


class QuietSession:
    """The parts of a session that most venues share.

    Attributes:
        wanted: See `Session`; ``last_sent_us`` likewise.
        last_received_us: When the client last said anything.
    """

    def __init__(self, now_us: int) -> None:
        self.wanted: dict[str, set[int]] = {}
        self.last_sent_us = now_us
        self.last_received_us = now_us

    def greet(self, now_us: int) -> list[Outgoing]:  # noqa: ARG002 - the seam passes the time
        """Send nothing unasked."""
        return []

    def tick(self, now_us: int) -> list[Outgoing]:  # noqa: ARG002 - the seam passes the time
        """Do nothing by time alone."""
        return []

    def closed(self) -> None:
        """Forget nothing: sessions share nothing."""

    def too_slow(self) -> Close:
        """Cut without a close frame."""
        return Close(0)

    def notice(self, now_us: int) -> tuple[str | None, float]:  # noqa: ARG002 - as above
        """Give no warning."""
        return None, 0.0

    def replay_variant(self) -> str:
        """Take recorded frames as they are."""
        return "wrapped"

    def want(self, variant: str, market: int) -> None:
        """Add a market to a variant."""
        self.wanted.setdefault(variant, set()).add(market)

    def drop(self, variant: str, market: int) -> None:
        """Take a market out of a variant."""
        markets = self.wanted.get(variant, set())
        markets.discard(market)
        if not markets:
            self.wanted.pop(variant, None)

    @property
    def is_subscribed(self) -> bool:
        """Whether anything is subscribed."""
        return bool(self.wanted)


class BadRequestError(ValueError):
    """A REST parameter is missing or wrong; ``parameter`` names it."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


def whole(query: dict[str, str], name: str, default: int) -> int:
    """Return an integer parameter, ``default`` when absent.

    Raises:
        BadRequestError: It is not a plain non-negative integer.
    """
    text = query.get(name)
    if text is None or not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise BadRequestError(name)
    return int(text)


def reply(value: object, *, status: int = HTTPStatus.OK, **headers: str) -> HttpReply:
    """Return a JSON answer; underscores in header names become dashes."""
    return HttpReply(
        status=status,
        body=msgspec.json.encode(value),
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


def compact(value: object) -> str:
    """Return ``value`` as JSON without blanks, as every venue writes it."""
    return msgspec.json.encode(value).decode()


def parse_object(message: str) -> dict[str, object] | None:
    """Return a client's JSON object, None when it is anything else."""
    try:
        value = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def texts(value: object) -> list[str] | None:
    """Return ``value`` when it is a list of strings, else None."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return list(value)
    return None


class TimeText:
    """RFC 3339 text of microsecond times, cached by second: trades come in time order."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, time_us: int) -> str:
        """Return ``2026-11-20T00:00:00.771402Z`` for Unix microseconds."""
        second, fraction = divmod(time_us, US_PER_S)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{fraction:06d}Z"
