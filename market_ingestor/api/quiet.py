"""Windows in which nothing was traded, told from windows that nobody watched. Pure.

A window without trades makes no candle, and neither does one that was missed. What tells them
apart: ids that go on without a jump, holes that were filled, a longer candle that is complete, a
feed that was up.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

import msgspec

from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS, close_time, open_time
from market_ingestor.model.stored import GapSpan

MADE_UP_DIGITS: Final = 19  # ids of feeds without ids: they begin with 13 digits of the time
_MADE_UP_TAIL: Final = 1_000_000


class Span(NamedTuple):
    """Times ``[start, end)`` in milliseconds."""

    start: int
    end: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a time beside its candles.

    Attributes:
        gaps: Holes that touch it, filled ones included.
        complete: Longer candles to which nothing is missing.
        up: While a feed has been up without a break until now; None while none is.
        is_traded_since: Whether the newest trade is in no candle yet: then nothing is known of the
            windows behind the last one.
    """

    gaps: Sequence[GapSpan] = ()
    complete: Sequence[Span] = ()
    up: Span | None = None
    is_traded_since: bool = False


def is_watched(kline: Kline) -> bool:
    """Return whether a candle says more than that nobody was there."""
    return kline.trade_count > 0 or kline.complete


def has_made_up_ids(kline: Kline) -> bool:
    """Return whether a candle's ids were made from times, and so never continue each other."""
    first = kline.first_trade_id
    if first is None or len(first) != MADE_UP_DIGITS:
        return False
    return kline.open_time <= int(first) // _MADE_UP_TAIL <= kline.close_time + 1


def continues(before: Kline, behind: Kline) -> bool:
    """Return whether the ids of one candle go on where those of the other end."""
    if before.last_trade_id is None or behind.first_trade_id is None:
        return False
    return int(behind.first_trade_id) <= int(before.last_trade_id) + 1


def needs_evidence(klines: Sequence[Kline], end: int) -> Span | None:
    """Return the time between candles, and behind the last up to ``end``, that is not proved."""
    found: list[Span] = []
    before: Kline | None = None
    for at, each in enumerate(klines):
        stop = klines[at + 1].open_time if at + 1 < len(klines) else end
        before = each if each.last_trade_id is not None else before
        start = each.close_time + 1
        is_proved = (
            at + 1 < len(klines) and before is not None and continues(before, klines[at + 1])
        )
        if start < stop and not is_proved:
            found.append(Span(start, stop))
    return Span(found[0].start, found[-1].end) if found else None


class _Flats(NamedTuple):
    """Flat candles that follow one another."""

    windows: range
    model: Kline

    def candles(self, *, is_reversed: bool) -> Iterator[Kline]:
        return (flat(self.model, each) for each in self.windows[:: -1 if is_reversed else 1])


def filled(
    klines: Sequence[Kline],
    evidence: Evidence,
    *,
    start: int,
    end: int,
    limit: int,
    newest: bool,
) -> list[Kline]:
    """Return candles of ``[start, end)`` with a flat one for each watched window without.

    Args:
        klines: Ascending, of one instrument and period; the nearest ones outside the range tell
            what comes before and behind.
        limit: Most to return.
        newest: Take them from the end of the range instead of its start.

    Returns:
        At most ``limit`` candles, ascending.
    """
    parts = list(_parts(klines, evidence, start, end))
    if newest:
        taken = list(islice(_chained(reversed(parts), is_reversed=True), limit))
        return taken[::-1]
    return list(islice(_chained(parts, is_reversed=False), limit))


def _chained(parts: Iterable[Kline | _Flats], *, is_reversed: bool) -> Iterator[Kline]:
    return chain.from_iterable(
        (each,) if isinstance(each, Kline) else each.candles(is_reversed=is_reversed)
        for each in parts
    )


def _parts(
    klines: Sequence[Kline], evidence: Evidence, start: int, end: int
) -> Iterator[Kline | _Flats]:
    before: Kline | None = None
    for at, each in enumerate(klines):
        if start <= each.open_time < end:
            yield each
        before = each if each.last_trade_id is not None else before
        behind = klines[at + 1] if at + 1 < len(klines) else None
        space = Span(each.close_time + 1, behind.open_time if behind is not None else end)
        if space.start >= space.end:
            continue
        for span in _watched(space, before, behind, evidence):
            windows = _windows(each.period, max(span.start, start), min(span.end, end))
            if windows:
                yield _Flats(windows, each)


def _watched(
    space: Span, before: Kline | None, behind: Kline | None, evidence: Evidence
) -> list[Span]:
    """Return the parts of a time without candles that were watched, ascending."""
    if before is not None and behind is not None and continues(before, behind):
        return [space]
    proved = list(evidence.complete)
    ids_tell = before is not None and not has_made_up_ids(before)
    if behind is None:
        if evidence.up is not None and not evidence.is_traded_since:
            proved.append(space if ids_tell else evidence.up)
    else:
        is_filled = any(each.is_filled and _touches(each, space) for each in evidence.gaps)
        if ids_tell and is_filled:
            proved.append(space)
        elif evidence.up is not None and not ids_tell:
            proved.append(evidence.up)
    open_gaps = [
        Span(each.from_ms, each.to_ms + 1)
        for each in evidence.gaps
        if not each.is_filled and _touches(each, space)
    ]
    return _without(_united(proved, space), open_gaps)


def _touches(gap: GapSpan, space: Span) -> bool:
    return gap.from_ms < space.end and gap.to_ms >= space.start


def _united(spans: Iterable[Span], within: Span) -> list[Span]:
    """Return the parts of ``within`` that any span covers, ascending and apart."""
    found: list[Span] = []
    for each in sorted(spans):
        cut = Span(max(each.start, within.start), min(each.end, within.end))
        if cut.start >= cut.end:
            continue
        if found and cut.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, cut.end))
        else:
            found.append(cut)
    return found


def _without(spans: list[Span], holes: Sequence[Span]) -> list[Span]:
    """Return what is left of spans, without what any hole covers."""
    for hole in holes:
        spans = [
            part
            for each in spans
            for part in (
                Span(each.start, min(each.end, hole.start)),
                Span(max(each.start, hole.end), each.end),
            )
            if part.start < part.end
        ]
    return spans


def _windows(period: str, start: int, end: int) -> range:
    """Return the openings of the whole windows in ``[start, end)``."""
    length = PERIOD_MS[period]
    first = open_time(start + length - 1, period)
    return range(first, open_time(end, period), length)


def flat(model: Kline, opened: int, *, is_complete: bool = True) -> Kline:
    """Return the candle of a window without trades behind ``model``; it was never published."""
    return msgspec.structs.replace(
        model,
        open_time=opened,
        close_time=close_time(opened, model.period),
        open=model.close,
        high=model.close,
        low=model.close,
        volume="0",
        quote_volume="0",
        buy_volume="0",
        buy_quote_volume="0",
        trade_count=0,
        first_trade_id=None,
        last_trade_id=None,
        closed=True,
        complete=is_complete,
        revision=0,
        reason="close",
    )
