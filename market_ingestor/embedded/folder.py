"""One data folder, held by one process: the lock, who runs in it, and the end of orphans.

Two servers on one store destroy acknowledged data, and nats-server takes no lock of its own. So a
folder is locked (``flock``) for as long as anything runs in it: the lock's descriptor is inherited
by every server started here, and an orphan goes on holding it. Which processes those are stands in
``processes.json``, so that the next start can tell an orphan of ours from somebody else's process.
It must never know what the servers are or what they store.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path

import msgspec

from market_ingestor.embedded.child import Child, Command, all_gone, end_all
from market_ingestor.embedded.errors import EmbeddedError, FolderInUseError, started
from market_ingestor.embedded.processes import (
    ProcessId,
    command_line,
    descendants,
    holders,
    identify,
    is_alive,
)

ORPHAN_DEADLINE_S = 20.0  # a PostgreSQL with much to write needs some seconds to shut down in order
LOCK_DEADLINE_S = 5.0  # between the end of the last process and its lock being free: milliseconds
POLL_S = 0.02  # how often a lock held by a dying process is tried


class ChildRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One server, as the next start needs to know it.

    Attributes:
        name: What it is called.
        process: Which process it is.
        stop_signal: Number of the signal that ends it in order.
    """

    name: str
    process: ProcessId
    stop_signal: int


class Records(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of ``processes.json``.

    Attributes:
        folder: The data folder these processes work in.
        owner: Who started them.
        children: The servers, in the order of their start.
    """

    folder: str
    owner: ProcessId
    children: tuple[ChildRecord, ...] = ()


class DataFolder:
    """A folder that no other process works in between :meth:`open` and :meth:`close`.

    Attributes:
        path: Where it is, absolute and without symbolic links.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None
        self._children: list[Child] = []

    async def open(self) -> None:
        """Lock the folder, made if it is not there, ending what an earlier owner left behind.

        Raises:
            FolderInUseError: Another process works in it.
            EmbeddedError: We may not write there.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(f"cannot use the folder {self.path}: {error.strerror}") from error
        try:
            if not _try_lock(lock):
                await self._end_orphans()
                await self._lock_soon(lock)
            self._lock = lock
            self._write_records()
        except BaseException:
            self._lock = None
            os.close(lock)
            raise

    async def close(self) -> None:
        """Kill what still runs here and give the folder free; do nothing if it is not open."""
        if self._lock is None:
            return
        try:
            for child in self._children:
                if child.returncode is None:
                    await child.kill()
        finally:
            # Closing is enough, and unlocking would be wrong: it would unlock for a child, too.
            os.close(self._lock)
            self._lock = None

    async def spawn(self, command: Command) -> Child:
        """Start a server that holds the folder's lock and ends with this process.

        Its output goes to ``logs/NAME.log``.
        """
        lock = started(self._lock, f"work in {self.path}")
        child = await Child.start(command, self.path / "logs" / f"{command.name}.log", lock)
        self._children = [c for c in self._children if c.returncode is None]
        self._children.append(child)
        self._write_records()
        return child

    def _write_records(self) -> None:
        owner = started(identify(os.getpid()), "this process")
        children = tuple(
            ChildRecord(name=c.name, process=c.identity, stop_signal=int(c.stop_signal))
            for c in self._children
        )
        records = Records(folder=str(self.path), owner=owner, children=children)
        write_private(self.path / "processes.json", msgspec.json.encode(records))

    def _read_records(self) -> Records | None:
        try:
            return msgspec.json.decode((self.path / "processes.json").read_bytes(), type=Records)
        except (OSError, msgspec.MsgspecError):
            return None

    async def _end_orphans(self) -> None:
        """End the recorded servers, if their owner is dead and they are what was recorded.

        Raises:
            FolderInUseError: The lock's holder is somebody we may not end.
        """
        records = self._read_records()
        if records is None or is_alive(records.owner):
            raise FolderInUseError(self.path, self._holder(records))
        orphans = [child for child in records.children if self._is_orphan(records, child)]
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan.process.pid, orphan.stop_signal)
                os.kill(orphan.process.pid, signal.SIGCONT)  # a paused process hears nothing
        processes = [orphan.process for orphan in orphans]
        if not await all_gone(processes, ORPHAN_DEADLINE_S):
            await end_all([*processes, *(p for one in processes for p in descendants(one.pid))])

    def _is_orphan(self, records: Records, child: ChildRecord) -> bool:
        return (
            records.folder == str(self.path)
            and is_alive(child.process)
            and records.folder in command_line(child.process.pid)
        )

    async def _lock_soon(self, lock: int) -> None:
        give_up = time.monotonic() + LOCK_DEADLINE_S
        while not _try_lock(lock):
            if time.monotonic() > give_up:
                raise FolderInUseError(self.path, self._holder(self._read_records()))
            await asyncio.sleep(POLL_S)

    def _holder(self, records: Records | None) -> int | None:
        """Return the pid to name: the recorded owner, else whoever has the lock's file open."""
        if records is not None and is_alive(records.owner):
            return records.owner.pid
        others = [pid for pid in holders(self.path / "lock") if pid != os.getpid()]
        return min(others, default=None)


def write_private(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` in one step; only its owner can read it, at any moment."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)  # a draft that a crash left may have other rights
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
