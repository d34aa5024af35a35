"""The native push protocol: what clients say, and what they are told (contract, section 5). Pure.

Client messages are bounded and strict: unknown fields are an error, so a misspelt option is
noticed. Server messages are built once, whoever gets them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec

MESSAGE_BYTES_MAX: Final = 64 * 1024  # a subscription to the most topics allowed fits twice
TOPICS_MAX: Final = 1_024  # per client; wildcards stand for more
WILDCARDS_MAX: Final = 128  # of them; each is compared with everything known when it is new
SNAPSHOT_MAX: Final = 1_000  # candles per topic; more is what REST is for
BATCH_MS_MAX: Final = 10_000
TEXT_MAX: Final = 128  # of ids, positions and topics

_LENGTH_16: Final = 126  # WebSocket frame lengths (RFC 6455, section 5.2)
_LENGTH_64: Final = 65_536
_TEXT_FRAME: Final = 0x81

ShortText: TypeAlias = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
RequestId: TypeAlias = int | ShortText | None
Topics: TypeAlias = Annotated[list[ShortText], msgspec.Meta(min_length=1, max_length=TOPICS_MAX)]


class Subscribe(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="action",
    tag="subscribe",
    forbid_unknown_fields=True,
):
    """Begin to get topics.

    Attributes:
        snapshot: First the last N closed candles of each candle topic, oldest first.
        since: First every version stored after this position.
        batch_ms: From now on frames are arrays, at least this many milliseconds apart unless
            more is waiting than one holds; 0 ends it.
    """

    topics: Topics
    id: RequestId = None
    snapshot: Annotated[int, msgspec.Meta(ge=1, le=SNAPSHOT_MAX)] | None = None
    since: ShortText | None = None
    batch_ms: Annotated[int, msgspec.Meta(ge=0, le=BATCH_MS_MAX)] | None = None


class Unsubscribe(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="action",
    tag="unsubscribe",
    forbid_unknown_fields=True,
):
    """Stop getting topics, named as they were subscribed."""

    topics: Topics
    id: RequestId = None


class ListTopics(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="action",
    tag="list",
    forbid_unknown_fields=True,
):
    """Ask what is subscribed."""

    id: RequestId = None


class Ping(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="action",
    tag="ping",
    forbid_unknown_fields=True,
):
    """Ask whether anybody is there."""

    id: RequestId = None


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Present a token, where headers cannot: browsers and plain TCP."""

    token: Annotated[str, msgspec.Meta(max_length=4096)]


class _AnyId(msgspec.Struct, frozen=True, kw_only=True):
    id: RequestId = None


Request: TypeAlias = Subscribe | Unsubscribe | ListTopics | Ping | Token

_action: Final = msgspec.json.Decoder(Subscribe | Unsubscribe | ListTopics | Ping)
_token: Final = msgspec.json.Decoder(Token)
_any_id: Final = msgspec.json.Decoder(_AnyId)
_encoder: Final = msgspec.json.Encoder()
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class BadRequestError(Exception):
    """A client's message cannot be followed.

    Attributes:
        code: One word for programs.
        request_id: The ``id`` of the message, as far as it could be read.
    """

    def __init__(self, code: str, message: str, request_id: RequestId = None) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


def parse_request(payload: bytes) -> Request:
    """Return what a client asks for.

    Raises:
        BadRequestError: It is not JSON, not one of the actions, or out of bounds.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise BadRequestError("message_too_big", f"more than {MESSAGE_BYTES_MAX} bytes")
    try:
        action: Request = _action.decode(payload)
    except _UNREADABLE as problem:
        token = parse_token(payload)
        if token is not None:
            return token
        raise BadRequestError("bad_message", str(problem), _decoded_id(payload)) from problem
    return action


def parse_token(payload: bytes) -> Token | None:
    """Return the token a message presents, None when it is another message."""
    try:
        return _token.decode(payload)
    except _UNREADABLE:
        return None


def _decoded_id(payload: bytes) -> RequestId:
    try:
        return _any_id.decode(payload).id
    except _UNREADABLE:
        return None


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as it goes out: JSON text on one line, and its WebSocket frame's head.

    Attributes:
        count: How many messages these are, where several are written as one; then ``text``
            holds their frames and ``head`` nothing.
    """

    text: bytes
    head: bytes
    count: int = 1

    @property
    def size(self) -> int:
        """Return the bytes it takes on the wire."""
        return len(self.head) + len(self.text)


def frame_head(size: int) -> bytes:
    """Return the head of an unmasked, unfragmented text frame of ``size`` bytes."""
    if size < _LENGTH_16:
        return bytes((_TEXT_FRAME, size))
    if size < _LENGTH_64:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big")
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big")


def message(text: bytes) -> Message:
    """Return ``text``, one line of JSON, ready to be sent."""
    return Message(text, frame_head(len(text)))


def frames(batch: Sequence[Message]) -> bytes:
    """Return messages as WebSocket frames, one each."""
    return b"".join([part for each in batch for part in (each.head, each.text)])


def array_frame(batch: Sequence[Message]) -> bytes:
    """Return messages as one WebSocket frame with an array."""
    body = b"[" + b",".join([each.text for each in batch]) + b"]"
    return frame_head(len(body)) + body


def lines(batch: Sequence[Message]) -> bytes:
    """Return messages as lines."""
    return b"\n".join([each.text for each in batch]) + b"\n"


def one_line(payload: bytes) -> bytes:
    """Return JSON without line breaks, which can only stand between its tokens."""
    if b"\n" in payload or b"\r" in payload:
        return payload.translate(None, b"\n\r")
    return payload


def data_text(kind: str, topic: str, position: str | None, payload: bytes) -> bytes:
    """Return a data message around the bytes that came over the bus, which stay as they are.

    Args:
        kind: ``kline``, ``trades``, ``stats`` or ``event``.
        topic: The concrete topic: tokens of safe characters, nothing to escape.
        position: For closed candles.
        payload: JSON, already checked.
    """
    where = f'","position":"{position}"' if position is not None else '"'
    return f'{{"type":"{kind}","topic":"{topic}{where},"data":'.encode() + one_line(payload) + b"}"


def _encoded(fields: dict[str, Any]) -> Message:
    return message(_encoder.encode(fields))


def subscribed(topics: Sequence[str], position: str, request_id: RequestId) -> Message:
    """Answer `Subscribe`; live candles begin behind ``position``."""
    return _encoded(
        {"type": "subscribed", "topics": topics, "position": position, "id": request_id}
    )


def unsubscribed(topics: Sequence[str], request_id: RequestId) -> Message:
    """Answer `Unsubscribe` with what was ended."""
    return _encoded({"type": "unsubscribed", "topics": topics, "id": request_id})


def subscriptions(topics: Sequence[str], request_id: RequestId) -> Message:
    """Answer `ListTopics`."""
    return _encoded({"type": "subscriptions", "topics": topics, "id": request_id})


def pong(request_id: RequestId) -> Message:
    """Answer `Ping`."""
    return _encoded({"type": "pong", "id": request_id})


def authorized() -> Message:
    """Answer `Token` when it opened the door."""
    return _encoded({"type": "authorized"})


def missed(topic: str, count: int, position: str | None) -> Message:
    """Tell of ``count`` messages lost; ``position`` is where to resume, None where nothing is."""
    return _encoded({"type": "missed", "topic": topic, "count": count, "position": position})


def error(code: str, text: str, request_id: RequestId = None) -> Message:
    """Tell that a request was not followed."""
    return _encoded({"type": "error", "code": code, "message": text, "id": request_id})
