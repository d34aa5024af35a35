"""Asks the database which of a symbol's forgotten holes are still open. SHELL.

Only when the savers have stored everything read so far: a trade on its way there would look like
a hole. What can be judged again is searched for candles that are whole after all.
"""

import asyncio
from typing import Final

import structlog

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.completeness import HOLES_MAX
from market_ingestor.klines.holes import Hole
from market_ingestor.klines.ports import CandleStore
from market_ingestor.model.period import MINUTE_MS

_log = structlog.get_logger(__name__)

QUERY_TIMEOUT_S: Final = 30.0
GAPS_MAX: Final = HOLES_MAX  # asked for at a time


async def recall(aggregator: Aggregator, store: CandleStore, raw_floor: int) -> None:
    """Look for the holes of one symbol if that is due.

    Args:
        raw_floor: Of the savers on MARKET_RAW, asked for after the last call.

    Raises:
        StoreUnavailableError, TimeoutError: The database cannot answer now.
    """
    now = asyncio.get_running_loop().time()
    forgotten = aggregator.completeness.forgotten
    if forgotten is None or forgotten.due_at > now:
        return
    if forgotten.sequence is None:
        forgotten.sequence = aggregator.read_to
    sequence = forgotten.sequence
    if raw_floor < sequence:
        return
    forgotten.postpone(now)
    async with asyncio.timeout(QUERY_TIMEOUT_S):
        rows = await store.gaps(
            aggregator.exchange, aggregator.symbol, *forgotten.span, limit=GAPS_MAX
        )
    if aggregator.completeness.forgotten is not forgotten:
        return  # a new sequence of ids began meanwhile
    gaps = [Hole(*row) for row in rows]
    span = aggregator.completeness.recall(gaps, is_all=len(gaps) < GAPS_MAX)
    if span is None:
        return
    first, last = (each // 1_000 // MINUTE_MS * MINUTE_MS for each in span)
    aggregator.closed.dirty.add_range(first, last + MINUTE_MS, sequence, sequence)
    _log.info(
        "holes_recalled",
        exchange=aggregator.exchange,
        symbol=aggregator.symbol,
        holes=len(aggregator.completeness.holes),
    )
