"""One role as a process of its own, to be killed, ended, paused and started again by a test."""

import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import httpx2

from tests.support.http import local_client
from tests.support.processes import Command, command

START_WAIT_S: Final = 30.0


class Service:
    """A role with its own configuration and port for health; each life has a log of its own.

    Attributes:
        name: The role and, where there are several of it, which one.
        starts: How often it was started.
    """

    def __init__(self, role: str, config: Path, port: int, folder: Path, tag: str = "") -> None:
        self.role = role
        self.port = port
        self.starts = 0
        self.name = f"{role}{tag}"
        self._config = config
        self._folder = folder
        self._stack = AsyncExitStack()
        self._command: Command | None = None

    @property
    def command(self) -> Command:
        assert self._command is not None
        return self._command

    @property
    def is_running(self) -> bool:
        return self._command is not None and self._command.process.returncode is None

    @property
    def pid(self) -> int:
        """Of its present life."""
        return self.command.process.pid

    @property
    def logs(self) -> list[Path]:
        """The logs of all its lives, oldest first."""
        return [self._log(number) for number in range(1, self.starts + 1)]

    def _log(self, start: int) -> Path:
        return self._folder / f"{self.name}-{start}.log"

    async def start(self) -> None:
        self.starts += 1
        self._command = await self._stack.enter_async_context(
            command(
                "run", self.role, "--config", str(self._config),
                log=self._log(self.starts),
                env={"MARKET_INGESTOR_METRICS__PORT": str(self.port)},
            )
        )  # fmt: skip

    async def kill(self) -> None:
        """End it with SIGKILL, paused or not; return when it is gone."""
        await self._stack.aclose()

    async def terminate(self, grace_s: float) -> float:
        """End it in order, within ``grace_s`` seconds and with status 0; return how long it took.

        Raises:
            AssertionError: It takes longer or fails; it says what the process wrote.
        """
        began = time.monotonic()
        self.command.send(signal.SIGTERM)
        status = await self.command.ended(grace_s)
        took_s = time.monotonic() - began
        assert status == 0, f"{self.name} ended with {status}:\n{self.command.output[-3000:]}"
        await self._stack.aclose()
        return took_s

    def pause(self) -> None:
        self.command.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.command.send(signal.SIGCONT)

    async def get(self, path: str) -> httpx2.Response | None:
        """Return what its own port answers, None when nothing does."""
        try:
            async with local_client(timeout_s=2) as client:
                return await client.get(f"http://127.0.0.1:{self.port}{path}")
        except httpx2.HTTPError:
            return None

    async def is_ready(self) -> bool:
        answer = await self.get("/health/ready")
        return answer is not None and answer.status_code == httpx2.codes.OK

    async def metrics(self) -> dict[str, dict[str, float]]:
        """Return its metrics: by name, then by labels as they are written."""
        answer = await self.get("/metrics")
        found: dict[str, dict[str, float]] = {}
        if answer is None or answer.status_code != httpx2.codes.OK:
            return found
        for line in answer.text.splitlines():
            if line.startswith("#"):
                continue
            name, _, value = line.rpartition(" ")
            name, _, labels = name.partition("{")
            found.setdefault(name, {})[labels.rstrip("}")] = float(value)
        return found

    async def ready(self, wait_s: float = START_WAIT_S) -> None:
        await self.command.until(self.is_ready, wait_s)
