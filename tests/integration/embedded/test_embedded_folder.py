"""Rules for who may work in a data folder, with real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import msgspec
import nats
import pytest

from market_ingestor.embedded import DataFolder, Embedded, EmbeddedError, FolderInUseError, folder
from market_ingestor.embedded.child import all_gone
from market_ingestor.embedded.folder import ChildRecord, Records
from market_ingestor.embedded.processes import ProcessId, identify
from tests.support.servers import short_folder

pytestmark = pytest.mark.anyio

OWNER = Path(__file__).with_name("owner.py")
ROOT = Path(__file__).parents[3]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends orphans by itself")
# Holds the lock whose path it is given, says so, and sleeps.
HOLDER = (
    "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX);"
    " print('locked', flush=True); time.sleep(60)"
)


@pytest.fixture
def path() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@contextmanager
def owner(path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[ProcessId]]]:
    """Run embedded servers on ``path`` in another process; give it and the servers."""
    with subprocess.Popen(
        [sys.executable, str(OWNER), str(path), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert process.stdout is not None
            servers = [identify(pid) for pid in json.loads(process.stdout.readline())]
            yield process, [server for server in servers if server is not None]
        finally:
            process.kill()


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock of ``path`` in another process."""
    argv = [sys.executable, "-c", HOLDER, str(path / "lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


async def assert_all_kept(path: Path) -> None:
    async with Embedded(path) as embedded:
        database = await asyncpg.connect(embedded.dsn)
        assert await database.fetchval("SELECT number FROM kept") == 42
        await database.close()
        bus = await nats.connect(embedded.nats_url)
        stored = await bus.jetstream().get_msg("KEPT", 1)
        assert stored.data == b"message"
        await bus.close()


async def test_a_second_start_is_refused_naming_the_process(path: Path) -> None:
    with owner(path) as (process, _):
        with pytest.raises(FolderInUseError, match=f"process {process.pid}:") as caught:
            await Embedded(path).start()
        assert caught.value.pid == process.pid


@linux_only
@pytest.mark.parametrize(
    "options",
    [
        (),
        pytest.param(
            ("--another-user",),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="about being root"),
        ),
    ],
)
async def test_killing_the_owner_ends_the_servers_and_loses_nothing(
    path: Path, options: tuple[str, ...]
) -> None:
    with owner(path, *options) as (process, servers):
        assert len(servers) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert await all_gone(servers, deadline_s=10)
    await assert_all_kept(path)


async def test_orphans_of_ours_are_ended_by_the_next_start(path: Path) -> None:
    with owner(path, "--orphans") as (process, servers):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not await all_gone(servers, deadline_s=0.3)
        await assert_all_kept(path)
        assert await all_gone(servers, deadline_s=0)


async def test_a_paused_orphan_is_ended_too(path: Path) -> None:
    with owner(path, "--orphans") as (process, servers):
        for server in servers:
            os.kill(server.pid, signal.SIGSTOP)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await assert_all_kept(path)


@linux_only
async def test_an_unknown_holder_is_named_and_left_alone(path: Path) -> None:
    with holder(path) as process:
        with pytest.raises(FolderInUseError) as caught:
            await DataFolder(path).open()
        assert caught.value.pid == process.pid
        assert process.poll() is None


async def test_a_process_that_only_has_the_pid_of_an_orphan_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LOCK_DEADLINE_S", 0.2)
    with holder(path) as process:
        records = Records(
            folder=str(path),
            owner=ProcessId(pid=process.pid, started="before"),
            children=(
                ChildRecord(
                    name="nats-server",
                    process=ProcessId(pid=process.pid, started="before"),
                    stop_signal=signal.SIGKILL,
                ),
            ),
        )
        (path / "processes.json").write_bytes(msgspec.json.encode(records))
        with pytest.raises(FolderInUseError):
            await DataFolder(path).open()
        assert process.poll() is None


async def test_a_closed_folder_can_be_opened_again(path: Path) -> None:
    first = DataFolder(path)
    await first.open()
    with pytest.raises(FolderInUseError, match=f"process {os.getpid()}:"):
        await DataFolder(path).open()
    await first.close()
    second = DataFolder(path)
    await second.open()
    await second.close()


async def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(path: Path) -> None:
    (path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot use the folder"):
        await DataFolder(path / "file" / "data").open()
