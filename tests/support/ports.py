"""Ports that nobody listens on, for programs that cannot be told to choose one themselves."""

import socket


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback address that were free just now."""
    # All stay open until all are chosen.
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
