"""Rules of `bus.asking`."""

import asyncio

import pytest

from market_ingestor.bus.asking import ask, insist

pytestmark = pytest.mark.anyio


async def swallowing() -> int:
    """Return an answer although cancelled meanwhile, as an old `wait_for` may."""
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        return 1
    return 0


async def test_a_swallowed_cancellation_ends_the_task_anyway() -> None:
    task = asyncio.create_task(ask(swallowing()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_is_returned() -> None:
    async def answer() -> int:
        return 7

    assert await ask(answer()) == 7


async def test_a_question_is_repeated_until_there_is_an_answer() -> None:
    asked = 0

    async def answer() -> int:
        nonlocal asked
        asked += 1
        if asked < 2:
            raise TimeoutError
        return asked

    assert await insist("it", answer) == 2


async def test_what_is_our_own_fault_is_not_repeated() -> None:
    async def answer() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await insist("it", answer)
