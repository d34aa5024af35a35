"""Words to systemd about this process: ready, alive, reloading, stopping. A no-op elsewhere."""

import contextlib
import os
import socket
import time


def notify(state: str) -> None:
    """Send assignments such as ``READY=1``, one a line, to the manager, when there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket, as systemd spells it
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        datagram.connect(address)
        datagram.send(state.encode())


def reloading() -> str:
    """Return the words for a process that goes away to come back; READY=1 ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
