"""Hears from MARKET_EVENT which trades the database refused for good. SHELL.

Such a trade was read and folded, but will never be in the table; candles follow the table.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import ask, insist
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.errors import DecodeError
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.exchange import is_symbol_name
from market_ingestor.model.trade import TRADE_ID_MAX

POLL_S: Final = 1.0
YIELD_AFTER: Final = 200

Lose = Callable[[str, str, int, int], None]


def lost_trade(event: MarketEvent) -> tuple[int, int] | None:
    """Return id and time (UTC microseconds) of the one trade an event gives up. Pure.

    A refused trade is a gap of one id between its neighbours, with its own time at both ends.
    """
    if event.type != "gap_unfillable" or event.missing != 1 or event.from_time is None:
        return None
    after, before = event.after_id or "", event.before_id or ""
    if event.from_time != event.to_time or not (after.isdigit() and before.isdigit()):
        return None
    if not 0 <= int(after) < int(before) <= TRADE_ID_MAX or int(before) - int(after) > 2:  # noqa: PLR2004 - the trade lies between its neighbours
        return None
    return int(before) - 1, event.from_time * 1_000


async def follow(bus: Bus, since_us: int, lose: Lose) -> None:
    """Call ``lose(exchange, symbol, id, time_us)`` for each refused trade, until cancelled.

    Args:
        since_us: Events stored from then on are heard, UTC microseconds.
    """
    since = datetime.fromtimestamp(since_us / 1e6, UTC)
    start = await insist("event position", lambda: bus.sequence_since(subjects.EVENT_STREAM, since))
    async with OrderedReader(bus, subjects.EVENT_STREAM, start_sequence=start) as reader:
        while True:
            for number, each in enumerate(await ask(reader.next(POLL_S)), start=1):
                try:
                    event = codec.event(each.subject, each.payload)
                except DecodeError:
                    continue  # the saver reads this stream too and reports it
                found = lost_trade(event)
                if found is not None and is_symbol_name(event.symbol):
                    lose(event.exchange, event.symbol, *found)
                if number % YIELD_AFTER == 0:
                    await asyncio.sleep(0)
