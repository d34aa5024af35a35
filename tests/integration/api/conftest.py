"""A database with the schema, and a way to fill it."""

from collections.abc import AsyncIterator

import pytest

from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.timescale import Database
from tests.integration.api.harness import Table


@pytest.fixture
async def table(postgres_dsn: str) -> AsyncIterator[Table]:
    await migrate(postgres_dsn)
    async with Database(postgres_dsn) as database:
        yield Table(database)
