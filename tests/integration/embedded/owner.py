"""Starts embedded servers on a folder, stores something in both, and waits to be killed.

Usage: ``owner.py FOLDER [--orphans] [--another-user]``. Prints the pids of the servers as JSON when
all is stored. ``--orphans`` starts them without the signal that ends them with their parent, as on
macOS; ``--another-user`` makes root run PostgreSQL as another user, without a user namespace.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats

from market_ingestor.embedded import Embedded, child, identity
from market_ingestor.embedded.identity import Identity, Way

launch_argv = child.launch_argv


def launch_argv_without_death_signal(command: child.Command) -> list[str]:
    argv = launch_argv(command)
    argv[argv.index("--signal") + 1] = "0"
    return argv


candidates = identity._candidates  # noqa: SLF001  # to leave some of them out


def another_user(owner: int | None) -> Iterator[Identity]:
    return (one for one in candidates(owner) if one.way is Way.AMBIENT)


async def main() -> None:
    if "--another-user" in sys.argv:
        setattr(identity, "_candidates", another_user)  # noqa: B010  # mypy
    if "--orphans" in sys.argv:
        setattr(child, "launch_argv", launch_argv_without_death_signal)  # noqa: B010  # mypy
    embedded = Embedded(Path(sys.argv[1]))
    await embedded.start()
    bus = await nats.connect(embedded.nats_url)
    jetstream = bus.jetstream()
    await jetstream.add_stream(name="KEPT", subjects=["kept"])
    await jetstream.publish("kept", b"message")
    database = await asyncpg.connect(embedded.dsn)
    await database.execute("CREATE TABLE kept AS SELECT 42 AS number")
    sys.stdout.write(json.dumps([embedded.nats.pid, embedded.postgres.pid]) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main())
