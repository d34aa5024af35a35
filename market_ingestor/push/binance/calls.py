"""What Binance's clients say on a socket, and the answers. Pure.

https://github.com/binance/binance-spot-api-docs, web-socket-streams.md. An ``id`` is given back
as it came, and none as null.
"""

from typing import Annotated, Any, Final, TypeAlias

import msgspec

from market_ingestor.push.messages import MESSAGE_BYTES_MAX, Message, ShortText, message

UNKNOWN_PROPERTY: Final = 0
WRONG_TYPE: Final = 1
BAD_REQUEST: Final = 2
BAD_JSON: Final = 3

CallId: TypeAlias = int | ShortText | None

_encoder: Final = msgspec.json.Encoder()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request; fields that are not known are passed over, as Binance does."""

    method: str
    params: Annotated[list[Any], msgspec.Meta(max_length=1_024)] | None = None
    id: CallId = None


class _AnyId(msgspec.Struct, frozen=True, kw_only=True):
    id: CallId = None


_call: Final = msgspec.json.Decoder(Call)
_any_id: Final = msgspec.json.Decoder(_AnyId)


class BadCallError(Exception):
    """A call that cannot be followed.

    Attributes:
        code: Binance's number for the kind of fault.
        call_id: The call's id, as far as it could be read.
    """

    def __init__(self, code: int, message: str, call_id: CallId = None) -> None:
        super().__init__(message)
        self.code = code
        self.call_id = call_id


def parse_call(payload: bytes) -> Call:
    """Return what a client asks for.

    Raises:
        BadCallError: It is not JSON, or no call.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise BadCallError(BAD_REQUEST, f"Invalid request: more than {MESSAGE_BYTES_MAX} bytes")
    try:
        return _call.decode(payload)
    except msgspec.ValidationError as problem:
        call_id = _decoded_id(payload)
        raise BadCallError(BAD_REQUEST, f"Invalid request: {problem}", call_id) from problem
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise BadCallError(BAD_JSON, f"Invalid JSON: {problem}") from problem


def _decoded_id(payload: bytes) -> CallId:
    try:
        return _any_id.decode(payload).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def result(value: Any, call_id: CallId) -> Message:
    """Answer a call that was followed."""
    return message(_encoder.encode({"result": value, "id": call_id}))


def failure(problem: BadCallError) -> Message:
    """Answer a call that was not."""
    error = {"code": problem.code, "msg": str(problem)}
    return message(_encoder.encode({"error": error, "id": problem.call_id}))
