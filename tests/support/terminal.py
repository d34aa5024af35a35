"""A program in a pseudo-terminal, and what a person would see there."""

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pyte

from tests.support.processes import PROJECT

READ_BYTES = 65_536


class Terminal:
    """The near end: a screen, keys, a size.

    Attributes:
        screen: What is shown.
        process: The program.
        written: How many bytes it wrote so far.
        raw: Those bytes.
    """

    def __init__(self, near: int, process: asyncio.subprocess.Process, screen: pyte.Screen) -> None:
        self._near = near
        self.process = process
        self.screen = screen
        self.written = 0
        self.raw = b""
        self._stream = pyte.ByteStream(screen)
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(near, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._near, READ_BYTES)
        except OSError:  # the far end is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._near)
        self.written += len(data)
        self.raw += data
        self._stream.feed(data)
        self._changed.set()

    @property
    def text(self) -> str:
        """The screen as lines."""
        return "\n".join(self.screen.display)

    @property
    def colours(self) -> set[str]:
        """Every colour on the screen."""
        return {
            colour
            for line in self.screen.buffer.values()
            for cell in line.values()
            for colour in (cell.fg, cell.bg)
        }

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        set_size(self._near, columns, lines)

    async def until(self, condition: Callable[[], bool], wait_s: float = 30) -> None:
        """Wait until the screen is so."""
        try:
            async with asyncio.timeout(wait_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as late:
            raise AssertionError(f"the screen is:\n{self.text}") from late

    async def shows(self, *words: str) -> None:
        """Wait until all of these are on the screen."""
        await self.until(lambda: all(word in self.text for word in words))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._near)
        os.close(self._near)


def set_size(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@asynccontextmanager
async def in_terminal(
    *arguments: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None
) -> AsyncIterator[Terminal]:
    """Run a command of the project in a terminal of that size; SIGKILL what is left of it."""
    near, far = pty.openpty()
    set_size(near, columns, lines)
    base = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "market_ingestor", *arguments,
        cwd=PROJECT, stdin=far, stdout=far, stderr=far, start_new_session=True,
        env={**{k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}},
             **base, **(env or {})},
    )  # fmt: skip
    os.close(far)
    terminal = Terminal(near, process, pyte.Screen(columns, lines))
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
        with contextlib.suppress(OSError):
            await process.wait()
        terminal.close()
