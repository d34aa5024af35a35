"""Rules of `klines.chains`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from market_ingestor.klines.chains import Chains

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(chains: Chains) -> AsyncIterator[None]:
    task = asyncio.create_task(chains.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_jobs_of_a_key_are_serial_and_in_order() -> None:
    chains = Chains(workers=4)
    done: list[int] = []
    at_once = 0

    async def job(number: int) -> None:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        await asyncio.sleep(0)
        at_once -= 1
        done.append(number)

    async with running(chains):
        for number in range(50):
            chains.submit("a", partial(job, number))
        await chains.wait_below(1)
    assert done == list(range(50))


async def test_jobs_of_different_keys_overlap_up_to_the_number_of_workers() -> None:
    chains = Chains(workers=3)
    gate = asyncio.Event()
    started: list[int] = []

    async def job(number: int) -> None:
        started.append(number)
        await gate.wait()

    async with running(chains):
        for number in range(5):
            chains.submit(str(number), partial(job, number))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(started) == 3
        assert len(chains) == 5
        gate.set()
        await chains.wait_below(1)
    assert sorted(started) == list(range(5))


async def test_a_job_may_submit_another_of_its_key() -> None:
    chains = Chains(workers=1)
    done: list[str] = []

    async def second() -> None:
        done.append("second")

    async def first() -> None:
        chains.submit("a", second)
        done.append("first")

    async with running(chains):
        chains.submit("a", first)
        await chains.wait_below(1)
    assert done == ["first", "second"]


async def test_a_failing_job_ends_everything() -> None:
    chains = Chains(workers=2)

    async def job() -> None:
        raise RuntimeError("ours")

    chains.submit("a", job)
    with pytest.raises(ExceptionGroup):
        await chains.run()
