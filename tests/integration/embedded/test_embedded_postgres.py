"""Rules for an embedded PostgreSQL, with the real one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from market_ingestor.embedded import Embedded, identity
from market_ingestor.embedded.identity import Identity, Way
from tests.support.servers import running_postgres, short_folder

pytestmark = pytest.mark.anyio

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="about being root")
# A container's or a chroot's root may not make one.
NAMESPACES = (
    os.geteuid() == 0
    and not subprocess.run(
        ["unshare", "--user", "true"], check=False, capture_output=True
    ).returncode
)
needs_namespaces = pytest.mark.skipif(not NAMESPACES, reason="user namespaces are not allowed")


@pytest.fixture
def path() -> Iterator[Path]:
    with short_folder() as path:
        yield path


async def execute(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_committed_rows_survive_a_restart_and_a_kill(path: Path) -> None:
    async with running_postgres(path, fast=False) as postgres:
        dsn = postgres.dsn
        await execute(dsn, "CREATE TABLE kept AS SELECT 1 AS number")
        await postgres.restart()
        await execute(dsn, "INSERT INTO kept VALUES (2)")
        await postgres.kill()
        with pytest.raises(OSError, match="Connect"):
            await execute(dsn, "SELECT 1")
        await postgres.start()
        assert await execute(dsn, "SELECT sum(number) FROM kept") == 3


async def test_a_second_start_finds_the_rows_with_the_same_password(path: Path) -> None:
    async with running_postgres(path, fast=True) as postgres:
        password = postgres.dsn.split("@")[0]
        await execute(postgres.dsn, "CREATE TABLE kept AS SELECT 1 AS number")
    async with running_postgres(path, fast=True) as postgres:
        assert postgres.dsn.split("@")[0] == password
        assert await execute(postgres.dsn, "SELECT number FROM kept") == 1


async def test_a_database_is_made_and_dropped_with_any_name(path: Path) -> None:
    async with running_postgres(path, fast=True) as postgres:
        dsn = await postgres.create_database('a "name"/%')
        busy = await asyncpg.connect(dsn)
        await busy.execute("CREATE TABLE kept AS SELECT 7 AS number")
        assert await execute(dsn, "SELECT number FROM kept") == 7
        await postgres.drop_database('a "name"/%')
        busy.terminate()
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await execute(dsn, "SELECT 1")


async def test_it_listens_on_loopback_only_and_writes_through(path: Path) -> None:
    async with running_postgres(path, fast=False) as postgres:
        assert await execute(postgres.dsn, "SHOW listen_addresses") == "127.0.0.1"
        assert await execute(postgres.dsn, "SHOW unix_socket_directories") == ""
        assert await execute(postgres.dsn, "SHOW fsync") == "on"
        assert await execute(postgres.dsn, "SHOW server_encoding") == "UTF8"


async def test_timescaledb_can_be_made_where_it_is_installed(path: Path) -> None:
    async with running_postgres(path, fast=True) as postgres:
        if not postgres.has_timescaledb:
            pytest.skip("TimescaleDB is not installed")
        await execute(postgres.dsn, "CREATE EXTENSION timescaledb")
        assert await execute(postgres.dsn, "SHOW timescaledb.telemetry_level") == "off"


async def test_a_stale_pid_file_that_names_a_living_process_does_no_harm(path: Path) -> None:
    async with running_postgres(path, fast=True) as postgres:
        await postgres.kill()
        pid_file = path / "postgres" / "data" / "postmaster.pid"
        lines = pid_file.read_text(encoding="utf-8").splitlines()
        lines[0] = "1"
        pid_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        await postgres.start()


async def test_a_half_made_cluster_is_made_again(path: Path) -> None:
    draft = path / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("1", encoding="ascii")
    async with running_postgres(path, fast=True) as postgres:
        assert await execute(postgres.dsn, "SELECT 1") == 1


async def test_everything_private_is_private_to_the_owner(path: Path) -> None:
    async with Embedded(path / "data"):
        for file in ("secrets.json", "processes.json", "lock", "nats/nats.conf"):
            assert (path / "data" / file).stat().st_mode & 0o077 == 0, file
        assert not (path / "data" / "postgres" / "password").exists()


def only(*ways: Way) -> Callable[[int | None], Iterator[Identity]]:
    candidates = identity._candidates  # noqa: SLF001  # to leave some of them out

    def chosen(owner: int | None) -> Iterator[Identity]:
        return (one for one in candidates(owner) if one.way in ways)

    return chosen


@root_only
@pytest.mark.parametrize("way", [pytest.param(Way.NAMESPACE, marks=needs_namespaces), Way.AMBIENT])
async def test_root_can_run_it_in_a_private_folder(
    path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_candidates", only(way))
    private = path / "clone"
    private.mkdir(mode=0o700)
    async with running_postgres(private / ".data", fast=True) as postgres:
        assert (private / ".data" / "postgres" / "data").exists()
        await execute(postgres.dsn, "CREATE TABLE kept AS SELECT 1 AS number")
        await postgres.kill()
        await postgres.start()
        assert await execute(postgres.dsn, "SELECT number FROM kept") == 1


def private_and_public(path: Path) -> tuple[Path, Path]:
    """Make a folder that nobody else can enter and one that everybody may write in."""
    private, public = path / "clone", path / "public"
    private.mkdir(mode=0o700)
    public.mkdir()
    path.chmod(0o755)
    public.chmod(0o1777)
    return private, public


@root_only
async def test_root_moves_only_the_data_where_nothing_else_is_possible(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_candidates", only(Way.DROPPED))
    private, public = private_and_public(path)
    monkeypatch.setattr(identity, "OUTSIDE", public)
    for query in ("CREATE TABLE kept AS SELECT 1 AS number", "SELECT number FROM kept"):
        async with running_postgres(private / ".data", fast=True) as postgres:
            assert [folder.stat().st_uid != 0 for folder in public.iterdir()] == [True]
            await execute(postgres.dsn, query)


@root_only
@needs_namespaces
async def test_data_of_another_way_changes_hands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in (Way.NAMESPACE, Way.AMBIENT, Way.NAMESPACE):
        with monkeypatch.context() as patch:
            patch.setattr(identity, "_candidates", only(way))
            async with running_postgres(path, fast=True) as postgres:
                await execute(postgres.dsn, "SELECT 1")
