"""Whose fault a failed statement is: the row's or the world's. Pure.

The one decision everything about retrying and dead letters rests on. Taking a full disk for bad
rows would turn an outage into dead letters, so only what the standard calls a data exception or
a broken constraint is a row's fault.
"""

from typing import Final

from market_ingestor.errors import StorageError

_ROW_CLASSES: Final = frozenset({"22", "23"})  # data exception, integrity constraint violation
NO_PARTITION: Final = "23514"  # also "no partition for this row": ours to make, not the row's


class RowRefusedError(StorageError):
    """The database refused a batch because of one of its rows.

    Attributes:
        sqlstate: The five characters by which PostgreSQL names the error.
        reason: Its first line of text.
    """

    def __init__(self, sqlstate: str, reason: str) -> None:
        super().__init__(f"{reason} ({sqlstate})")
        self.sqlstate = sqlstate
        self.reason = reason


def is_row_fault(sqlstate: str | None) -> bool:
    """Return whether an error with this SQLSTATE can be cured by leaving a row out.

    None (a time-out, a lost connection) and everything unknown is the world's.
    """
    return sqlstate is not None and sqlstate[:2] in _ROW_CLASSES and sqlstate != NO_PARTITION
