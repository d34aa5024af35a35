"""Corrects neighbouring minutes without trades in one pass. SHELL.

A corrected price moves every flat candle behind it, and a long silence is made of hundreds. One
by one each would wait for the savers to store the one before. Here all are computed from what is
stored at one moment, and each is published right behind the one before: whoever comes between
makes the server refuse, and the rest is left for later.
"""

from collections.abc import AsyncIterator, Sequence

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.flats import FlatVersion, Waiting, plan
from market_ingestor.klines.publication import Publication
from market_ingestor.klines.stored import Floors, Stored
from market_ingestor.klines.tail import Tail
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS


async def correct_flats(
    aggregator: Aggregator,
    minutes: Sequence[Waiting],
    *,
    stored: Stored,
    floors: Floors,
    publication: Publication,
    tail: Tail,
) -> AsyncIterator[FlatVersion | Waiting]:
    """Publish what neighbouring minutes without trades should say; yield each that is right now.

    Also yields, to be corrected before the next is asked for, each minute with trades. Otherwise
    nothing may be published under their subject meanwhile by this process.

    Args:
        minutes: Ascending; the savers have stored everything they wait for.

    Raises:
        StoreUnavailableError, TimeoutError: The database cannot answer now.
    """
    subject = publication.subject(aggregator, BASE_PERIOD)
    expected = await tail.last_sequence(subject, BASE_PERIOD)
    if floors.kline < expected:
        return
    begin, end = minutes[0].open_time, minutes[-1].open_time + MINUTE_MS
    rows = {row.open_time: row for row in await stored.klines(aggregator, begin, end)}
    traded = await stored.traded(aggregator, begin, end)
    price = await stored.price_before(aggregator, begin)
    for each in plan(aggregator, minutes, rows, traded, price):
        if isinstance(each, FlatVersion) and each.wanted is not None:
            sequence = await publication.publish(subject, each.wanted, expected)
            if sequence is None:
                return
            expected = sequence
        yield each
