"""NATS as it goes over the wire: cutting messages out of it, and making commands. Pure.

nats-py takes 15 us for a message with a header (five patterns, a queue, another task's turn), and
ten to make a command. Where there are thousands a second this takes their place; everything
else that a server says goes on to nats-py as it came.
Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

# Subject, reply subject or "", header block or b"", payload. Must not wait for anything.
Handler: TypeAlias = Callable[[str, str, bytes, bytes], None]

_VERSION: Final = b"NATS/1.0"
_STATUS_AT: Final = len(_VERSION)
_MESSAGE_TOKENS: Final = 4  # MSG subject sid [reply-to] size
_END: Final = b"\r\n"
_BLANK: Final = re.compile(r"\s")
_ONE_LINE: Final = str.maketrans("\r\n", "  ")
_GAPS: Final = re.compile(rb"[ \t]+")


class Repeated(bytes):
    """A command whose maker sends it again on the next connection, so it need not wait for that."""

    __slots__ = ()


class Status(NamedTuple):
    """What a server says in place of a message.

    Attributes:
        code: Three digits, ``100`` for a heartbeat.
        description: A few words, or none.
        fields: More of it.
    """

    code: str
    description: str
    fields: Mapping[str, str]


def status(header: bytes) -> Status | None:
    """Return the status a header block carries, None when it is a message's."""
    if header[_STATUS_AT : _STATUS_AT + 1] != b" ":
        return None
    first, *lines = header.decode(errors="replace").split("\r\n")
    code, _, description = first[_STATUS_AT + 1 :].partition(" ")
    fields = (line.partition(":") for line in lines if line)
    return Status(code, description, {name.strip(): value.strip() for name, _, value in fields})


def _is_odd(line: bytes) -> bool:
    """Return whether a subject holds what is a blank to Python and nats-py, but not to servers."""
    return b"\x0b" in line or b"\x0c" in line


class MessageCutter:
    """Hands messages of some subscriptions over and lets everything else pass.

    Only messages of others with odd subjects are left out: nats-py would end the connection for
    each, and anybody may send them.

    Args:
        on_failure: Told what a handler raised; the next message is handed over all the same.

    Attributes:
        handlers: By the subscription's number, as it is written.
    """

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure
        self._rest = b""
        self.handlers: dict[bytes, Handler] = {}

    def restart(self) -> None:
        """Forget the beginning of a message: the connection it came over is gone."""
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take what was read next; return what of it, and of before, is for somebody else.

        That is whole messages and lines only, so it may be read without what is handed over.
        """
        if self._rest:
            data = self._rest + data
        passed: list[bytes] = []
        begin, size = 0, len(data)
        while begin < size:
            line_end = data.find(_END, begin)
            if line_end < 0:
                break
            end = line_end + 2
            line = data[begin:line_end]
            tokens = _GAPS.split(line) if _is_odd(line) else line.split()
            kind = tokens[0].upper() if tokens else b""
            if kind in (b"HMSG", b"MSG"):
                if len(tokens) < _MESSAGE_TOKENS or not tokens[-1].isdigit():
                    self._rest = b""  # no message: nats-py says what is wrong with it
                    return b"".join(passed) + data[begin:]
                body, end = end, end + int(tokens[-1]) + 2
                if end > size:
                    break
                handler = self.handlers.get(tokens[2])
                if handler is not None:
                    self._hand_over(handler, tokens, kind == b"HMSG", data[body : end - 2])
                    begin = end
                    continue
                if _is_odd(line):
                    begin = end
                    continue
            passed.append(data[begin:end])
            begin = end
        self._rest = data[begin:]
        return b"".join(passed)

    def _hand_over(
        self, handler: Handler, tokens: list[bytes], has_header: bool, body: bytes
    ) -> None:
        has_reply = len(tokens) - has_header > _MESSAGE_TOKENS
        reply = tokens[3].decode(errors="replace") if has_reply else ""
        try:
            split = int(tokens[-2]) if has_header else 0
            handler(tokens[1].decode(errors="replace"), reply, body[:split], body[split:])
        except Exception as problem:  # noqa: BLE001 - one message must not end the connection
            self._on_failure(problem)


def publication(
    subject: str, payload: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the command that publishes a message.

    Args:
        headers: Names as they are; line breaks in values become blanks.

    Raises:
        ValueError: That is no subject.
    """
    # A blank would end it, and the end of a line begin another command.
    if not subject or _BLANK.search(subject) or _BLANK.search(reply):
        raise ValueError(f"not a subject: {subject!r} or {reply!r}")
    if not headers:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + _END
    lines = "".join([f"{name}: {text}\r\n" for name, text in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):  # hardly ever
        texts = [f"{name}: {text}".translate(_ONE_LINE) for name, text in headers.items()]
        lines = "".join([f"{each}\r\n" for each in texts])
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(block) + len(payload)
    return f"HPUB {subject} {reply} {len(block)} {size}\r\n".encode() + block + payload + _END
