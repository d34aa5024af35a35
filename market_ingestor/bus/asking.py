"""Asking JetStream for facts, and for those that must be had, however long it takes. SHELL.

Until Python 3.12 `asyncio.wait_for`, on which every request of the NATS client rests, swallows
a cancellation that arrives together with its result. A task that asks through here ends anyway.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from market_ingestor.bus.jetstream import TROUBLE, Bus, StreamState

_log = structlog.get_logger(__name__)

RETRY_S: Final = 0.5  # a restarted server answers within seconds

_AnswerT = TypeVar("_AnswerT")


def is_ending() -> bool:
    """Return whether the running task was cancelled, even if it never felt it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def ask(question: Awaitable[_AnswerT]) -> _AnswerT:
    """Return the answer to a question, unless the task was cancelled meanwhile.

    Raises:
        TROUBLE: There was no answer.
    """
    answer = await question
    if is_ending():
        raise asyncio.CancelledError
    return answer


async def insist(what: str, question: Callable[[], Awaitable[_AnswerT]]) -> _AnswerT:
    """Return the answer to ``question``, repeating it until there is one.

    Args:
        what: Said in the log, once.
    """
    is_logged = False
    while True:
        try:
            return await ask(question())
        except TROUBLE as problem:
            if not is_logged:
                is_logged = True
                _log.info("bus_awaited", wanted=what, error=repr(problem))
        await ask(asyncio.sleep(RETRY_S))


async def state_of(bus: Bus, stream: str) -> StreamState:
    """Return the state of a stream, waiting until the bus can tell."""
    return await insist(f"state of {stream}", lambda: bus.stream_state(stream))
