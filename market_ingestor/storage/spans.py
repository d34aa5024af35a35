"""What the rows of a batch of trades span, instrument by instrument. Pure."""

from collections.abc import Sequence
from typing import TypeAlias, cast

import msgspec

from market_ingestor.storage.rows import Row


class Span(msgspec.Struct, gc=False):
    """Rows of one instrument with ids of one length, which order as numbers do."""

    first_id: str
    last_id: str
    count: int
    first_us: int
    last_us: int


Spans: TypeAlias = dict[tuple[str, str, int], Span]  # by exchange, symbol and length of the id


def spans_of(rows: Sequence[Row]) -> Spans:
    """Return what the rows of trades, sorted by key, span."""
    spans: Spans = {}
    for row in rows:
        exchange, symbol, trade_id = cast("tuple[str, str, str]", row.key)
        key = (exchange, symbol, len(trade_id))
        time_us = row.time_us
        span = spans.get(key)
        if span is None:
            spans[key] = Span(trade_id, trade_id, 1, time_us, time_us)
            continue
        span.last_id = trade_id
        span.count += 1
        if time_us < span.first_us:
            span.first_us = time_us
        elif time_us > span.last_us:
            span.last_us = time_us
    return spans
