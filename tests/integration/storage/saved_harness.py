"""What the tests of the record of what was saved share."""

import asyncio

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import Delivery
from market_ingestor.storage.lane import PULL_MESSAGES
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import Feed, prepared, rows, trade, until

RAW = subjects.RAW_STREAM
MESSAGES = 100
MANY = 12 * PULL_MESSAGES
RECORD_ENDS = "SELECT since, through FROM market_saved WHERE stream = $1 ORDER BY since"


async def send(feed: Feed, first: int) -> int:
    """Publish trades from a number on, a message each; return the last sequence."""
    last = 0
    for number in range(first, first + MESSAGES):
        last = await feed.send(trade(number))
    return last


async def send_many(feed: Feed, first: int) -> int:
    """Publish more than readers have asked for, as `send` does."""
    numbers = range(first, first + MANY)
    return max(await asyncio.gather(*(feed.send(trade(number)) for number in numbers)))


async def recorded(database: Database, sequence: int) -> None:
    """Wait until the database remembers what was saved up to a sequence."""

    async def is_known() -> bool:
        return any(found[1] >= sequence for found in await rows(database, RECORD_ENDS, RAW))

    await until(is_known)


async def joined(database: Database, last: int, *, since: int = 0) -> None:
    """Wait until the database remembers everything up to a sequence, as one stretch."""

    async def is_one() -> bool:
        return await rows(database, RECORD_ENDS, RAW) == [(since, last)]

    await until(is_one)


async def forget(bus: Bus) -> None:
    """Make the server forget how far savers have come in MARKET_RAW."""
    await bus.api(f"CONSUMER.DELETE.{RAW}.{subjects.SAVE_DURABLE}")


async def remake(bus: Bus) -> None:
    """Delete MARKET_RAW and make it anew: sequences begin at 1 again."""
    await bus.api(f"STREAM.DELETE.{RAW}")
    await prepared(bus)


async def count(database: Database) -> int:
    found: int = await database.value("SELECT count(*) FROM market_trades")
    return found


def delivered(sequence: int, *, stored_us: int) -> Delivery:
    """Return a message of which only its place and its time matter."""
    return Delivery(
        subject="s",
        payload=b"",
        sequence=sequence,
        consumer_sequence=1,
        stored_us=stored_us,
        pending=0,
        reply="r",
    )
