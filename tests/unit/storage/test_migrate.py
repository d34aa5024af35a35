"""Which files of the schema are still to be applied."""

import re
from pathlib import Path

import pytest

from market_ingestor.errors import StorageError
from market_ingestor.storage.migrate import Migration, load, waiting

ONE = Migration(name="0001_a.sql", sql="SELECT 1")
TWO = Migration(name="0002_b.sql", sql="SELECT 2")


def test_files_wait_until_they_are_applied() -> None:
    assert waiting([ONE, TWO], {}) == [ONE, TWO]
    assert waiting([ONE, TWO], {ONE.name: ONE.checksum}) == [TWO]
    assert waiting([ONE], {ONE.name: ONE.checksum, TWO.name: TWO.checksum}) == []


def test_an_applied_file_must_not_change() -> None:
    with pytest.raises(StorageError, match=r"0001_a\.sql was applied and has changed"):
        waiting([ONE, TWO], {ONE.name: "another"})


def test_no_file_comes_before_an_applied_one() -> None:
    with pytest.raises(StorageError, match=r"0001_a\.sql was not applied before"):
        waiting([ONE, TWO], {TWO.name: TWO.checksum})


def test_the_files_of_the_checkout_are_found_in_order() -> None:
    names = [each.name for each in load()]
    assert names == sorted(names)
    assert names[0].startswith("0001_")


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no schema files"):
        load(tmp_path)


# What a process of the version before, still running, would stumble over; or what cannot be undone.
BREAKING = re.compile(
    r"\b(?:DROP\s+(?:TABLE|COLUMN|VIEW|SCHEMA)|RENAME|TRUNCATE|ALTER\s+COLUMN\s+\w+\s+(?:TYPE|SET\s+NOT)"
    r"|ADD\s+COLUMN\s+(?!IF)[^;]*NOT\s+NULL(?![^;]*DEFAULT))",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE market_trades DROP COLUMN side",
        "ALTER TABLE market_gaps RENAME TO gaps",
        "ALTER TABLE market_klines ALTER COLUMN revision TYPE bigint",
        "ALTER TABLE market_trades ADD COLUMN venue text NOT NULL",
    ],
)
def test_what_breaks_a_running_process_is_recognised(statement: str) -> None:
    assert BREAKING.search(statement)


def test_no_migration_breaks_processes_of_the_version_before() -> None:
    assert not BREAKING.search(
        "ALTER TABLE market_trades ADD COLUMN venue text NOT NULL DEFAULT ''"
    )
    for each in load():
        text = re.sub(r"--.*", "", each.sql)
        text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)  # functions run later
        assert not BREAKING.search(text), each.name
