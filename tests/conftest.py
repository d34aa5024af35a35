"""Fixtures shared by every test."""

import decimal
from collections.abc import Iterator

import pytest

from market_ingestor.model import decimals

pytest_plugins = ["tests.support.servers"]


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
