"""Rules for finding the programs of embedded servers."""

from pathlib import Path

import pytest

from market_ingestor.embedded import binaries
from market_ingestor.embedded.binaries import find_nats_server, find_postgres, postgres_folders
from market_ingestor.embedded.errors import BinaryMissingError, EmbeddedError

pytestmark = pytest.mark.anyio


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def postgres(folder: Path, version: int) -> Path:
    program(folder / "initdb")
    program(folder / "postgres", f'#!/bin/sh\necho "postgres (PostgreSQL) {version}.3 (X)"\n')
    return folder


def test_a_missing_nats_server_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(binaries, "NATS_FOLDERS", ())
    with pytest.raises(BinaryMissingError, match=r"nats-server not found: .*install") as caught:
        find_nats_server({"PATH": str(tmp_path)})
    assert "\n" not in str(caught.value)


def test_the_chosen_nats_server_wins(tmp_path: Path) -> None:
    chosen = program(tmp_path / "other" / "nats-server")
    assert find_nats_server({"MARKET_INGESTOR_NATS_SERVER": str(chosen)}) == chosen


def test_a_chosen_nats_server_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BinaryMissingError, match="MARKET_INGESTOR_NATS_SERVER"):
        find_nats_server({"MARKET_INGESTOR_NATS_SERVER": str(tmp_path / "absent")})


def test_the_newest_postgres_comes_first_by_number(tmp_path: Path) -> None:
    for version in (9, 17, 14):
        postgres(tmp_path / f"usr/lib/postgresql/{version}/bin", version)
    found = list(postgres_folders({"PATH": ""}, tmp_path))
    assert [folder.parent.name for folder in found] == ["17", "14", "9"]


def test_a_keg_only_postgres_is_found(tmp_path: Path) -> None:
    keg = postgres(tmp_path / "opt/homebrew/opt/postgresql@17/bin", 17)
    assert list(postgres_folders({"PATH": ""}, tmp_path)) == [keg]


def test_postgres_in_path_comes_before_others(tmp_path: Path) -> None:
    postgres(tmp_path / "usr/lib/postgresql/17/bin", 17)
    mine = postgres(tmp_path / "mine", 16)
    assert next(postgres_folders({"PATH": str(mine)}, tmp_path)) == mine


async def test_data_is_given_to_the_version_that_made_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = [postgres(tmp_path / str(version), version) for version in (17, 15)]
    monkeypatch.setattr(binaries, "postgres_folders", lambda _: iter(folders))
    assert (await find_postgres({})).version == 17
    assert (await find_postgres({}, data_version=15)).version == 15


async def test_data_of_a_version_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    chosen = postgres(tmp_path, 17)
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 14, installed is 17"):
        await find_postgres({"MARKET_INGESTOR_POSTGRES_BIN": str(chosen)}, data_version=14)


async def test_a_postgres_that_is_too_old_is_as_good_as_none(tmp_path: Path) -> None:
    chosen = postgres(tmp_path, 13)
    with pytest.raises(BinaryMissingError, match=r"PostgreSQL not found: .*install"):
        await find_postgres({"MARKET_INGESTOR_POSTGRES_BIN": str(chosen)})


async def test_timescaledb_is_seen_in_the_library_folder(tmp_path: Path) -> None:
    chosen = postgres(tmp_path / "bin", 17)
    environ = {"MARKET_INGESTOR_POSTGRES_BIN": str(chosen)}
    assert not (await find_postgres(environ)).has_timescaledb
    program(tmp_path / "lib" / "timescaledb.so")
    assert (await find_postgres(environ)).has_timescaledb
