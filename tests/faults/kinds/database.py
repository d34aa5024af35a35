"""Faults of a database that runs: no room, no connections, locks, cancelled statements."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import asyncpg

from tests.faults.kinds.fault import EVERYTHING, Fault
from tests.faults.world import World

POLL_S: Final = 0.02
_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'market-ingestor%'
"""
_CANCEL: Final = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'market-ingestor%' AND state = 'active'
"""
_WAITING: Final = """
SELECT count(*) FROM pg_locks
WHERE NOT granted AND relation = 'market_symbol_deltas'::regclass
"""
DISK_FULL: Final = "53100"
_REFUSE: Final = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no room for it' USING ERRCODE = '{sqlstate}'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON market_trades FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse BEFORE INSERT ON market_klines FOR EACH ROW EXECUTE FUNCTION refuse();
"""
_REFUSE_NO_MORE: Final = """
DROP TRIGGER refuse ON market_trades;
DROP TRIGGER refuse ON market_klines;
"""


@contextlib.asynccontextmanager
async def session(world: World) -> AsyncIterator[asyncpg.Connection]:
    """Give a session of the suite's own."""
    async with AsyncExitStack() as stack:
        yield await world.database(stack)


class DatabaseFault(Fault, frozen=True, kw_only=True):
    """A fault that needs the database to be there."""

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({"postgres"})


class DiskFull(DatabaseFault, frozen=True, kw_only=True):
    """Every row of trades and candles is refused with the error of a full disk."""

    @property
    def kind(self) -> str:
        return "disk full"

    async def begin(self, world: World) -> None:
        async with session(world) as own:
            await own.execute(_REFUSE.format(sqlstate=DISK_FULL))

    async def end(self, world: World) -> None:
        async with session(world) as own:
            await own.execute(_REFUSE_NO_MORE)


class ConnectionsTaken(DatabaseFault, frozen=True, kw_only=True):
    """Every session of ours is ended and every connection taken by others."""

    @property
    def kind(self) -> str:
        return "out of connections"

    async def begin(self, world: World) -> None:
        async with AsyncExitStack() as stack:
            own = await world.database(stack)
            give_up = asyncio.get_running_loop().time() + self.seconds
            while asyncio.get_running_loop().time() < give_up:
                await own.execute(_END_SESSIONS)
                with contextlib.suppress(asyncpg.TooManyConnectionsError):
                    while True:
                        await world.database(stack)
                await asyncio.sleep(POLL_S)


class StatementsCancelled(DatabaseFault, frozen=True, kw_only=True):
    """Statements end with the error of a time-out, one after the other."""

    @property
    def kind(self) -> str:
        return "statement time-outs"

    async def begin(self, world: World) -> None:
        async with session(world) as own:
            give_up = asyncio.get_running_loop().time() + self.seconds
            while asyncio.get_running_loop().time() < give_up:
                await own.execute(_CANCEL)
                await asyncio.sleep(POLL_S)


class TableLocked(DatabaseFault, frozen=True, kw_only=True):
    """Somebody locks the tables, longer than a statement waits if ``seconds`` says so."""

    @property
    def kind(self) -> str:
        return "tables locked"

    async def begin(self, world: World) -> None:
        async with session(world) as own, own.transaction():
            await own.execute("LOCK TABLE market_trades, market_klines IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(self.seconds)


class Deadlock(DatabaseFault, frozen=True, kw_only=True):
    """A saver meets somebody who takes the same two tables in the other order, and loses."""

    @property
    def kind(self) -> str:
        return "deadlock"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({EVERYTHING})  # it waits for a saver at work

    async def begin(self, world: World) -> None:
        async with session(world) as own, asyncio.timeout(30 * world.size.patience):
            await own.execute("SET deadlock_timeout = '60s'")  # so it is the saver who is ended
            async with own.transaction():
                await own.execute("LOCK TABLE market_symbol_deltas IN EXCLUSIVE MODE")
                while not await own.fetchval(_WAITING):  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(POLL_S)
                await own.execute("LOCK TABLE market_trades IN EXCLUSIVE MODE")
