"""What the sources of trades and the server of one simulated venue share.

Owns the open connections, the way a chunk of frames reaches them, the counters and the record of
what was sent. Must never know where trades come from or how handshakes work.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from market_ingestor.simulator.connection import Connection, frame
from market_ingestor.simulator.faults import Windows
from market_ingestor.simulator.protocol import US_PER_S, Frame, Front
from market_ingestor.simulator.tape import Fill
from market_ingestor.simulator.truth import TruthLog
from market_ingestor.simulator.world import World

_NS_PER_US: Final = 1_000


class Stats(msgspec.Struct, kw_only=True):
    """What a venue has done since it started.

    Attributes:
        trades_made: Trades that happened, seen by anybody or not.
        trades_sent: Trades handed to sockets, once per socket.
        frames_sent: Data frames handed to sockets.
        connections: WebSockets ever opened; ``connections_open`` those open now.
        rest_requests: REST requests answered.
        faults: Faults carried out.
    """

    trades_made: int = 0
    trades_sent: int = 0
    frames_sent: int = 0
    connections: int = 0
    connections_open: int = 0
    rest_requests: int = 0
    faults: int = 0


class Chunk:
    """The frames of one variant that are ready at one moment, built for the wire once."""

    __slots__ = ("frames", "joined", "markets", "trades")

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.frames = [(market, frame(payload), trades) for market, payload, trades in frames]
        self.markets = {market for market, _, _ in self.frames}
        self.joined = b"".join([data for _, data, _ in self.frames])
        self.trades = sum(trades for _, _, trades in self.frames)

    def only(self, is_chosen: Callable[[int], bool]) -> tuple[bytes, int, int]:
        """Return the bytes of the chosen markets' frames, how many they are, and their trades."""
        chosen = [each for each in self.frames if is_chosen(each[0])]
        return b"".join([each[1] for each in chosen]), len(chosen), sum(each[2] for each in chosen)


Plan: TypeAlias = Callable[[Connection], Iterable[tuple[Chunk, set[int]]]]


class Hub:
    """Connections, counters and record of one venue.

    Attributes:
        name: The venue.
        front: Its protocol.
        world: Its markets and their past.
        windows: Lasting faults in force.
        connections: Open sockets, oldest first.
        stats: Counters.
        started_us: When the simulation began.
    """

    def __init__(self, name: str, front: Front, world: World, truth: TruthLog | None) -> None:
        self.name = name
        self.front = front
        self.world = world
        self.windows = Windows()
        self.connections: list[Connection] = []
        self.stats = Stats()
        self.started_us = now_us()
        self._truth = truth

    def elapsed_s(self) -> float:
        """Return seconds since the start."""
        return (now_us() - self.started_us) / US_PER_S

    def deliver(self, plan: Plan, at_us: int) -> set[int]:
        """Write what is ready to every socket that takes it.

        Args:
            plan: Returns, for a connection, chunks and the markets it wants of each.
            at_us: Now.

        Returns:
            The markets whose trades were handed to at least one socket.
        """
        covered: set[int] = set()
        for connection in self.connections:
            if connection.takes_data(at_us):
                for chunk, wanted in plan(connection):
                    covered |= wanted
                    self._write(connection, chunk, wanted, at_us)
        return covered

    def record(
        self, fills: Iterable[Fill], covered: Collection[int], removed: Collection[Fill] = ()
    ) -> None:
        """Record the fate of trades: sent if their market is in ``covered``."""
        if self._truth is None:
            return
        for fill in fills:
            self._truth.trade(
                self.name,
                self.world.markets[fill.market],
                fill,
                is_sent=fill.market in covered,
                is_in_rest=fill not in removed,
            )
        self._truth.flush()

    def note(self, what: str, details: Mapping[str, object]) -> None:
        """Record a fault or the end of a socket."""
        if self._truth is not None:
            self._truth.event(self.name, now_us(), what, details)

    def _write(self, connection: Connection, chunk: Chunk, wanted: set[int], at_us: int) -> None:
        if connection.skips:
            data, frames, trades = chunk.only(
                lambda market: market in wanted and not connection.keep_back(market)
            )
        elif chunk.markets <= wanted:
            data, frames, trades = chunk.joined, len(chunk.frames), chunk.trades
        else:
            data, frames, trades = chunk.only(wanted.__contains__)
        connection.write(data, at_us)
        self.stats.frames_sent += frames
        self.stats.trades_sent += trades


def now_us() -> int:
    """Return the wall clock, Unix microseconds."""
    return time.time_ns() // _NS_PER_US
