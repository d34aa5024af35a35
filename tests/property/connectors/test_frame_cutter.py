"""However a stream is cut into chunks, cutter and library together read what the library would."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import Protocol, Side

from market_ingestor.connectors.frame_cutter import FrameCutter

MAX = 70_000
CHUNKS_MAX = 1_000  # of one stream: half a megabyte byte by byte would prove nothing more
# Around the places where the length changes its form, and where the bound lies.
SIZES = st.one_of(
    st.integers(0, 300), st.sampled_from([65_535, 65_536, MAX, MAX + 1]), st.integers(0, 130)
)
PLAIN = st.sampled_from([Opcode.TEXT, Opcode.BINARY])


def wire(opcode: Opcode, size: int, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, b"x" * size, fin=fin).serialize(mask=mask)


PIECES = st.one_of(
    st.builds(wire, PLAIN, SIZES),
    st.builds(wire, PLAIN, st.integers(0, 50)),
    st.builds(wire, st.sampled_from([Opcode.PING, Opcode.PONG]), st.integers(0, 125)),
    st.builds(wire, st.sampled_from(list(DATA_OPCODES)), SIZES, fin=st.booleans()),
    st.builds(wire, PLAIN, st.integers(0, 50), mask=st.just(True)),
    st.just(Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=False)),
    st.just(b"\xc1\x01x"),  # an extension's bit
    st.just(b"\x89\x7e\x00\x80" + bytes(128)),  # a ping that is too long
    st.binary(max_size=20),
)


class Reading:
    """What a reader makes of a stream.

    Attributes:
        messages: Whole messages and whatever is assembled of fragments.
        controls: Pings, pongs and closes.
    """

    def __init__(self, cutter: FrameCutter | None) -> None:
        self._cutter = cutter
        self._library = Protocol(Side.CLIENT, max_size=MAX)
        self._fragments = b""
        self.messages: list[bytes] = []
        self.controls: list[tuple[Opcode, bytes]] = []

    def feed(self, chunk: bytes) -> None:
        if self._cutter is not None and not self._cutter.is_over:
            frames, chunk = self._cutter.feed(chunk)
            self.messages += frames
        if not chunk:
            return
        self._library.receive_data(chunk)
        for event in self._library.events_received():
            assert isinstance(event, Frame)
            if event.opcode not in DATA_OPCODES:
                self.controls.append((event.opcode, bytes(event.data)))
                continue
            self._fragments += bytes(event.data)
            if event.fin:
                self.messages.append(self._fragments)
                self._fragments = b""

    @property
    def outcome(self) -> tuple[object, ...]:
        problem = self._library.parser_exc
        sent = self._library.close_sent
        return (
            self.messages,
            self.controls,
            type(problem),
            None if sent is None else sent.code,
            self._library.state,
        )


def chunked(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[begin:end] for begin, end in pairwise(edges)]


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 200_000), max_size=12))
@example([wire(Opcode.TEXT, 5), wire(Opcode.PING, 2), wire(Opcode.TEXT, 126)], [1, 2, 7, 9, 12])
def test_chunks_change_nothing(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    ours, library = Reading(FrameCutter(MAX)), Reading(None)
    for chunk in chunked(stream, cuts):
        ours.feed(chunk)
        library.feed(chunk)
    assert ours.outcome == library.outcome


@settings(deadline=None)
@given(st.lists(st.tuples(PLAIN, st.integers(0, 70_000)), max_size=8), st.integers(1, 40_000))
def test_plain_frames_never_reach_the_library(
    frames: list[tuple[Opcode, int]], chunk_size: int
) -> None:
    stream = b"".join(wire(*frame) for frame in frames)
    cutter, sizes = FrameCutter(MAX), []
    chunk_size = max(chunk_size, len(stream) // CHUNKS_MAX)
    for begin in range(0, len(stream), chunk_size):
        cut = cutter.feed(stream[begin : begin + chunk_size])
        assert not cut.rest
        sizes += [len(frame) for frame in cut.frames]
    assert sizes == [size for _, size in frames]
    assert not cutter.is_over


@pytest.mark.parametrize("length", [MAX + 1, 2**63])
def test_a_frame_that_is_too_long_is_not_waited_for(length: int) -> None:
    head = b"\x81\x7f" + length.to_bytes(8)
    cut = FrameCutter(MAX).feed(head)
    assert cut.rest == head
