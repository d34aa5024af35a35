"""Draws the board on a terminal and takes its keys. SHELL.

Each frame is one write to the alternate screen, so nothing flickers; the terminal's size is asked
for each frame, so a resized one is filled at once.
"""

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Final

import msgspec
from rich.console import Console
from rich.control import Control
from rich.text import Text

from market_ingestor.watch.board import Board
from market_ingestor.watch.source import Status, Target, follow
from market_ingestor.watch.view import SORTS, Choice, Surroundings, lines, ordered

FRAME_S: Final = 0.25
FIRST_DATA_S: Final = 10.0  # for a view that is printed once
CONNECT_S: Final = 2.0  # for the first connection of such a view; a few tries fit in
SETTLE_S: Final = 1.5  # after the first data: the others come within a moment
KEY_BYTES: Final = 64
WIDTH: Final = 100  # of what is printed once where there is no terminal

_UP: Final = (b"\x1b[A", b"\x1bOA", b"k")
_DOWN: Final = (b"\x1b[B", b"\x1bOB", b"j")


class Screen:
    """The view on a terminal until somebody leaves it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._board = Board()
        self._status = Status()
        self._choice = Choice()
        self._console = Console()
        self._wake = asyncio.Event()
        self._is_over = False

    async def run(self) -> None:
        """Draw and follow keys until ``q`` or a signal."""
        following = asyncio.create_task(follow(self._target, self._board, self._status))
        try:
            with self._keys(), self._console.screen(hide_cursor=True):
                while not self._is_over:
                    self._draw()
                    self._wake.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(FRAME_S):
                            await self._wake.wait()
                    if following.done():
                        following.result()
        finally:
            following.cancel()

    @contextlib.contextmanager
    def _keys(self) -> Iterator[None]:
        """Read single keys, unseen; the terminal is put back however it ends."""
        stream = sys.stdin.fileno()
        before = termios.tcgetattr(stream)
        loop = asyncio.get_running_loop()
        tty.setcbreak(stream)
        loop.add_reader(stream, self._on_key, stream)
        try:
            yield
        finally:
            loop.remove_reader(stream)
            termios.tcsetattr(stream, termios.TCSADRAIN, before)

    def _on_key(self, stream: int) -> None:
        keys = os.read(stream, KEY_BYTES)
        if not keys or keys in {b"q", b"Q", b"\x04"}:
            self._is_over = True
        elif keys in _UP:
            self._choice.line -= 1
        elif keys in _DOWN:
            self._choice.line += 1
        elif keys == b"s":
            names = list(SORTS)
            self._choice.sort = names[(names.index(self._choice.sort) + 1) % len(names)]
        self._wake.set()

    def _draw(self) -> None:
        width, height = self._console.size
        around = surroundings(self._target, self._status, self._console, width, height)
        shown = lines(self._board, self._choice, around)
        self._console.control(Control.home())
        self._console.print(Text("\n").join(shown), end="", no_wrap=True, crop=True)


def surroundings(
    target: Target, status: Status, console: Console, width: int, height: int
) -> Surroundings:
    """Return what the view is drawn for."""
    return Surroundings(
        width=width,
        height=height,
        address=target.address,
        status=status.text,
        is_live=status.is_live,
        now_us=time.time_ns() // 1_000,
        is_ascii=not console.encoding.lower().startswith("utf"),
    )


async def print_once(target: Target, *, as_json: bool) -> int:
    """Print the table, or each market as a line of JSON, when data has come; 1 when none does."""
    board, status = Board(), Status()
    following = asyncio.create_task(follow(target, board, status))
    try:
        give_up_at = time.monotonic() + CONNECT_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_DATA_S):
                while not board.markets and (status.is_live or time.monotonic() < give_up_at):
                    if following.done():
                        following.result()
                    await asyncio.sleep(0.05)
            if board.markets:
                await asyncio.sleep(SETTLE_S)
    finally:
        following.cancel()
    if not board.markets:
        sys.stderr.write(f"market-ingestor: {target.address}: {board.problem or status.text}\n")
        return 1
    if as_json:
        for market in ordered(board, Choice()):
            sys.stdout.write(msgspec.json.encode(market.stats).decode() + "\n")
        return 0
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    height = len(board.markets) + 9
    around = surroundings(target, status, console, console.width, height)
    for line in lines(board, Choice(), around)[:-1]:
        console.print(line.plain.rstrip() if not console.is_terminal else line, highlight=False)
    return 0
