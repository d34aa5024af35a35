"""Cancellation that waiting for an answer must not swallow."""

import asyncio
import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def heeding_cancellation() -> Iterator[None]:
    """Raise the cancellation of this task at the end of the block, if there was one.

    Until Python 3.12 `asyncio.wait_for`, on which every request rests, swallows a cancellation
    that arrives together with the answer: a task that asks in a loop would never end.
    """
    try:
        yield
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
