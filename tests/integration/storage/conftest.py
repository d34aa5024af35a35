"""Databases of both flavours, and a bus with the streams."""

from collections.abc import AsyncIterator

import anyio
import pytest

from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.saver import CONNECTIONS
from market_ingestor.storage.timescale import Database
from tests.integration.storage.harness import Feed, prepared
from tests.support.servers import DatabaseMaker, NatsHandle, PostgresHandle


@pytest.fixture(params=["plain", "timescale"])
def has_timescale(request: pytest.FixtureRequest, postgres_server: PostgresHandle) -> bool:
    """Run a test with native partitions and with hypertables."""
    wanted: bool = request.param == "timescale"
    if wanted and not postgres_server.has_timescaledb:
        pytest.skip("TimescaleDB is not installed in this PostgreSQL")
    return wanted


@pytest.fixture
async def dsn(make_database: DatabaseMaker, has_timescale: bool) -> str:
    """Give a database with the schema."""
    made = make_database()
    await migrate(made, use_timescale=has_timescale)
    return made


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """Give a pool that can write batches."""
    async with Database(dsn, stages=True, connections_max=CONNECTIONS) as opened:
        yield opened


@pytest.fixture
async def bus(nats_server: NatsHandle) -> AsyncIterator[Bus]:
    """Give a connection to a server with the four streams."""
    connected = await Bus.connect([nats_server.url], name="test")
    await prepared(connected)
    yield connected
    await connected.close()


@pytest.fixture
async def feed(bus: Bus) -> AsyncIterator[Feed]:
    """Give what publishes into the streams."""
    publisher = Publisher(bus)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publisher.run)
        yield Feed(publisher)
        tasks.cancel_scope.cancel()


@pytest.fixture
async def other_database(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    """Give another database with the schema."""
    dsn = make_database()
    await migrate(dsn, use_timescale=False)
    async with Database(dsn, stages=True, connections_max=CONNECTIONS) as opened:
        yield opened
