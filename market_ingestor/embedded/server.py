"""What every embedded server has in common: a port of its own, and a life with a start and an end.

Owns the order of a start (choose a port, start, wait for an answer, try again where another process
took the port) and the ways to end it. It must never know what the server is for; subclasses say
what to run and how to tell that it answers.
"""

import abc
import asyncio
import signal
import time
from pathlib import Path

from market_ingestor.embedded.child import Child, Command
from market_ingestor.embedded.errors import ServerStartError, started
from market_ingestor.embedded.folder import DataFolder
from market_ingestor.embedded.ports import free_port

PORT_TRIES_MAX = 5  # a random port is lost to somebody else about never; five times is a defect
RESTART_DEADLINE_S = 10.0  # for a known port to be given free by whatever holds it
START_TIMEOUT_S = 120.0  # recovery after a kill reads everything since the last checkpoint
ANSWER_TIMEOUT_S = 5.0  # one attempt to talk to a server on this machine
POLL_S = 0.02  # how often a starting server is asked, and a port that is taken is tried again


class PortTakenError(Exception):
    """Another process has the port; private to this module, a start tries again."""


class EmbeddedServer(abc.ABC):
    """A server on 127.0.0.1 whose data lives in a folder that the caller has opened.

    The port is chosen at the first start and kept from then on, so clients find a restarted server
    where they lost it. Start it from a thread that lives as long as the server shall.

    Attributes:
        name: What it is called in messages; its log is ``logs/NAME.log`` in the folder.
        start_timeout_s: How long a start may take until the server answers, seconds.
    """

    name: str
    stop_deadline_s: float  # for an orderly end; then it is killed
    bind_refused: str  # what it writes when its port is taken

    def __init__(self, folder: DataFolder, *, start_timeout_s: float = START_TIMEOUT_S) -> None:
        self.start_timeout_s = start_timeout_s
        self._folder = folder
        self._port: int | None = None
        self._child: Child | None = None

    @abc.abstractmethod
    async def _prepare(self) -> None:
        """Make ready what must exist before a start; called before each."""

    @abc.abstractmethod
    def _command(self, port: int) -> Command:
        """Return what to run so that it listens on ``port``, having written its settings."""

    @abc.abstractmethod
    async def _answers(self, port: int) -> bool:
        """Tell whether the server itself, and nobody else, answers on ``port``.

        May raise OSError or TimeoutError for "not yet".
        """

    @property
    def port(self) -> int:
        """The port it listens on; known from the first start on."""
        return started(self._port, self.name)

    @property
    def pid(self) -> int:
        """Number of the running process."""
        return started(self._child, self.name).identity.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._child is not None and self._child.returncode is None

    @property
    def log_path(self) -> Path:
        """The file its output goes to."""
        return self._folder.path / "logs" / f"{self.name}.log"

    async def start(self) -> None:
        """Start it and wait until it answers; do nothing if it runs.

        Raises:
            BinaryMissingError: It is not installed.
            ServerStartError: It ended, or did not answer in time; the text has its last words.
        """
        if self.is_running:
            return
        await self._prepare()
        if self._port is not None:
            await self._start_again(self._port)
            return
        for _ in range(PORT_TRIES_MAX):
            port = free_port()
            try:
                await self._start_on(port)
            except PortTakenError:
                continue
            self._port = port
            return
        raise ServerStartError(self.name, f"{PORT_TRIES_MAX} ports were taken by others")

    async def stop(self) -> None:
        """End it in order; kill it if that takes too long. Do nothing if it does not run."""
        if self._child is not None:
            await self._child.stop(self.stop_deadline_s)

    async def kill(self) -> None:
        """End it and all its processes at once, as a power failure would (SIGKILL)."""
        if self._child is not None:
            await self._child.kill()

    async def restart(self) -> None:
        """Stop it if it runs, then start it on the same port."""
        await self.stop()
        await self.start()

    async def pause(self) -> None:
        """Stop its main process from running (SIGSTOP): connections stay open, nothing moves.

        PostgreSQL then takes no new connection; sessions that are there go on.
        """
        if self._child is not None:
            await self._child.pause()

    async def resume(self) -> None:
        """Let it run on after :meth:`pause`."""
        if self._child is not None:
            self._child.send(signal.SIGCONT)

    async def watch(self) -> None:
        """Wait until the present process ends; return if that was asked for.

        Raises:
            ServerEndedError: It ended by itself.
        """
        await started(self._child, self.name).watch()

    async def _start_again(self, port: int) -> None:
        """Start on a port that must not change, waiting for it to become free."""
        give_up = time.monotonic() + RESTART_DEADLINE_S
        while True:
            try:
                await self._start_on(port)
            except PortTakenError:
                if time.monotonic() > give_up:
                    raise ServerStartError(self.name, f"port {port} is taken") from None
                await asyncio.sleep(POLL_S)
            else:
                return

    async def _start_on(self, port: int) -> None:
        child = await self._folder.spawn(self._command(port))
        try:
            await self._wait_for_answer(child, port)
        except BaseException:
            await child.kill()
            raise
        self._child = child

    async def _wait_for_answer(self, child: Child, port: int) -> None:
        give_up = time.monotonic() + self.start_timeout_s
        while True:
            if child.returncode is not None:
                if child.has_said(self.bind_refused):
                    raise PortTakenError
                problem = f"it ended with status {child.returncode}"
                raise ServerStartError(self.name, problem, child.log_tail())
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    if await self._answers(port):
                        return
            except (OSError, TimeoutError):
                pass  # not listening yet
            if time.monotonic() > give_up:
                problem = f"no answer within {self.start_timeout_s:g} s"
                raise ServerStartError(self.name, problem, child.log_tail())
            await asyncio.sleep(POLL_S)
