"""Asking JetStream for facts that must be had, however long it takes. SHELL."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from market_ingestor.bus.jetstream import TROUBLE

_log = structlog.get_logger(__name__)

RETRY_S: Final = 0.5  # a restarted server answers within seconds

_AnswerT = TypeVar("_AnswerT")


async def insist(what: str, ask: Callable[[], Awaitable[_AnswerT]]) -> _AnswerT:
    """Return the answer to ``ask``, repeating the question until there is one.

    Args:
        what: Said in the log, once.
    """
    is_logged = False
    while True:
        try:
            return await ask()
        except TROUBLE as problem:
            if not is_logged:
                is_logged = True
                _log.info("bus_awaited", wanted=what, error=repr(problem))
        await asyncio.sleep(RETRY_S)
