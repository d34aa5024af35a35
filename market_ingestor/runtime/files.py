"""How many files and sockets this process may have open. SHELL."""

import resource


def allow_open_files(wanted: int) -> int:
    """Raise the process's own limit as far as the system lets it; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
