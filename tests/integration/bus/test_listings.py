"""The bucket of instruments on a real nats-server: written when changed, followed by all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from market_ingestor.bus import codec, listings, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.listings import ListingWriter, follow_listings
from market_ingestor.model.listing import ListingBook
from tests.support.servers import NatsHandle
from tests.unit.model.test_listing import listing

pytestmark = pytest.mark.anyio

WAIT_S = 20.0


@contextlib.asynccontextmanager
async def at_work(server: NatsHandle) -> AsyncIterator[tuple[Bus, ListingWriter, ListingBook]]:
    """Run a writer and a follower, each on a connection of its own."""
    ours, theirs = [await Bus.connect([server.url], name="test") for _ in range(2)]
    writer, book = ListingWriter(ours), ListingBook()
    tasks = [
        asyncio.create_task(writer.run()),
        asyncio.create_task(follow_listings(theirs, book.put)),
    ]
    try:
        yield ours, writer, book
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ours.close()
        await theirs.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the book has no event
            await asyncio.sleep(0.02)


async def written(bus: Bus) -> int:
    return (await bus.stream_state(listings.STREAM)).last_sequence


async def test_listings_are_followed_and_written_only_when_they_change(
    nats_server: NatsHandle,
) -> None:
    async with at_work(nats_server) as (bus, writer, book):  # the follower is there first
        writer.put(listing())
        writer.put(listing(symbol="ETHUSD", venue_symbol="ETH/USD"))
        await until(lambda: len(book) == 2)
        assert await written(bus) == 2
        for _ in range(3):
            writer.put(listing())
        writer.put(listing(symbol="SOLUSD"))  # behind the others
        await until(lambda: len(book) == 3)
        assert await written(bus) == 3
        writer.put(listing(state="inactive"))
        await until(lambda: (found := book.get("kraken", "BTCUSD")) is not None
                    and found.state == "inactive")  # fmt: skip
    async with at_work(nats_server) as (bus, writer, book):  # the next process knows no less
        await until(lambda: len(book) == 3)
        before = await written(bus)
        writer.put(listing(state="inactive"))
        writer.put(listing(symbol="ZECUSD"))  # behind the others
        await until(lambda: len(book) == 4)
        assert await written(bus) == before + 1


async def test_one_bad_entry_hides_no_other(nats_server: NatsHandle) -> None:
    async with at_work(nats_server) as (bus, writer, book):
        bucket = await bus.bucket(subjects.INSTRUMENTS_BUCKET)
        await bucket.put("kraken.BTCUSD", b"{")
        await bucket.put("kraken.AUSD", b'{"v":1}')
        await bucket.put("kraken.BUSD", codec.encode(listing(symbol="CUSD")))
        writer.put(listing(symbol="ETHUSD"))
        await until(lambda: len(book) == 1)
        assert book.get("kraken", "ETHUSD") is not None
        writer.put(listing())  # a good one mends the entry
        await until(lambda: len(book) == 2)


async def test_an_emptied_bucket_is_filled_again(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "CHECK_S", 0.1)
    monkeypatch.setattr(listings, "POLL_S", 0.1)
    async with at_work(nats_server) as (bus, writer, book):
        writer.put(listing())
        await until(lambda: len(book) == 1)
        await bus.api(f"STREAM.DELETE.{listings.STREAM}")
        await nats_server.restart()
        writer.put(listing(symbol="ETHUSD"))
        await until(lambda: len(book) == 2)  # from the stream made anew
        async with asyncio.timeout(WAIT_S):
            while await written(bus) < 2:  # noqa: ASYNC110 - a state of the server
                await asyncio.sleep(0.02)
