"""The units are valid and confined, and a role says to systemd how it is."""

import asyncio
import contextlib
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from market_ingestor.runtime.heartbeat import beat
from tests.support.processes import command
from tests.support.servers import DatabaseMaker, NatsHandle
from tests.support.tools import needs, run

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
PROGRAM = "/opt/market-ingestor/bin/market-ingestor"
ROLES = ("ingest", "klines", "save", "gateway", "api")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Give the units as they are installed, but for a program that exists here."""
    for unit in UNITS.iterdir():
        if unit.suffix in {".service", ".target"}:
            text = unit.read_text().replace(PROGRAM, sys.executable)
            (tmp_path / unit.name).write_text(text)
    return tmp_path


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    for role in ROLES:
        (units / f"market-ingestor@{role}.service").symlink_to("market-ingestor@.service")
    names = [f"market-ingestor@{role}.service" for role in ROLES]
    names += ["market-ingestor-migrate.service", "market-ingestor.target"]
    assert run("systemd-analyze", "verify", *(str(units / name) for name in names)) == ""


@needs("systemd-analyze")
def test_a_role_is_confined(units: Path) -> None:
    unit = units / "market-ingestor@ingest.service"
    unit.symlink_to("market-ingestor@.service")
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
    (exposure,) = re.findall(r"exposure level for \S+: ([0-9.]+)", said)
    assert float(exposure) <= 1.5, said


def test_systemd_waits_longer_than_the_drain_takes() -> None:
    text = (UNITS / "market-ingestor@.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert settings["Type"] == "notify"
    assert int(settings["WatchdogSec"]) >= 10
    assert int(settings["TimeoutStopSec"]) > 10  # shutdown_grace_s
    assert settings["RestartPreventExitStatus"] == "2"


def test_a_rolling_restart_waits_for_each_role(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for name in ("systemctl", "curl"):
        stand_in = tmp_path / name
        stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>{said}\n')
        stand_in.chmod(0o755)
    (tmp_path / "klines-2.env").write_text("ROLE=klines\nMARKET_INGESTOR_METRICS__PORT=9712\n")
    given = [f"SYSTEMCTL={tmp_path}/systemctl", f"CURL={tmp_path}/curl", f"ETC={tmp_path}"]
    script = str(UNITS / "rolling-restart.sh")
    run("env", *given, script)
    run("env", *given, script, "klines-2")
    steps = re.findall(r"restart market-ingestor@([\w-]+)|:(\d+)/health/ready", said.read_text())
    assert [role or port for role, port in steps] == [
        *("api", "9705", "gateway", "9704", "save", "9703", "klines", "9702", "ingest", "9701"),
        *("klines-2", "9712"),
    ]


class Manager:
    """The other end of ``NOTIFY_SOCKET``: what a process has said to its manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        """Take in what was said since, and return all of it."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self._socket.recv(4096).decode().splitlines()
        return self.said

    def heard(self, word: str) -> bool:
        return word in self.listen()

    def count(self, word: str) -> int:
        return self.listen().count(word)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_a_role_tells_its_manager_the_whole_of_its_life(
    nats_server: NatsHandle, make_database: DatabaseMaker, manager: Manager, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    right = (
        f'[nats]\nservers = ["{nats_server.url}"]\n[database]\ndsn = "{make_database()}"\n'
        "[gateway]\nport = 0\ntcp_port = 0\n[metrics]\nport = 0\n"
    )
    config.write_text(right)
    await nats_server.stop()
    env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "20000000"}
    arguments = ("run", "gateway", "--config", str(config))
    async with command(*arguments, log=tmp_path / "log", env=env) as role:
        # NATS is away: the start may take as long as that lasts.
        await role.until(lambda: manager.count("EXTEND_TIMEOUT_USEC=30000000") >= 2, 30)
        assert not manager.heard("READY=1")
        await nats_server.start()
        await role.until(lambda: manager.heard("READY=1"), 30)
        beats = manager.count("WATCHDOG=1")
        await role.until(lambda: manager.count("WATCHDOG=1") >= beats + 2, 10)

        config.write_text(right + "[nowhere]\n")
        role.send(signal.SIGHUP)
        await role.until(lambda: "reload_refused" in role.output, 10)
        assert not manager.heard("RELOADING=1")

        config.write_text(right + "[klines]\nlateness_s = 3\n")
        role.send(signal.SIGHUP)
        await role.until(lambda: manager.count("READY=1") == 2, 30)
        said = manager.listen()
        away = said.index("RELOADING=1")
        assert "WATCHDOG_USEC=120000000" in said[away:]  # nobody beats while it loads
        assert said[-1 - said[::-1].index("READY=1") :][1] == "WATCHDOG_USEC=20000000"
        assert not manager.heard("STOPPING=1")

        role.send(signal.SIGTERM)
        assert await role.ended(15) == 0
        assert manager.heard("STOPPING=1")


def test_a_blocked_event_loop_stops_the_watchdog(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    blocked_at: list[int] = []

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - nothing tells of datagrams
                await asyncio.sleep(0.005)

    async def live() -> None:
        heart = asyncio.create_task(beat(0.01))
        await until(lambda: manager.count("WATCHDOG=1") >= 3)
        blocked_at.append(manager.count("WATCHDOG=1"))
        time.sleep(0.3)  # noqa: ASYNC251 - what is tested: thirty beats that do not come
        blocked_at.append(manager.count("WATCHDOG=1"))
        await until(lambda: manager.count("WATCHDOG=1") >= blocked_at[1] + 2)
        heart.cancel()

    asyncio.run(live())
    assert blocked_at[0] == blocked_at[1]
