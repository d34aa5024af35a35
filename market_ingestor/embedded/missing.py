"""Names the programs that are not installed: ``python -m market_ingestor.embedded.missing``.

Owns the answer that set-up scripts go by: ``nats-server`` and ``postgresql``, one a line, as far as
they are missing. Exit status 0, or 2 with a message when a program was chosen that is not there,
which installing would not mend.
"""

import asyncio
import os
import sys

from market_ingestor.embedded.binaries import (
    NATS_VARIABLE,
    POSTGRES_VARIABLE,
    find_nats_server,
    find_postgres,
)
from market_ingestor.embedded.errors import BinaryMissingError, EmbeddedError


async def missing() -> list[str]:
    """Return the missing ones.

    Raises:
        EmbeddedError: A program was chosen that is not there.
    """
    names: list[str] = []
    try:
        find_nats_server()
    except BinaryMissingError:
        if os.environ.get(NATS_VARIABLE):
            raise
        names.append("nats-server")
    try:
        await find_postgres()
    except BinaryMissingError:
        if os.environ.get(POSTGRES_VARIABLE):
            raise
        names.append("postgresql")
    return names


def main() -> int:
    """Write the answer and return the exit status."""
    try:
        names = asyncio.run(missing())
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.writelines(f"{name}\n" for name in names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
