"""What is written together, when, and which row to blame when that fails. Pure.

A batch keeps the messages its rows came from until they are committed, so a failure loses nothing.
Knows neither the database nor the bus; the clock is passed in.
"""

import decimal
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from market_ingestor.model.trade import TextTrade
from market_ingestor.storage.rows import Row, RowKey

if TYPE_CHECKING:
    from market_ingestor.bus.reader import Origin

MessageT = TypeVar("MessageT")

SLOTS: Final = 64  # advisory locks per batch at most; collisions only make strangers wait


class SaveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a batch is written.

    Attributes:
        batch_size: Rows at which it is written when nothing more is waiting.
        batch_size_max: Rows (or messages) at which it is written in any case; one message may
            overshoot it.
        flush_interval_s: Age at which it is written, however small.
    """

    batch_size: int = 1_000
    batch_size_max: int = 5_000
    flush_interval_s: float = 1.0


class Loss(msgspec.Struct, Generic[MessageT], frozen=True, kw_only=True, gc=False):
    """A message, or one trade of it, that ends among the dead letters.

    Attributes:
        reason: Why, one clause.
        trade: The trade, None for a whole message.
    """

    message: MessageT
    reason: str
    trade: TextTrade | None = None


class Batch(Generic[MessageT]):
    """Rows gathered from messages, one row per key, the first to arrive.

    Attributes:
        messages: What to acknowledge once everything is committed.
        passed: Messages that came between those, and hold nothing to be saved.
        origin: Where all of them came from, None when that cannot be told.
        is_noted: What it took is written down beside its rows.
        opened_at: Monotonic seconds when the first message came in, None while empty.
        rows: By key, in no order that means anything.
        rest_slots: Locks of the instruments that rows from REST belong to.
        losses: What of the messages cannot be stored at all.
        repeated: Rows dropped because their key was there with the same facts.
        conflicting: Rows dropped because their key was there with other facts.
    """

    def __init__(self) -> None:
        self.messages: list[MessageT] = []
        self.passed: list[MessageT] = []
        self.origin: Origin | None = None
        self.is_noted = False
        self.opened_at: float | None = None
        self.losses: list[Loss[MessageT]] = []
        self.rows: dict[RowKey, Row] = {}
        self.rest_slots: set[int] = set()
        self.repeated = 0
        self.conflicting = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def weight(self) -> int:
        """Return what is held against `SaveLimits.batch_size_max`: rows or messages."""
        return max(len(self.rows), len(self.messages))

    def add(
        self, message: MessageT, rows: Sequence[Row], *, now: float, alone: bool = False
    ) -> None:
        """Take a message over with its rows.

        Args:
            now: Monotonic seconds.
            alone: The rows come from another source than live data, so that ids may be stored
                with other times; see `slots`.
        """
        if self.opened_at is None:
            self.opened_at = now
        self.messages.append(message)
        held = self.rows
        for row in rows:
            first = held.setdefault(row.key, row)
            if first is row:
                continue
            if is_same_fact(first.fact, row.fact):
                self.repeated += 1
            else:
                self.conflicting += 1
        if alone:
            self.rest_slots.update(slot(row.key) for row in rows)

    def absorb(self, other: "Batch[MessageT]") -> None:
        """Take everything out of ``other``."""
        if self.opened_at is None:
            self.opened_at = other.opened_at
        self.messages += other.messages
        self.passed += other.passed
        if self.origin != other.origin:
            self.origin = None
        self.losses += other.losses
        self.repeated += other.repeated
        self.conflicting += other.conflicting
        for key, row in other.rows.items():
            self.rows.setdefault(key, row)
        self.rest_slots |= other.rest_slots

    def sorted_rows(self) -> list[Row]:
        """Return the rows in the order of their keys: the order every writer uses."""
        return [self.rows[key] for key in sorted(self.rows)]

    def slots(self, rows: Sequence[Row]) -> tuple[list[int], list[bool]]:
        """Return the locks for writing ``rows``, ascending, and whether each is taken alone.

        A live row and one from REST may give one id two times. Both would be stored if two
        transactions looked for the id at the same moment, so the slots of REST rows are locked
        against everyone, those of live rows against REST only.
        """
        touched = sorted({slot(key) for key in {(row.key[0], row.key[1]) for row in rows}})
        return touched, [each in self.rest_slots for each in touched]


def slot(key: RowKey) -> int:
    """Return the lock of the instrument a key belongs to."""
    return zlib.crc32(f"{key[0]}.{key[1]}".encode()) % SLOTS


def is_same_fact(one: tuple[str, str, int] | None, other: tuple[str, str, int] | None) -> bool:
    """Return whether two rows say the same: equal numbers, however written, and equal times."""
    if one == other or one is None or other is None:
        return one == other
    if one[2] != other[2]:
        return False
    try:
        return Decimal(one[0]) == Decimal(other[0]) and Decimal(one[1]) == Decimal(other[1])
    except decimal.InvalidOperation:
        return False


def is_due(limits: SaveLimits, batch: Batch[MessageT], *, now: float, more_waiting: bool) -> bool:
    """Return whether a batch should be written now.

    Args:
        now: Monotonic seconds.
        more_waiting: More messages could be had at once; then a larger batch costs less per row.
    """
    if batch.opened_at is None:
        return False
    return (
        batch.weight >= limits.batch_size_max
        or (batch.weight >= limits.batch_size and not more_waiting)
        or now - batch.opened_at >= limits.flush_interval_s
    )


def wait_s(limits: SaveLimits, batch: Batch[MessageT], *, now: float) -> float:
    """Return how long to wait for more messages, at most until the batch is due by age."""
    if batch.opened_at is None:
        return limits.flush_interval_s
    return max(batch.opened_at + limits.flush_interval_s - now, 0.0)


class Suspect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row that failed alone, and the database's reason."""

    row: Row
    reason: str


class Bisection:
    """Finds the rows the database refuses, by halves.

    Ask `chunk` what to write next and report what became of it by `stored` or `refused`. A row
    is dead only when it failed alone, twice, and at least one other row was stored: without such
    a neighbour the fault may be the world's, whatever the error says.

    Args:
        rows: All that is to be written, in order.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._chunks: list[Sequence[Row]] = [rows] if rows else []
        self._suspects: list[Suspect] = []
        self._is_second_try = False
        self._has_neighbour = False
        self.dead: list[Suspect] = []

    @property
    def chunk(self) -> Sequence[Row] | None:
        """Return what to write next, None when everything was tried."""
        return self._chunks[-1] if self._chunks else None

    @property
    def unexplained(self) -> list[Suspect]:
        """Return the rows that failed alone while nothing else succeeded: try again later."""
        return [] if self._chunks else self._suspects

    def stored(self) -> None:
        """Note that the chunk is committed."""
        self._chunks.pop()
        self._has_neighbour = True
        self._settle()

    def refused(self, reason: str) -> None:
        """Note that the database blamed a row of the chunk."""
        chunk = self._chunks.pop()
        if len(chunk) > 1:
            middle = len(chunk) // 2
            self._chunks += [chunk[middle:], chunk[:middle]]
        elif self._is_second_try:
            self.dead.append(Suspect(row=chunk[0], reason=reason))
        else:
            self._suspects.append(Suspect(row=chunk[0], reason=reason))
        self._settle()

    def _settle(self) -> None:
        """Give suspects their second try once everything else is through."""
        if not self._chunks and self._suspects and self._has_neighbour:
            self._is_second_try = True
            self._chunks = [[each.row] for each in reversed(self._suspects)]
            self._suspects = []
