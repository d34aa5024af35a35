"""Words to systemd about this process: ready, alive, reloading, stopping. A no-op elsewhere."""

import contextlib
import os
import socket
import time
from typing import Final

RELOAD_WATCHDOG_US: Final = 120_000_000  # nobody beats while the program is loaded anew


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


def ready() -> str:
    """Return the words for a process that does its work, and is watched as its unit says."""
    return "\n".join(["READY=1", *_watchdog(os.environ.get("WATCHDOG_USEC"))])


def reloading() -> str:
    """Return the words for a process that goes away to come back; `ready` ends it."""
    watched = RELOAD_WATCHDOG_US if "WATCHDOG_USEC" in os.environ else None
    now_us = time.monotonic_ns() // 1000
    return "\n".join(["RELOADING=1", f"MONOTONIC_USEC={now_us}", *_watchdog(watched)])


def _watchdog(limit_us: str | int | None) -> list[str]:
    return [f"WATCHDOG_USEC={limit_us}"] if limit_us is not None else []
