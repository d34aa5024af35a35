"""A bucket's calls end when their task is cancelled, whatever the library makes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from market_ingestor.bus.bucket import Bucket
from market_ingestor.bus.refusals import Refusals

pytestmark = pytest.mark.anyio


class Swallowing:
    """A store whose answer arrives together with a cancellation, as `asyncio.wait_for` has it."""

    async def _answer(self) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return self
        return None

    value = b""

    async def get(self, _: str) -> Any:
        return await self._answer()

    async def put(self, _: str, __: bytes) -> Any:
        return await self._answer()

    async def keys(self) -> Any:
        return await self._answer()


@pytest.mark.parametrize(
    "call",
    [lambda bucket: bucket.get("k"), lambda bucket: bucket.put("k", b""), lambda b: b.keys()],
)
async def test_a_cancellation_that_meets_the_answer_counts(
    call: Callable[[Bucket], Awaitable[object]],
) -> None:
    bucket = Bucket("x", Swallowing(), Refusals())  # type: ignore[arg-type] # stands for a KeyValue

    async def ask() -> None:
        await call(bucket)
        pytest.fail("the cancellation was swallowed")

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
