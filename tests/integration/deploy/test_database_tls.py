"""The DSN that SECURITY.md names: encrypted, and only to the server whose certificate is known."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from market_ingestor.errors import StoreUnavailableError
from market_ingestor.storage.timescale import Database
from tests.support.servers import PostgresHandle
from tests.support.tools import needs, run

pytestmark = [pytest.mark.anyio, needs("openssl")]

CERTIFICATES = Path(__file__).parents[3] / "deploy" / "nats" / "make-certificates.sh"
IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@asynccontextmanager
async def superuser(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def handed_over(folder: Path, home: Path) -> None:
    """Copy a certificate and its key to where the server may read them."""
    owner = home.stat()
    for name in ("server.pem", "server.key"):
        os.chown(shutil.copy(folder / name, home), owner.st_uid, owner.st_gid)


async def encrypt(dsn: str, folder: Path) -> None:
    """Give a running server the certificate in ``folder``; new sessions may use it."""
    async with superuser(dsn) as connection:
        handed_over(folder, Path(await connection.fetchval("SHOW data_directory")))
        for setting in ("ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("SELECT pg_reload_conf()")


async def test_a_session_is_encrypted_and_the_server_is_the_one_that_is_known(
    own_postgres: PostgresHandle, tmp_path: Path
) -> None:
    for name in ("ours", "others"):
        run(str(CERTIFICATES), str(tmp_path / name), "127.0.0.1")
    plain = own_postgres.dsn
    await encrypt(plain, tmp_path / "ours")
    known = f"{plain}?sslmode=verify-full&sslrootcert={tmp_path}/ours/ca.pem"
    async with Database(known) as database:
        assert [row["ssl"] for row in await database.fetch(IS_ENCRYPTED)] == [True]
    for refused in (
        f"{plain}?sslmode=verify-full&sslrootcert={tmp_path}/others/ca.pem",
        known.replace("@127.0.0.1", "@localhost"),
    ):
        async with Database(refused) as database:
            with pytest.raises(StoreUnavailableError, match="certificate"):
                await database.fetch(IS_ENCRYPTED)
