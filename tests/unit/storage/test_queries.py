"""The file of statements and its parts."""

import pytest

from market_ingestor.storage.queries import QUERIES, parse


def test_blocks_are_found_by_name_without_their_comments() -> None:
    text = (
        "-- about\n\n-- name: one\n-- says\nSELECT 1\n\n-- name: two\nSELECT\n    -- kept\n    2\n"
    )
    assert parse(text) == {"one": "SELECT 1", "two": "SELECT\n    -- kept\n    2"}


def test_a_name_inside_a_comment_starts_no_block() -> None:
    assert parse('-- a block is "-- name: x"\n-- name: one\nSELECT 1') == {"one": "SELECT 1"}


@pytest.mark.parametrize("text", ["-- name: one\n-- nothing\n", "-- name: a\nX\n-- name: a\nY\n"])
def test_an_empty_or_repeated_block_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty or there twice"):
        parse(text)


def test_every_statement_is_one_statement() -> None:
    assert all(";" not in statement for statement in QUERIES.values())
