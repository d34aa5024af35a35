"""Fixtures that let a benchmark work on the whole service.

What is measured gets a service of its own, on the event loop of the service. A smoke run measures
nothing, so there all share one, small and slow: starting it is most of the work.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias, TypeVar

import pytest
import uvloop
from anyio.from_thread import BlockingPortal

from benchmarks.programs import Load
from benchmarks.system import System, running

T = TypeVar("T")

Work: TypeAlias = Callable[[System], Awaitable[T]]
OnSystem: TypeAlias = Callable[[Load, Work[T]], T]


@pytest.fixture(scope="session")
def smoke_system(server_portal: BlockingPortal) -> Iterator[System]:
    """Give the service that all benchmarks of a smoke run share."""
    load = Load(venues=("binance",), symbols=20)
    with server_portal.wrap_async_context_manager(running(load)) as system:
        yield system


@pytest.fixture
def on_system(
    request: pytest.FixtureRequest, server_portal: BlockingPortal, is_smoke: bool
) -> Callable[[Load, Work[T]], T]:
    """Give a function that lets the whole service run under a load, and some work on it."""
    if is_smoke:
        system = request.getfixturevalue("smoke_system")
        return lambda _, work: server_portal.call(work, system)
    return lambda load, work: uvloop.run(_run(load, work))


async def _run(load: Load, work: Work[T]) -> T:
    async with running(load) as system:
        return await work(system)
