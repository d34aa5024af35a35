"""Fixtures shared by every test."""

import decimal
from collections.abc import Iterator

import pytest

from market_ingestor.model import decimals

pytest_plugins = ["tests.support.servers"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run tests at the same time that must not be."""
    if not session.config.getoption("loadgroup", False):
        return
    for item in session.items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} is not kept with its xdist_group")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio; uvloop is exercised by the role tests."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _exact_decimals() -> Iterator[None]:
    """Compute as the service does: a rounding raises."""
    before = decimal.getcontext()
    decimals.install()
    yield
    decimal.setcontext(before)
