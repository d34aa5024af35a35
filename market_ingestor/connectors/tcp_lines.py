"""Cuts a stream of bytes into lines of bounded length. Pure.

Must never know a socket or what a line means.
"""

from typing import Final

_NEWLINE: Final = b"\n"


class LineCutter:
    """Takes chunks as they come, gives whole lines without their ends.

    A line that is too long is given once, cut at the bound, and skipped up to its end: whoever
    reads it finds that it is no JSON, and memory stays bounded.

    Args:
        line_bytes_max: Longest line that is given whole.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._max = line_bytes_max
        self._rest = b""
        self._is_skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, in order, without empty ones."""
        *whole, self._rest = (self._rest + chunk).split(_NEWLINE)
        if whole and self._is_skipping:
            del whole[0]
            self._is_skipping = False
        lines = [line[: self._max] for line in map(bytes.strip, whole) if line]
        if self._is_skipping:
            self._rest = b""
        elif len(self._rest) > self._max:
            lines.append(self._rest[: self._max])
            self._rest = b""
            self._is_skipping = True
        return lines

    def end(self) -> list[bytes]:
        """Return what came behind the last line end, at the end of the stream."""
        rest, self._rest = self._rest.strip(), b""
        return [rest] if rest and not self._is_skipping else []
