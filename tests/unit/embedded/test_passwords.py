"""Rules for the passwords of embedded servers."""

from pathlib import Path

import pytest

from market_ingestor.embedded.errors import EmbeddedError
from market_ingestor.embedded.passwords import password_for


def test_a_password_stays_the_same_and_differs_per_account(tmp_path: Path) -> None:
    first = password_for(tmp_path, "a")
    assert password_for(tmp_path, "b") != first
    assert password_for(tmp_path, "a") == first


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    password_for(tmp_path, "a")
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_an_error_and_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(EmbeddedError, match=r"secrets\.json"):
        password_for(tmp_path, "a")
    assert path.read_text(encoding="utf-8") == "{"
