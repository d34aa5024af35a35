"""Recognises processes: is that pid still the one we knew, what belongs to it, who holds a file.

Owns what is read from ``/proc`` on Linux and from ``ps`` elsewhere. It must never know what the
processes are for, and never sends a signal.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

PS_TIMEOUT_S = 10.0  # ps answers in milliseconds; this only keeps a sick machine from hanging us

# Positions in /proc/PID/stat after the ")" that ends the command name, see proc(5).
STAT_STATE = 0
STAT_PARENT = 1
STAT_STARTED = 19


class ProcessId(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One process, for good: a pid alone is handed out again.

    Attributes:
        pid: Its number while it lives.
        started: When it started, as the system spells it, with the boot it belongs to.
    """

    pid: int
    started: str


def identify(pid: int) -> ProcessId | None:
    """Return who lives under ``pid`` now, None when nobody does (a zombie is nobody)."""
    started = _started_linux(pid) if sys.platform == "linux" else _started_ps(pid)
    return None if started is None else ProcessId(pid=pid, started=started)


def is_alive(process: ProcessId) -> bool:
    """Tell whether exactly this process still lives."""
    return identify(process.pid) == process


def is_stopped(pid: int) -> bool:
    """Tell whether no thread of ``pid`` runs, because of SIGSTOP or because it has ended."""
    if sys.platform != "linux":
        return _ps("-o", "stat=", "-p", str(pid)).strip()[:1] in {"T", "Z", ""}
    try:
        threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return True
    fields = [_stat_fields(thread) for thread in threads]
    return all(one is None or one[STAT_STATE] in "TtZX" for one in fields)


def command_line(pid: int) -> str:
    """Return the command line of ``pid``, its parts joined by blanks, empty when it is gone."""
    if sys.platform != "linux":
        return _ps("-o", "command=", "-p", str(pid)).strip()
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(raw).replace("\0", " ").strip()


def descendants(pid: int) -> list[ProcessId]:
    """Return the living children of ``pid``, their children and so on, parents first."""
    children = _children_linux() if sys.platform == "linux" else _children_ps()
    found: list[ProcessId] = []
    pending = [pid]
    while pending:
        for child in children.get(pending.pop(0), ()):
            pending.append(child)
            process = identify(child)
            if process is not None:
                found.append(process)
    return found


def holders(path: Path) -> list[int]:
    """Return who has ``path`` open, as far as we may see; always empty where there is no /proc."""
    found: list[int] = []
    try:
        wanted = path.stat()
    except OSError:
        return found
    for pid in _pids():
        try:
            descriptors = list(os.scandir(f"/proc/{pid}/fd"))
        except OSError:
            continue  # gone meanwhile, or somebody else's
        if any(_is_same_file(entry, wanted) for entry in descriptors):
            found.append(pid)
    return found


def _is_same_file(entry: os.DirEntry[str], wanted: os.stat_result) -> bool:
    try:
        found = entry.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _stat_fields(pid: int) -> list[str] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name stands in parentheses and may itself hold blanks and parentheses.
    return stat[stat.rindex(")") + 1 :].split()


def _started_linux(pid: int) -> str | None:
    fields = _stat_fields(pid)
    if fields is None or fields[STAT_STATE] in "ZX":
        return None
    # Ticks since boot: without the boot, two processes of two boots could look the same.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{fields[STAT_STARTED]}"


def _children_linux() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat_fields(pid)
        if fields is not None:
            children.setdefault(int(fields[STAT_PARENT]), []).append(pid)
    return children


def _started_ps(pid: int) -> str | None:
    fields = _ps("-o", "stat=,lstart=", "-p", str(pid)).split(maxsplit=1)
    if len(fields) != 2 or fields[0].startswith("Z"):  # noqa: PLR2004  # the two columns asked for
        return None
    return fields[1].strip()


def _children_ps() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for line in _ps("-axo", "pid=,ppid=").splitlines():
        pid, parent = line.split()
        children.setdefault(int(parent), []).append(int(pid))
    return children


def _ps(*arguments: str) -> str:
    done = subprocess.run(
        ["/bin/ps", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PS_TIMEOUT_S,
        env={"LC_ALL": "C"},
    )
    return done.stdout
