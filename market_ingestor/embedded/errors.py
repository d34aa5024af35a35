"""What can go wrong with an embedded server, said in one line each.

::

    EmbeddedError
    ├── BinaryMissingError   a program is not installed; the text is the command that installs it
    ├── FolderInUseError     another process holds the data folder
    ├── ServerStartError     a server ended, or did not answer, while it was being started
    └── ServerEndedError     a running server ended without being asked to
"""

from pathlib import Path
from typing import TypeVar

from market_ingestor.errors import EmbeddedError

__all__ = [
    "BinaryMissingError",
    "EmbeddedError",
    "FolderInUseError",
    "ServerEndedError",
    "ServerStartError",
    "started",
]

T = TypeVar("T")


def started(value: T | None, what: str) -> T:
    """Return ``value``, which is known once ``what`` was started.

    Raises:
        RuntimeError: It was not: the caller's mistake.
    """
    if value is None:
        raise RuntimeError(f"{what} was not started")
    return value


class BinaryMissingError(EmbeddedError):
    """A program that must be there is not.

    Attributes:
        program: Its name.
        hint: What to do about it, one clause.
    """

    def __init__(self, program: str, hint: str) -> None:
        super().__init__(f"{program} not found: {hint}")
        self.program = program
        self.hint = hint


class FolderInUseError(EmbeddedError):
    """Another process holds the lock of a data folder.

    Attributes:
        folder: The data folder.
        pid: Who holds it, None when that could not be found out.
    """

    def __init__(self, folder: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{folder} is in use by {holder}: stop it, or choose another folder")
        self.folder = folder
        self.pid = pid


class ServerStartError(EmbeddedError):
    """A server ended, or did not answer, while it was being started.

    Attributes:
        server: Its name.
        problem: What was seen, one clause.
        log_tail: The last lines it wrote, empty when it wrote none.
    """

    def __init__(self, server: str, problem: str, log_tail: str = "") -> None:
        said = f": {log_tail}" if log_tail else ""
        super().__init__(f"{server} could not be started: {problem}{said}")
        self.server = server
        self.problem = problem
        self.log_tail = log_tail


class ServerEndedError(EmbeddedError):
    """A running server ended without being asked to.

    Attributes:
        server: Its name.
        returncode: Its exit status, negative for the signal that ended it.
        log_path: Where it wrote its last words.
    """

    def __init__(self, server: str, returncode: int, log_path: Path) -> None:
        super().__init__(f"{server} ended by itself (status {returncode}), see {log_path}")
        self.server = server
        self.returncode = returncode
        self.log_path = log_path
