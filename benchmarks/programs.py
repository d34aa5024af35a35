"""Starts the benchmarks' own programs, venues under load before all."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.load import load_symbols
from tests.support.processes import PROJECT, Command, program
from tests.support.simulators import Simulators, listening

VENUES: Final = ("binance", "okx", "bybit", "coinbase", "kraken")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What trades.

    Attributes:
        symbols: On each venue.
        prebuilt: Binance's frames made beforehand, without stamps.
    """

    venues: tuple[str, ...] = VENUES
    symbols: int = 20
    prebuilt: bool = False


def all_trades(port: int, load: Load) -> str:
    """Return the address at which Binance sends every trade of a load unasked."""
    names = [each.replace("-", "").lower() for each in load_symbols(load.symbols)]
    streams = "/".join(f"{name}@trade" for name in names)
    return f"ws://127.0.0.1:{port}/stream?streams={streams}"


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of one of the benchmarks' own programs."""
    return (sys.executable, "-m", f"benchmarks.{name}", *arguments)


@contextlib.asynccontextmanager
async def loaded_venues(folder: Path, load: Load) -> AsyncIterator[Simulators]:
    """Run venues under load for the length of the block; they do not trade yet."""
    arguments = [f"--venue={name}" for name in load.venues]
    arguments += [f"--symbols={load.symbols}", *(["--prebuilt"] if load.prebuilt else [])]
    async with own_program(folder / "load.log", "load", *arguments) as process:
        yield Simulators(process, await listening(process, load.venues))


@contextlib.asynccontextmanager
async def own_program(log: Path, name: str, *arguments: str) -> AsyncIterator[Command]:
    """Run one of the benchmarks' own programs for the length of the block."""
    env = {"PYTHONPATH": str(PROJECT)}
    async with program(*module(name, *arguments), log=log, env=env) as process:
        yield process
