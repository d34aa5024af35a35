"""The resume record of a partition: where to begin again, and what was known there. Pure.

Everything in it can be rebuilt from the stream and the database; it saves reading from the
start. It is written only for what is durable: a window whose first version is not acknowledged
counts as dirty.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from market_ingestor.errors import DecodeError
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.dirty import Rescan
from market_ingestor.klines.forgotten import Forgotten
from market_ingestor.klines.holes import Hole
from market_ingestor.model.decimals import canonical
from market_ingestor.model.kline import Reason
from market_ingestor.model.period import BASE_PERIOD

VERSION: Final = 1
RECORD_BYTES_MAX: Final = 900_000  # the server refuses messages over 1 MiB


class DirtyRow(msgspec.Struct, frozen=True, array_like=True):
    """One dirty window."""

    period: str
    open_time: int
    first_sequence: int
    sequence: int
    reason: Reason


class SymbolRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was known of one symbol; see `Aggregator`, `Watermark`, `Completeness`, `KnownIds`.

    Without ``seen`` nothing is known of the ids read up to ``last_id``.
    """

    closed_through: int | None = None
    has_lost: bool = False
    doubtful_through: int = -1
    last_price: str | None = None
    value_us: int | None = None
    newest_us: int | None = None
    newest_id: int = -1
    brought_us: int = 0
    anchors: dict[str, int] = {}
    elapsed_us: int = 0
    is_contiguous: bool = False
    has_holes: bool = False
    last_id: int | None = None
    last_us: int = 0
    since_us: int | None = None
    proven_us: int = 0
    forgotten: Hole | None = None
    accounted: list[tuple[int, int]] = []
    holes: list[Hole] = []
    lost: dict[int, int] = {}
    seen: list[tuple[int, int]] | None = None
    unvouched_to: int = -1
    minutes: list[tuple[int, int, int]] = []
    feeds: list[tuple[str, int, int, bool]] = []
    unconfirmed: list[tuple[str, int]] = []
    deferred: dict[int, int] = {}
    dirty: list[DirtyRow] = []
    rescan: Rescan | None = None


class ResumeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A partition's record; stored as JSON under its slot number in the state bucket.

    Attributes:
        stream: Name of the raw stream, with its creation time ``created``.
        kline_created: Creation time of the candles' stream.
        position: First sequence of it to be read again; everything before may be purged.
        read_to: Everything before it was read; a stream that ends earlier has lost its end.
        written_us: When the record was made, by the writer's clock.
        symbols: ``exchange.symbol`` to what was known.
    """

    v: int = VERSION
    stream: str
    created: str
    kline_created: str = ""
    position: int
    read_to: int = 0
    written_us: int
    symbols: dict[str, SymbolRecord]


_decoder: Final = msgspec.json.Decoder(ResumeRecord)


def key_of(slot: int) -> str:
    """Return the key of a partition's record in the bucket."""
    return f"slot-{slot:02d}"


def decode(payload: bytes) -> ResumeRecord:
    """Read a record.

    Raises:
        DecodeError: It is none, or of another version.
    """
    try:
        record = _decoder.decode(payload)
    except msgspec.MsgspecError as problem:
        raise DecodeError("resume record", str(problem)) from problem
    if record.v != VERSION:
        raise DecodeError("resume record", f"unknown version {record.v}")
    return record


def encode(record: ResumeRecord) -> bytes:
    """Return a record as JSON of at most `RECORD_BYTES_MAX` bytes.

    Beyond that it forgets holes and ids: both are left to the database.
    """
    payload = msgspec.json.encode(record)
    if len(payload) <= RECORD_BYTES_MAX:
        return payload
    symbols = {
        name: msgspec.structs.replace(
            each,
            holes=[],
            unconfirmed=[],
            seen=None,
            minutes=[],
            forgotten=_span(each),
            accounted=[],
        )
        for name, each in record.symbols.items()
    }
    return msgspec.json.encode(msgspec.structs.replace(record, symbols=symbols))


def _span(record: SymbolRecord) -> Hole | None:
    """Return the span of all holes, kept and forgotten."""
    holes = [*record.holes, *([] if record.forgotten is None else [record.forgotten])]
    if not holes:
        return None
    whole = Forgotten(holes[0])
    for hole in holes:
        whole.widen(hole)
    return whole.span


def position(aggregators: Iterable[Aggregator], next_sequence: int) -> int:
    """Return where a replay must begin for these symbols.

    Never beyond what was read: while a replay has not caught up, windows may wait for messages
    that come only later, and those between open further ones.

    Args:
        next_sequence: Everything before it was read and folded.
    """
    firsts = (each.first_sequence() for each in aggregators)
    return max(min([next_sequence, *(each for each in firsts if each is not None)]), 1)


