"""Chooses loopback ports for servers that must come back on the same one.

Owns the choice only; whoever binds the port may still lose a race and has to ask again.
"""

import secrets
import socket

LOOPBACK = "127.0.0.1"
# Below the ports that Linux (32768..) and macOS (49152..) lend to outgoing connections: a client
# that keeps dialling a server on a lent port, while that server is down, can be lent the very port
# it dials, connects to itself, and the server never gets its port back.
PORT_MIN = 20_000
PORT_MAX = 32_767
TRIES_MAX = 200  # even on a machine with half the range taken this fails once in 2^200


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on right now.

    Raises:
        OSError: Hardly any port of the range is free.
    """
    for _ in range(TRIES_MAX):
        port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN + 1)
        if is_free(port):
            return port
    raise OSError(f"no free port between {PORT_MIN} and {PORT_MAX}")


def is_free(port: int) -> bool:
    """Tell whether ``port`` of 127.0.0.1 can be bound right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
