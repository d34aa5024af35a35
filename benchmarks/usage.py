"""What processes use: processor time and memory, with all their children."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
CORES: Final = len(os.sched_getaffinity(0))


class Usage(NamedTuple):
    """Of one process and its children, processor time of those that have ended included.

    Attributes:
        cpu_s: Processor time since it started.
        memory: Resident bytes that are its own: files and shared memory do not count.
    """

    cpu_s: float
    memory: int


class _Stat(msgspec.Struct, frozen=True):
    parent: int
    ticks: int
    pages: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        memory = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return None
    # The name stands in brackets and may hold anything: fields count from the last of them.
    fields = text.rpartition(")")[2].split()
    return _Stat(
        parent=int(fields[1]),
        ticks=sum(map(int, fields[11:15])),  # user, system, and both of children that ended
        pages=int(memory[1]) - int(memory[2]),
    )


def _tree(root: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield root
    for pid in children.get(root, ()):
        yield from _tree(pid, children)


def usage(pids: Mapping[str, int]) -> dict[str, Usage]:
    """Return what each named process uses now; one that is gone uses nothing."""
    numbers = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    stats = {pid: stat for pid in numbers if (stat := _stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    used = {}
    for name, root in pids.items():
        mine = [stats[pid] for pid in _tree(root, children) if pid in stats]
        used[name] = Usage(
            cpu_s=sum(each.ticks for each in mine) / TICKS_PER_S,
            memory=sum(each.pages for each in mine) * PAGE_BYTES,
        )
    return used


def spent(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    """Return the processor seconds between two looks, by name."""
    return {name: used.cpu_s - before[name].cpu_s for name, used in after.items() if name in before}
