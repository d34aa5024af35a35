"""Rules for recognising processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from market_ingestor.embedded.processes import (
    ProcessId,
    command_line,
    descendants,
    holders,
    identify,
    is_alive,
    is_stopped,
)

# Both ways of asking work on Linux, so both are tested there.
WAYS = ("linux", "darwin") if sys.platform == "linux" else (sys.platform,)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", request.param)


def test_this_process_is_alive() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_alive(me)


def test_the_same_pid_with_another_start_is_another_process() -> None:
    assert not is_alive(ProcessId(pid=os.getpid(), started="long ago"))


def test_an_ended_process_is_gone_even_before_it_is_waited_for() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert identify(process.pid) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
        assert identify(process.pid) is None


def test_a_command_line_names_its_arguments() -> None:
    argv = [sys.executable, "-c", "print('ready', flush=True); input()", "an argument"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert command_line(process.pid).endswith("an argument")
        process.kill()


def test_a_process_is_stopped_only_after_it_was_stopped() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert is_stopped(process.pid)
        process.kill()
    assert is_stopped(process.pid)


def test_descendants_include_grandchildren() -> None:
    with subprocess.Popen(
        ["sh", "-c", "sh -c 'echo ready; sleep 60; :'; :"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = descendants(process.pid)
        process.kill()
        for one in found:
            os.kill(one.pid, 9)
    assert len(found) >= 1
    assert process.pid not in [one.pid for one in found]


@linux_only
def test_who_has_a_file_open_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w"):
        assert holders(path) == [os.getpid()]
    assert holders(path) == []
