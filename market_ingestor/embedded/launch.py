"""Becomes an embedded server: set what a child must inherit, then replace this process.

Owns the moment between fork and exec: signal handling back to its defaults, a signal on the
parent's death, another user where that is asked for. A tiny program of its own, because doing this
between fork and exec inside the parent (``preexec_fn``) can deadlock where threads run. It must
never import anything but the standard library: it is started by path, isolated and without site
packages, so that a server costs some milliseconds more and nothing else.
"""

import argparse
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
# What a shell may have told its background jobs to ignore; ignored signals survive exec, and a
# server must be stoppable.
SIGNALS_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


def die_with(parent_pid: int, signum: int) -> None:
    """Ask the kernel to send ``signum`` to this process when its parent thread ends.

    Only Linux can. The request survives exec, not a change of user, so it comes after that.

    Args:
        parent_pid: Who the parent was when it started us; if it is gone already, so are we.
        signum: Which signal to get.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent_pid:
        sys.exit("the process that wanted this server has ended")


def become(user: str) -> None:
    """Drop to ``user``, given as ``uid:gid``, with no other groups."""
    uid, gid = (int(part) for part in user.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main() -> None:
    """Read what to set from the command line, set it, and exec the rest of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command: list[str] = options.command[1:]  # without the "--" before it
    for signum in SIGNALS_RESET:
        signal.signal(signum, signal.SIG_DFL)
    if options.user is not None:
        become(options.user)
    die_with(options.parent, options.signal)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted, and becoming it is the point


if __name__ == "__main__":
    main()
