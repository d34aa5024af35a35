"""One server process that this process started: its end, orderly or not, and its last words.

Owns starting through ``launch.py``, waiting with a deadline, and ending a whole tree of processes.
It must never know which server it runs or where that server keeps its data.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from market_ingestor.embedded.errors import ServerEndedError
from market_ingestor.embedded.processes import (
    ProcessId,
    descendants,
    identify,
    is_alive,
    is_stopped,
)

LAUNCH = Path(__file__).with_name("launch.py")
LOG_BYTES_MAX = 16 * 1024 * 1024  # a start finds a log at most this long, else it begins a new one
LOG_TAIL_BYTES = 16 * 1024  # where the reason of a failed start is looked for
LOG_TAIL_LINES = 3  # as many as still make a readable error message
KILL_DEADLINE_S = 10.0  # SIGKILL and SIGSTOP work at once, unless the process waits for a disk
POLL_S = 0.01  # how often a process that is not our child is looked at while it ends


class Command(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How to run one server.

    Attributes:
        name: What it is called in messages and in the name of its log.
        argv: The program, as an absolute path, and its arguments.
        stop_signal: What asks it to end in order, soon, whoever is still connected to it.
        user: ``uid:gid`` to become first, None to stay who we are.
        environ: Environment variables to set besides our own.
    """

    name: str
    argv: Sequence[str]
    stop_signal: signal.Signals
    user: str | None = None
    environ: Mapping[str, str] = {}


def launch_argv(command: Command) -> list[str]:
    """Return the command line that becomes ``command`` and ends with this process."""
    user = () if command.user is None else ("--user", command.user)
    return [
        *(sys.executable, "-I", "-S", str(LAUNCH)),
        *("--parent", str(os.getpid()), "--signal", str(int(command.stop_signal))),
        *user,
        "--",
        *command.argv,
    ]


class Child:
    """A server process, from its start to its end.

    The kernel ends it when the thread that called :meth:`start` ends (on Linux), so start servers
    from a thread that lives as long as they shall.

    Attributes:
        name: What it is called.
        identity: Which process it is.
        log_path: Where its output goes.
    """

    def __init__(
        self,
        command: Command,
        process: asyncio.subprocess.Process,
        identity: ProcessId,
        log: tuple[Path, int],
    ) -> None:
        self.name = command.name
        self.identity = identity
        self.log_path, self._log_offset = log
        self._stop_signal = command.stop_signal
        self._process = process
        self._ending = False

    @classmethod
    async def start(cls, command: Command, log_path: Path, lock: int) -> "Child":
        """Start ``command``, its output appended to ``log_path``, holding the descriptor ``lock``.

        Returns as soon as the process exists; whether the server works is for others to find out.
        """
        log = _open_log(log_path)
        try:
            offset = os.fstat(log).st_size
            process = await asyncio.create_subprocess_exec(
                *launch_argv(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # the server may not be allowed to look at our own
                env={**os.environ, **command.environ},
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is for us; we stop servers when we are done
            )
        finally:
            os.close(log)
        # A process that ended within this instant has no entry left; its pid alone must do.
        identity = identify(process.pid) or ProcessId(pid=process.pid, started="")
        return cls(command, process, identity, (log_path, offset))

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal, None while it runs."""
        return self._process.returncode

    @property
    def stop_signal(self) -> signal.Signals:
        """What asks it to end in order."""
        return self._stop_signal

    async def wait(self) -> int:
        """Wait until it has ended, however, and return its exit status."""
        return await self._process.wait()

    async def watch(self) -> None:
        """Wait until it ends; return if that was asked for.

        Raises:
            ServerEndedError: It ended by itself.
        """
        returncode = await self.wait()
        if not self._ending:
            raise ServerEndedError(self.name, returncode, self.log_path)

    async def stop(self, deadline_s: float) -> None:
        """Ask it to end in order; kill it when it has not within ``deadline_s`` seconds."""
        self._ending = True
        self.send(self._stop_signal)
        self.send(signal.SIGCONT)  # a paused process hears nothing
        try:
            async with asyncio.timeout(deadline_s):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it and everything it started, at once (SIGKILL), and wait until all of it is gone.

        Raises:
            TimeoutError: Something is still there after ten seconds.
        """
        self._ending = True
        tree = descendants(self.identity.pid)
        self.send(signal.SIGKILL)
        await end_all(tree)
        async with asyncio.timeout(KILL_DEADLINE_S):
            await self.wait()

    async def pause(self) -> None:
        """Stop its main process (SIGSTOP); return when none of its threads runs any more.

        Raises:
            TimeoutError: One still does after ten seconds.
        """
        self.send(signal.SIGSTOP)
        give_up = time.monotonic() + KILL_DEADLINE_S
        while not is_stopped(self.identity.pid):
            if time.monotonic() > give_up:
                raise TimeoutError(f"{self.name} cannot be stopped from running")
            await asyncio.sleep(POLL_S)

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signum)

    def log_tail(self) -> str:
        """Return the last lines it wrote since its start, joined to one."""
        try:
            with self.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_offset, end - LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return " | ".join(line.strip() for line in text.splitlines()[-LOG_TAIL_LINES:])

    def has_said(self, phrase: str) -> bool:
        """Tell whether ``phrase`` stands in what it wrote since its start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_offset)
            return phrase.encode() in log.read()


def _open_log(path: Path) -> int:
    """Open a log to append to, a new one when the old one is long, for its owner's eyes only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".old.log"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


async def end_all(processes: Sequence[ProcessId]) -> None:
    """Kill these processes, which need not be our children, and wait until they are gone.

    Raises:
        TimeoutError: One is still there after ten seconds.
    """
    for process in processes:
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    if not await all_gone(processes, KILL_DEADLINE_S):
        raise TimeoutError("a killed process does not end")


async def all_gone(processes: Sequence[ProcessId], deadline_s: float) -> bool:
    """Wait up to ``deadline_s`` seconds for these processes to end; tell whether they have."""
    give_up = time.monotonic() + deadline_s
    while any(is_alive(process) for process in processes):
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def run_tool(argv: Sequence[str], *, user: str | None = None, timeout_s: float) -> str | None:
    """Run a short-lived program to its end.

    Args:
        argv: The program, as an absolute path, and its arguments.
        user: ``uid:gid`` to become first, None to stay who we are.
        timeout_s: When to give up on it, seconds.

    Returns:
        What it wrote, or None when it failed, could not be run, or did not end in time.
    """
    command = Command(name=argv[0], argv=argv, stop_signal=signal.SIGKILL, user=user)
    process = await asyncio.create_subprocess_exec(
        *launch_argv(command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode("utf-8", "replace") if process.returncode == 0 else None
