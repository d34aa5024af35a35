"""Lines come out as they went in, however they were cut on the way, and never too long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.connectors.tcp_lines import LineCutter


def cut(*chunks: bytes, longest: int = 10) -> list[bytes]:
    cutter = LineCutter(longest)
    return [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.end()


def test_a_line_may_come_in_pieces_and_several_at_once() -> None:
    assert cut(b"on", b"e\ntwo\r\n\n", b"thr", b"ee") == [b"one", b"two", b"three"]


def test_a_line_without_end_is_given_once_and_skipped() -> None:
    assert cut(b"x" * 11, b"x" * 1_000, b"x\nnext\n") == [b"x" * 10, b"next"]
    assert cut(b"x" * 1_000, b"x" * 1_000) == [b"x" * 10]
    assert cut(b"x" * 12 + b"\nnext\n") == [b"x" * 10, b"next"]


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=20).map(lambda each: each.replace(b"\n", b"")), max_size=20),
    st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=50),
)
def test_where_chunks_end_changes_nothing(lines: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    chunks: list[bytes] = []
    at = 0
    while at < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[at : at + size])
        at += size
    stripped = [line.strip() for line in lines]
    assert cut(*chunks, longest=20) == [line for line in stripped if line]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_line_is_too_long_and_no_more_is_kept(chunks: list[bytes]) -> None:
    assert all(0 <= len(line) <= 10 for line in cut(*chunks))
