"""A venue as a process of its own that never makes its reader wait.

It is the simulated Binance, with trades made beforehand: ``make TRADES RATE`` builds the next
ones, one a frame, as bytes of the wire, and ``send PATH RATE`` writes them to the connection that
asked for PATH, as fast as it reads (0) or so many a second. Says the port first, then ``made`` or
the seconds that sending took.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from typing import Final

import uvloop
from websockets.asyncio.server import ServerConnection

from benchmarks.batches import symbols
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.connection import frame
from market_ingestor.simulator.hub import now_us
from market_ingestor.simulator.tape import Tape

VARIANT: Final = "trade|combined|ms"  # the stream the project subscribes
FRAMES_A_WRITE: Final = 400  # 70 KB
STEP_S: Final = 0.001  # between writes at a rate


class LoadVenue(SimulatedVenue):
    """A simulated Binance whose trades are made beforehand."""

    def __init__(self, count: int) -> None:
        super().__init__("binance", symbols(count), rate=0, has_limits=False)
        first_ids = [self.front.first_id(index, now_us() // 10**6) for index in range(count)]
        # One tape a symbol: one for all of them would deal its orders, several trades of one
        # symbol in a row, and here every trade is to be of any symbol.
        self._tapes = [
            Tape([market], seed="bench", time_step_us=self.front.time_step_us, first_ids=first_ids)
            for market in self.world.markets
        ]
        self._dice = random.Random("bench")
        self._frames: list[bytes] = []
        self._writes: list[bytes] = []

    def make(self, trades: int, rate: float) -> None:
        """Build the next trades, of symbols chosen uniformly, as made at ``rate`` until now."""
        chosen = self._dice.choices(range(len(self._tapes)), k=trades)
        until_us = now_us()
        from_us = until_us - int(trades / rate * 1e6)
        fills = {
            index: iter(self._tapes[index].take(count, from_us, until_us))
            for index, count in Counter(chosen).items()
        }
        mixed = [next(fills[index]) for index in chosen]
        self._frames = [
            frame(payload) for _, payload, _ in self.front.encode(VARIANT, mixed, until_us)
        ]
        self._writes = [
            b"".join(self._frames[begin : begin + FRAMES_A_WRITE])
            for begin in range(0, trades, FRAMES_A_WRITE)
        ]

    async def send(self, path: str, rate: float) -> float:
        """Write what was made to the connection that asked for ``path``; returns the seconds."""
        socket = next(
            each.socket
            for each in self._hub.connections
            if each.socket.request is not None and each.socket.request.path == path
        )
        began = time.perf_counter()
        if rate:
            await self._pace(socket, rate)
        else:
            for write in self._writes:
                socket.transport.write(write)
                await socket.drain()
        return time.perf_counter() - began

    async def _pace(self, socket: ServerConnection, rate: float) -> None:
        began, sent = time.perf_counter(), 0
        while sent < len(self._frames):
            await asyncio.sleep(STEP_S)
            due = int((time.perf_counter() - began) * rate)
            socket.transport.write(b"".join(self._frames[sent:due]))
            sent = max(sent, due)
            await socket.drain()


def say(word: object) -> None:
    """Answer."""
    print(word, flush=True)


async def main() -> None:
    """Do what standard input says until it ends."""
    async with LoadVenue(int(sys.argv[1])) as venue:
        say(venue.ws_url.rpartition(":")[2])
        while line := await asyncio.to_thread(sys.stdin.readline):
            match line.split():
                case ["make", trades, rate]:
                    venue.make(int(trades), float(rate))
                    say("made")
                case ["send", path, rate]:
                    say(await venue.send(path, float(rate)))
                case _:
                    raise ValueError(line)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
