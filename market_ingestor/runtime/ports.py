"""Free ports near the usual ones. SHELL."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Final

from market_ingestor.errors import ConfigError
from market_ingestor.runtime.web import listen

TRIES: Final = 100  # so many neighbours in use would be strange


class PortChooser:
    """Chooses ports that nothing listens on, and that no other process has chosen.

    Between choosing a port and listening on it lies the start of everything else; a lock per port
    in the system's temporary folder, held for the life of the process, keeps a second demo from
    choosing the same one meanwhile.

    Args:
        avoided: Ports that are somebody's by convention.
    """

    def __init__(self, avoided: frozenset[int] = frozenset()) -> None:
        self._avoided = avoided
        self._held: list[int] = []  # descriptors; closed with the process

    def choose(self, usual: int, *, host: str = "127.0.0.1") -> int:
        """Return ``usual``, or the next port that can be had.

        Raises:
            ConfigError: None of a hundred neighbours is free.
        """
        for port in range(usual, usual + TRIES):
            if port != usual and port in self._avoided:
                continue
            if self._claims(port):
                with contextlib.suppress(ConfigError):
                    listen("port", host, port).close()
                    return port
        raise ConfigError("port", f"nothing free from {usual} to {usual + TRIES - 1}")

    def _claims(self, port: int) -> bool:
        path = Path(tempfile.gettempdir()) / f"market-ingestor-port-{port}.lock"
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return False  # another user's
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            return False
        self._held.append(held)
        return True
