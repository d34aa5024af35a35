"""Finds the programs of nats-server and PostgreSQL, or says which command installs them.

Owns the places to look in and their order. It must never start a server or install anything.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from market_ingestor.embedded.child import run_tool
from market_ingestor.embedded.errors import BinaryMissingError, EmbeddedError

NATS_VARIABLE = "MARKET_INGESTOR_NATS_SERVER"  # the program to use instead of any other
POSTGRES_VARIABLE = "MARKET_INGESTOR_POSTGRES_BIN"  # the folder of initdb and postgres to use

VERSION_MIN = (
    14  # the oldest release with everything the schema uses; and older ones are unmaintained
)
TOOL_TIMEOUT_S = 30.0  # printing a version takes milliseconds; a first start from a cold disk more

# Where package managers put programs that are not always in PATH: Debian's daemons, Homebrew on
# both kinds of Mac and on Linux.
NATS_FOLDERS = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
)
# Debian, Red Hat's PGDG packages, Homebrew's keg-only formulas.
POSTGRES_GLOBS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
)


class PostgresPrograms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One installed PostgreSQL.

    Attributes:
        folder: Where ``initdb`` and ``postgres`` are.
        version: Its major version.
        has_timescaledb: Whether its TimescaleDB library is installed.
    """

    folder: Path
    version: int
    has_timescaledb: bool


def find_nats_server(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the nats-server program.

    Raises:
        BinaryMissingError: There is none; the text says how to get one.
    """
    chosen = environ.get(NATS_VARIABLE)
    if chosen:
        if not _is_program(Path(chosen)):
            hint = f"{NATS_VARIABLE} says {chosen}, which is not a program"
            raise BinaryMissingError("nats-server", hint)
        return Path(chosen).resolve()
    search = os.pathsep.join([environ.get("PATH", ""), *NATS_FOLDERS])
    found = shutil.which("nats-server", path=search)
    if found is None:
        hint = install_hint("nats-server", "nats-server", NATS_VARIABLE)
        raise BinaryMissingError("nats-server", hint)
    return Path(found).resolve()


async def find_postgres(
    environ: Mapping[str, str] = os.environ, *, data_version: int | None = None
) -> PostgresPrograms:
    """Return the PostgreSQL to use: the chosen one, else that in PATH, else the newest installed.

    Args:
        environ: The environment variables to go by.
        data_version: The major version that made the data at hand, None for new data; no other
            version can read it.

    Raises:
        BinaryMissingError: There is none; the text says how to get one.
        EmbeddedError: None of those installed can read the data.
    """
    found = [await _examine(folder) for folder in postgres_folders(environ)]
    usable = [one for one in found if one is not None and one.version >= VERSION_MIN]
    if not usable:
        hint = install_hint("postgresql", "postgresql@17", POSTGRES_VARIABLE)
        raise BinaryMissingError("PostgreSQL", hint)
    if data_version is None:
        return usable[0]
    for one in usable:
        if one.version == data_version:
            return one
    installed = ", ".join(sorted({str(one.version) for one in usable}))
    raise EmbeddedError(
        f"the data was made by PostgreSQL {data_version}, installed is {installed}:"
        f" install PostgreSQL {data_version}, or use another data folder"
    )


def postgres_folders(environ: Mapping[str, str], root: Path = Path("/")) -> Iterator[Path]:
    """Yield every folder that holds ``initdb`` and ``postgres``, the preferred one first.

    Args:
        environ: The environment variables to go by.
        root: Where the well-known places are looked for.
    """
    chosen = environ.get(POSTGRES_VARIABLE)
    if chosen:
        if not _has_server(Path(chosen)):
            hint = f"{POSTGRES_VARIABLE} says {chosen}, which holds no initdb and postgres"
            raise BinaryMissingError("PostgreSQL", hint)
        yield Path(chosen).resolve()
        return
    in_path = shutil.which("initdb", path=environ.get("PATH", ""))
    known = [folder for glob in POSTGRES_GLOBS for folder in root.glob(glob)]
    known.sort(key=_version_in_name, reverse=True)
    folders = [] if in_path is None else [Path(in_path).resolve().parent]
    yield from dict.fromkeys(folder for folder in (*folders, *known) if _has_server(folder))


def install_hint(apt_package: str, brew_formula: str, variable: str) -> str:
    """Return the command that installs a program here, or what to set when we know none."""
    if sys.platform == "darwin":
        return f"brew install {brew_formula}"
    if shutil.which("apt-get") is not None:
        return f"apt-get install {apt_package}"
    return f"install {apt_package} with your package manager, or set {variable}"


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _has_server(folder: Path) -> bool:
    return _is_program(folder / "initdb") and _is_program(folder / "postgres")


def _version_in_name(folder: Path) -> int:
    numbers = re.findall(r"\d+", folder.parent.name)
    return int(numbers[-1]) if numbers else 0


async def _examine(folder: Path) -> PostgresPrograms | None:
    said = await run_tool([str(folder / "postgres"), "--version"], timeout_s=TOOL_TIMEOUT_S)
    version = re.search(r"\(PostgreSQL\) (\d+)", said or "")
    if version is None:
        return None
    return PostgresPrograms(
        folder=folder,
        version=int(version[1]),
        has_timescaledb=await _has_timescaledb(folder),
    )


async def _has_timescaledb(folder: Path) -> bool:
    libraries = [folder.parent / "lib", folder.parent / "lib" / "postgresql"]
    pg_config = folder / "pg_config"
    if _is_program(pg_config):
        said = await run_tool([str(pg_config), "--pkglibdir"], timeout_s=TOOL_TIMEOUT_S)
        if said is not None:
            libraries = [Path(said.strip())]
    return any(
        (library / f"timescaledb.{suffix}").exists()
        for library in libraries
        for suffix in ("so", "dylib")
    )
