"""Fixtures that stages share."""

import pytest
from anyio.from_thread import BlockingPortal

from benchmarks.roles import Around
from market_ingestor.storage.migrate import migrate
from tests.support.servers import PostgresHandle


@pytest.fixture(scope="session")
def is_smoke(pytestconfig: pytest.Config) -> bool:
    """Return whether nothing is measured, so that as little work as possible will do."""
    return bool(pytestconfig.getoption("benchmark_disable"))


@pytest.fixture(scope="session")
def around(server_portal: BlockingPortal, postgres_server: PostgresHandle) -> Around:
    """Return what roles need around them."""
    dsn = postgres_server.create_database("bench_roles")
    server_portal.call(migrate, dsn)
    return Around(server_portal, dsn)
