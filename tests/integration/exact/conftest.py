"""Databases of both flavours for the processes."""

import pytest

from market_ingestor.storage.migrate import migrate
from tests.support.servers import DatabaseMaker, PostgresHandle


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
