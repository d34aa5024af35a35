"""Benchmarks use the tests' servers, take their time, and lose no figure when another fails."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

pytest_plugins = ["tests.support.servers", "benchmarks.fixtures", "benchmarks.stage"]

TIMEOUT_S: Final = 600  # for all rounds of a stage, also on a machine that does much else


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give each benchmark its time."""
    for item in items:
        item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_generate_json(benchmarks: "list[Any]") -> None:
    """Leave out what was ended before its first round: it has no least time to be written."""
    benchmarks[:] = [each for each in benchmarks if each]
