"""Whose fault an error is: the table that keeps outages out of the dead letters."""

import pytest

from market_ingestor.storage.faults import is_row_fault


@pytest.mark.parametrize(
    "sqlstate",
    [
        "22P02",  # invalid text representation
        "22003",  # numeric value out of range
        "22021",  # character not in repertoire
        "23502",  # null in a column that has none
        "23505",  # unique violation
    ],
)
def test_a_bad_value_is_the_rows_fault(sqlstate: str) -> None:
    assert is_row_fault(sqlstate)


@pytest.mark.parametrize(
    "sqlstate",
    [
        "23514",  # no partition for this row
        "08006",  # connection failure
        "25006",  # read-only transaction
        "25P02",  # transaction aborted
        "28P01",  # wrong password
        "3D000",  # no such database
        "40001",  # serialization failure
        "40P01",  # deadlock
        "42P01",  # no such table: not migrated yet
        "53100",  # disk full
        "53200",  # out of memory
        "53300",  # too many connections
        "54000",  # program limit
        "55P03",  # lock not available
        "57014",  # statement timeout
        "57P01",  # terminated by an administrator
        "57P03",  # starting up
        "58030",  # input or output error
        "XX000",  # internal error
        "XX001",  # data corrupted
        "",
        None,  # no answer at all
    ],
)
def test_everything_else_is_the_worlds_fault(sqlstate: str | None) -> None:
    assert not is_row_fault(sqlstate)
