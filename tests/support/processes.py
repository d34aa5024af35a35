"""The project's own commands as child processes, ended with the test."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.patience import Patience

PROJECT = Path(__file__).parents[2]
POLL_S: Final = 0.1


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    children = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(entry.parent.name))
    return [pid, *children]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and its children, a server's sessions say, which keep their connections."""
    os.kill(pid, signal.SIGSTOP)  # first: a session begun behind a list of them would go on
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
    stopped = family(pid)
    for each in stopped[1:]:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in reversed(stopped):
            os.kill(each, signal.SIGCONT)


class Command:
    """A running ``python -m market_ingestor ...`` and what it has written."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout_s: float) -> int:
        """Return the exit status; raises with the output when it takes longer.

        Time in which the process waited for a core does not count.
        """
        patience = Patience(self.process.pid, timeout_s)
        while not patience.is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    return await self.process.wait()
        raise AssertionError(f"still running after {timeout_s} s:\n{self.output}")

    async def until(self, condition: Callable[[], Any], timeout_s: float) -> Any:
        """Poll ``condition`` (plain or a coroutine function) until it is true; return its value.

        Time in which the process waited for a core does not count.
        """
        patience = Patience(self.process.pid, timeout_s)
        while not patience.is_over:
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            if self.process.returncode is not None:
                raise AssertionError(f"ended early:\n{self.output}")
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"not within {timeout_s} s:\n{self.output[-5000:]}")


@contextlib.asynccontextmanager
async def command(
    *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Command]:
    """Run a command of the project for the length of the block; SIGKILL what is left of it."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "market_ingestor",
            *arguments,
            cwd=PROJECT,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        yield Command(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def program(
    *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Command]:
    """Run a program of others for the length of the block; SIGKILL what is left of it."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *arguments, env={**os.environ, **(env or {})}, stdout=output, stderr=output
        )
    try:
        yield Command(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
