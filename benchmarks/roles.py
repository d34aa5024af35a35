"""One role of the project as the process it is for its users, to be measured from outside."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
from anyio.from_thread import BlockingPortal

from benchmarks.bus import connected, loop_thread
from benchmarks.children import END_S, PROJECT, cpu_s
from market_ingestor.bus.jetstream import Bus
from market_ingestor.embedded.ports import free_port
from tests.support.servers import running_nats, short_folder

READY_S: Final = 60.0  # a machine that does much else takes its time
POLL_S: Final = 0.05


class RoleProcess:
    """A running role."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}/health"
        self._log = log

    @property
    def cpu_s(self) -> float:
        """Return its processor time so far, seconds."""
        return cpu_s(self._process.pid)

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> None:
        """Return when its health says so; raises AssertionError with its log when it does not."""
        deadline = time.monotonic() + READY_S
        with httpx2.Client(trust_env=False) as client:
            while not self._says(client, is_so):
                assert self._process.poll() is None, f"ended:\n{self._log.read_text()}"
                assert time.monotonic() < deadline, f"not in time:\n{self._log.read_text()}"
                time.sleep(POLL_S)

    def _says(self, client: httpx2.Client, is_so: Callable[[dict[str, Any]], bool]) -> bool:
        try:
            return is_so(client.get(self._url).json())
        except httpx2.HTTPError:
            return False


class Around(NamedTuple):
    """What all roles of a run have around them.

    Attributes:
        servers: The event loop that servers belong to.
        dsn: A database with the project's tables, which nobody fills.
    """

    servers: BlockingPortal
    dsn: str


class Running(NamedTuple):
    """A role with a nats-server of its own, and our connection to that.

    Attributes:
        portal: The event loop that ``bus`` belongs to.
    """

    role: RoleProcess
    nats_url: str
    bus: Bus
    portal: BlockingPortal


@contextmanager
def running(name: str, config: str, around: Around) -> Iterator[Running]:
    """Run a role for the length of the block.

    Args:
        config: Its own sections of the configuration.
    """
    with (
        short_folder() as folder,
        around.servers.wrap_async_context_manager(running_nats(folder / "nats")) as nats,
        loop_thread() as portal,
    ):
        places = f'[nats]\nservers = ["{nats.url}"]\n[database]\ndsn = "{around.dsn}"\n'
        with (
            _process(name, places + config, folder) as role,
            portal.wrap_async_context_manager(connected(nats.url)) as bus,
        ):
            role.until(lambda health: bool(health["ready"]))
            yield Running(role, nats.url, bus, portal)


@contextmanager
def _process(name: str, config: str, folder: Path) -> Iterator[RoleProcess]:
    """Run a role over its configuration; ends it in order."""
    port = free_port()
    path, log = folder / "config.toml", folder / "log"
    path.write_text(f"{config}\n[metrics]\nport = {port}\n", encoding="utf-8")
    command = (sys.executable, "-m", "market_ingestor", "run", name, "--config", str(path))
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=PROJECT, stdout=output, stderr=output) as process,
    ):
        try:
            yield RoleProcess(process, port, log)
            process.terminate()
            process.wait(END_S)
        finally:
            process.kill()
