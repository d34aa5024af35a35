"""Messages cut out of what a nats-server sends: none lost, none twice, the rest untouched."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.protocol.parser import Parser

from market_ingestor.bus.wire import MessageCutter

OURS = {1, 7}  # subscriptions with a handler
SUBJECTS = st.sampled_from(["a", "market.raw.okx.BTCUSDT", "_INBOX.x.12"])
REPLIES = st.sampled_from(["", "$JS.ACK.S.c.1.2.3.4.5"])
HEADERS = st.sampled_from([b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n"])
# Payloads that look like protocol are the ones to fear.
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"MSG a 1 5\r\nhello\r\n", b"PING\r\n", b"HMSG"]),
)
MESSAGES = st.tuples(SUBJECTS, st.sampled_from([1, 2, 7, 17]), REPLIES, HEADERS, PAYLOADS)
LINES = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'no'\r\n"])


def encoded(message: tuple[str, int, str, bytes, bytes]) -> bytes:
    subject, sid, reply, header, payload = message
    head = " ".join(filter(None, ("HMSG" if header else "MSG", subject, str(sid), reply)))
    sizes = f" {len(header)}" if header else ""
    size = len(header) + len(payload)
    return f"{head}{sizes} {size}\r\n".encode() + header + payload + b"\r\n"


class Heard(Client):
    """nats-py's client as far as its parser needs one, noting what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[int, bytes, bytes, bytes, bytes]] = []
        self.words: list[str] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any
    ) -> None:
        self.messages.append((sid, bytes(subject), bytes(reply), headers or b"", data))

    async def _process_ping(self) -> None:
        self.words.append("PING")

    async def _process_pong(self) -> None:
        self.words.append("PONG")

    async def _process_err(self, err_msg: str) -> None:
        self.words.append(err_msg)


def parse(parser: Parser, data: bytes) -> None:
    """Let nats-py read ``data``; it waits for nothing, so one step is all there is."""
    step = parser.parse(data)
    try:
        step.send(None)
    except StopIteration:
        return
    raise AssertionError("the parser waits")


@given(items=st.lists(st.one_of(MESSAGES, LINES), max_size=12), data=st.data())
def test_whatever_the_pieces_both_readers_get_what_is_theirs(items: Any, data: Any) -> None:
    stream = b"".join([each if isinstance(each, bytes) else encoded(each) for each in items])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    handed: list[tuple[int, str, str, bytes, bytes]] = []
    failures: list[Exception] = []
    cutter = MessageCutter(failures.append)

    def handler(sid: int) -> Any:
        def take(subject: str, reply: str, header: bytes, payload: bytes) -> None:
            handed.append((sid, subject, reply, header, payload))
            if not payload:
                raise RuntimeError("a handler's mistake costs one message at most")

        return take

    for sid in OURS:
        cutter.handlers[str(sid).encode()] = handler(sid)
    heard = Heard()
    parser = Parser(heard)
    begin = 0
    for end in [*cuts, len(stream)]:
        passed = cutter.feed(stream[begin:end])
        parse(parser, passed)
        assert not parser.buf, "only whole messages and lines are passed on"
        begin = end
    messages = [each for each in items if not isinstance(each, bytes)]
    assert handed == [(m[1], m[0], m[2], m[3], m[4]) for m in messages if m[1] in OURS]
    assert len(failures) == sum(m[1] in OURS and not m[4] for m in messages)
    assert heard.messages == [
        (m[1], m[0].encode(), m[2].encode(), m[3], m[4]) for m in messages if m[1] not in OURS
    ]
    words = {b"PING\r\n": ["PING"], b"PONG\r\n": ["PONG"], b"-ERR 'no'\r\n": ["'no'"]}
    lines = [each for each in items if isinstance(each, bytes)]
    assert heard.words == [word for line in lines for word in words.get(line, [])]
