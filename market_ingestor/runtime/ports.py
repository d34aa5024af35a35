"""Free ports near the usual ones. SHELL."""

import contextlib

from market_ingestor.errors import ConfigError
from market_ingestor.runtime.web import listen

TRIES = 100  # so many neighbours in use would be strange


def free_port(usual: int, *, host: str = "127.0.0.1", taken: set[int] | None = None) -> int:
    """Return ``usual``, or the next port that can be listened on and is not in ``taken``.

    The port is free when this returns, not for ever: use it soon.

    Raises:
        ConfigError: None of a hundred neighbours is free.
    """
    for port in range(usual, usual + TRIES):
        if taken is not None and port in taken:
            continue
        with contextlib.suppress(ConfigError):
            listen("port", host, port).close()
            if taken is not None:
                taken.add(port)
            return port
    raise ConfigError("port", f"nothing free from {usual} to {usual + TRIES - 1}")
