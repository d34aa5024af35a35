"""Processes that take part in a benchmark, and the processor time they use.

Owns the conversation with a process: a line in, a line out. Processor time is read from outside,
by the same clock for all of them, so that nobody measures himself.
"""

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[1]
ANSWER_S: Final = 120.0  # for a round, also on a machine that does much else
END_S: Final = 15.0  # a role drains within ten


def cpu_s(pid: int) -> float:
    """Return the processor time that a process and all its threads have used so far, seconds."""
    if sys.platform != "linux":
        pytest.skip("only Linux has a clock of another process")
    # What clock_getcpuclockid(3) answers, which Python does not offer; exact to the nanosecond,
    # while /proc counts in hundredths of a second.
    return time.clock_gettime(~pid << 3 | 2)


class Child:
    """A process that answers a line on its standard input with one on its standard output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @property
    def cpu_s(self) -> float:
        """Return its processor time so far, seconds."""
        return cpu_s(self._process.pid)

    def answer(self) -> str:
        """Return the next line that it says.

        Raises:
            AssertionError: It has ended instead, or says nothing for too long.
        """
        assert self._process.stdout is not None
        heard, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        assert heard, f"{self._process.args!r} does not answer"
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} ended with {self._process.wait(END_S)}"
        return line.rstrip("\n")

    def tell(self, line: str) -> None:
        """Say something without waiting for an answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """Say something and return what it answers."""
        self.tell(line)
        return self.answer()


@contextmanager
def child(*arguments: str | Path) -> Iterator[Child]:
    """Run a program that ends with its standard input."""
    with subprocess.Popen(
        arguments, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        try:
            yield Child(process)
            process.stdin.close()
            process.wait(END_S)
        finally:
            process.kill()


@contextmanager
def module(name: str, *arguments: str) -> Iterator[Child]:
    """Run a module of the benchmarks as such a program."""
    with child(sys.executable, "-m", name, *arguments) as process:
        yield process
