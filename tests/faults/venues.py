"""The simulated venues in a process of their own, and the way to hurt them."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import connect

from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.markets import VENUES
from tests.support.processes import Command, command

START_WAIT_S: Final = 30.0
BASES: Final = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LTC", "DOT", "LINK", "AVAX")
SYMBOLS: Final = tuple(f"{base}USDT" for base in BASES)


class Venues:
    """The running simulators.

    Attributes:
        ports: Where each listens, WebSocket and REST alike.
        truth: What really happened, a JSON line for each trade.
    """

    def __init__(self, process: Command, ports: dict[str, int], truth: Path) -> None:
        self.ports = ports
        self.truth = truth
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.process.pid

    async def inject(self, name: str, fault: Fault) -> None:
        """Let a venue misbehave now."""
        await self._tell(name, msgspec.to_builtins(fault))

    async def set_rate(self, trades_per_s: float) -> None:
        """Change how fast every venue trades; 0 stops them."""
        for name in self.ports:
            await self._tell(name, {"command": "rate", "value": trades_per_s})

    async def _tell(self, name: str, request: dict[str, Any]) -> None:
        address = f"ws://127.0.0.1:{self.ports[name]}/_control"
        async with connect(address, proxy=None, open_timeout=10) as control:
            await control.send(json.dumps(request))
            answer = json.loads(await control.recv())
        assert answer["ok"], answer


@contextlib.asynccontextmanager
async def simulated(folder: Path, *, seed: int, rate: float) -> AsyncIterator[Venues]:
    """Run all venues, each trading ``rate`` times a second, for the length of the block."""
    truth = folder / "truth.jsonl"
    symbols = ",".join(f"{base}-USDT" for base in BASES)
    arguments = ["--record", str(truth), "--seed", str(seed), "--rate", str(rate)]
    log = folder / "simulate.log"
    async with command("simulate", *arguments, "--symbols", symbols, log=log) as process:

        def ports() -> dict[str, int]:
            lines = [line.split() for line in process.output.splitlines()]
            found = {
                line[0]: urlsplit(line[1]).port for line in lines if line[:1] and line[0] in VENUES
            }
            return {name: port for name, port in found.items() if port is not None}

        await process.until(lambda: set(ports()) == set(VENUES), START_WAIT_S)
        yield Venues(process, ports(), truth)
