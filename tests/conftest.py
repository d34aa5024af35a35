"""Fixtures shared by every test."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio; uvloop is exercised by the role tests."""
    return "asyncio"
