"""How the gateway reads streams: through their whole life, and into the next. SHELL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from market_ingestor.bus.jetstream import Bus, StreamState
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.errors import StreamRecreatedError

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def reading(
    bus: Bus, state: StreamState, start_sequence: int, filter_subject: str | None = None
) -> AsyncIterator[OrderedReader]:
    """Read a stream in its present life; the block is left when that is over."""
    reader = OrderedReader(
        bus,
        state.name,
        start_sequence=start_sequence,
        filter_subject=filter_subject,
        created=state.created,
    )
    try:
        async with reader:
            yield reader
    except StreamRecreatedError:
        _log.warning("stream_made_anew", stream=state.name)
