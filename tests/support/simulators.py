"""Simulated venues in a process of their own: where they listen, and what they can be told."""

import json
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from market_ingestor.simulator.markets import VENUES
from tests.support.processes import Command

START_WAIT_S: Final = 30.0


class Simulators:
    """The running simulators.

    Attributes:
        ports: Where each listens, WebSocket and REST alike.
    """

    def __init__(self, process: Command, ports: dict[str, int]) -> None:
        self.ports = ports
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.process.pid

    async def set_rate(self, trades_per_s: float) -> None:
        """Change how fast every venue trades; 0 stops them."""
        for name in self.ports:
            await self.tell(name, {"command": "rate", "value": trades_per_s})

    async def trades_sent(self) -> int:
        """Return how many trades were handed to sockets so far."""
        stats = [(await self.tell(name, {"command": "stats"}))["stats"] for name in self.ports]
        return sum(each["trades_sent"] for each in stats)

    async def tell(self, name: str, request: dict[str, Any]) -> Any:
        """Give one venue a command and return its answer."""
        address = f"ws://127.0.0.1:{self.ports[name]}/_control"
        async with connect(address, proxy=None, open_timeout=10) as control:
            await control.send(json.dumps(request))
            answer = json.loads(await control.recv())
        assert answer["ok"], answer
        return answer


async def listening(process: Command, venues: tuple[str, ...] = VENUES) -> dict[str, int]:
    """Return the ports of simulators, once their process has printed the addresses of all."""

    def ports() -> dict[str, int]:
        lines = [line.split() for line in process.output.splitlines()]
        found = {
            line[0]: urlsplit(line[1]).port for line in lines if line[:1] and line[0] in venues
        }
        return {name: port for name, port in found.items() if port is not None}

    await process.until(lambda: set(ports()) == set(venues), START_WAIT_S)
    return ports()
