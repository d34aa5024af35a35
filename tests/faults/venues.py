"""The simulated venues in a process of their own, and the way to hurt them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from market_ingestor.simulator.faults import Fault
from tests.support.processes import Command, command
from tests.support.simulators import Simulators, listening

BASES: Final = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LTC", "DOT", "LINK", "AVAX")
SYMBOLS: Final = tuple(f"{base}USDT" for base in BASES)


class Venues(Simulators):
    """The running simulators.

    Attributes:
        truth: What really happened, a JSON line for each trade.
    """

    def __init__(self, process: Command, ports: dict[str, int], truth: Path) -> None:
        super().__init__(process, ports)
        self.truth = truth

    async def inject(self, name: str, fault: Fault) -> None:
        """Let a venue misbehave now."""
        await self.tell(name, msgspec.to_builtins(fault))


@contextlib.asynccontextmanager
async def simulated(folder: Path, *, seed: int, rate: float) -> AsyncIterator[Venues]:
    """Run all venues, each trading ``rate`` times a second, for the length of the block."""
    truth = folder / "truth.jsonl"
    symbols = ",".join(f"{base}-USDT" for base in BASES)
    arguments = ["--record", str(truth), "--seed", str(seed), "--rate", str(rate)]
    log = folder / "simulate.log"
    async with command("simulate", *arguments, "--symbols", symbols, log=log) as process:
        yield Venues(process, await listening(process), truth)