def dump(aggregator: Aggregator) -> SymbolRecord:
    """Return what a record keeps of a symbol."""
    watermark, completeness = aggregator.watermark, aggregator.completeness
    return SymbolRecord(
        closed_through=aggregator.closed.through,
        has_lost=aggregator.has_lost,
        doubtful_through=aggregator.doubtful_through,
        last_price=None if aggregator.last_price is None else canonical(aggregator.last_price),
        value_us=watermark.value_us,
        newest_us=watermark.newest_us,
        newest_id=watermark.newest_id,
        brought_us=watermark.brought_us,
        anchors=dict(watermark.anchors),
        elapsed_us=watermark.elapsed_us,
        is_contiguous=completeness.is_contiguous,
        has_holes=completeness.has_holes,
        last_id=completeness.last_id,
        last_us=completeness.last_us,
        since_us=completeness.since_us,
        proven_us=completeness.proven_us,
        forgotten=None if completeness.forgotten is None else completeness.forgotten.span,
        accounted=[] if completeness.forgotten is None else list(completeness.forgotten.accounted),
        holes=list(completeness.holes),
        lost=dict(completeness.lost),
        seen=aggregator.known.dump(each.ids for each in aggregator.open.windows.values()),
        unvouched_to=aggregator.known.unvouched_to,
        minutes=aggregator.known.dump_minutes(),
        feeds=completeness.feeds.dump(),
        unconfirmed=list(aggregator.closed.unconfirmed),
        deferred=aggregator.open.deferred | aggregator.far_windows(),
        dirty=_dirty_rows(aggregator),
        rescan=aggregator.closed.dirty.rescan,
    )


def _dirty_rows(aggregator: Aggregator) -> list[DirtyRow]:
    rows = [
        DirtyRow(*key, each.first_sequence, each.sequence, each.reason)
        for key, each in aggregator.closed.dirty.windows.items()
    ]
    rows += [
        DirtyRow(*key, each.first_sequence, each.last_sequence, "close")
        for key, each in aggregator.closed.outstanding.items()
        if key not in aggregator.closed.dirty.windows
    ]
    return rows


def load(aggregator: Aggregator, record: SymbolRecord, *, lost_before: int | None = None) -> None:
    """Bring a fresh aggregator to what a record knew.

    Args:
        lost_before: The stream's first sequence, when it no longer holds everything from the
            record's position on; the record's own sequences then mean nothing.
    """
    if record.closed_through is not None:
        aggregator.resume(record.closed_through)
    aggregator.last_price = None if record.last_price is None else Decimal(record.last_price)
    aggregator.has_lost = record.has_lost or lost_before is not None
    aggregator.doubtful_through = record.doubtful_through
    watermark, completeness = aggregator.watermark, aggregator.completeness
    watermark.value_us = record.value_us
    watermark.newest_us = record.newest_us
    watermark.newest_id = record.newest_id
    watermark.brought_us = record.brought_us
    watermark.anchors = dict(record.anchors)
    watermark.elapsed_us = record.elapsed_us
    aggregator.heard_value_us = record.value_us
    completeness.is_contiguous = record.is_contiguous
    completeness.has_holes = record.has_holes
    completeness.last_id = record.last_id
    completeness.last_us = record.last_us
    completeness.since_us = record.since_us
    completeness.proven_us = record.proven_us
    if record.forgotten is not None:
        completeness.forgotten = Forgotten(record.forgotten)
        for first_id, last_id in record.accounted:
            completeness.forgotten.accounted.add_range(first_id, last_id)
    completeness.holes = list(record.holes)
    completeness.lost = dict(record.lost)
    completeness.feeds.load(record.feeds)
    is_forgotten = record.seen is None and record.last_id is not None
    aggregator.known.load(
        record.seen or [],
        record.minutes,
        record.last_id or 0 if is_forgotten else record.unvouched_to,
    )
    aggregator.closed.unconfirmed = dict.fromkeys(record.unconfirmed)
    aggregator.open.deferred = dict(record.deferred)
    aggregator.closed.dirty.rescan = record.rescan
    _load_dirty(aggregator, record.dirty)
    if lost_before is not None:
        _move_sequences(aggregator, lost_before)


def _load_dirty(aggregator: Aggregator, rows: list[DirtyRow]) -> None:
    for row in rows:
        if row.period == BASE_PERIOD:
            aggregator.closed.soil(
                row.open_time, row.sequence, row.reason, first_sequence=row.first_sequence
            )
        else:
            aggregator.closed.dirty.add(
                row.period,
                row.open_time,
                first_sequence=row.first_sequence,
                sequence=row.sequence,
                reason=row.reason,
            )


def _move_sequences(aggregator: Aggregator, begin: int) -> None:
    """Let everything that waits wait for ``begin``: what came earlier is stored or lost."""
    aggregator.open.deferred = dict.fromkeys(aggregator.open.deferred, begin)
    for dirty in aggregator.closed.dirty.windows.values():
        dirty.first_sequence = dirty.sequence = begin
    scan = aggregator.closed.dirty.rescan
    if scan is not None:
        aggregator.closed.dirty.rescan = Rescan(scan.from_ms, scan.to_ms, begin, begin)
