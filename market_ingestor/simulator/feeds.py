"""Where a simulated venue's trades come from: made up by the second, or played from a recording.

Owns the two loops that bring trades to the hub in time, and what of them survives a restart. Every
trade is in the journal and in REST's memory before a socket sees it.
"""

import asyncio
from pathlib import Path
from typing import Final, Protocol

from market_ingestor.simulator.connection import Connection
from market_ingestor.simulator.faults import Router
from market_ingestor.simulator.frames import Positions, RecordedFrame, Recording
from market_ingestor.simulator.hub import Chunk, Hub, now_us
from market_ingestor.simulator.journal import Journal
from market_ingestor.simulator.protocol import US_PER_S, Frame
from market_ingestor.simulator.tape import Fill, Tape

_STEP_MIN_S: Final = 0.005  # trades come at most 200 times a second, in chunks when there are more
_STEP_MAX_S: Final = 0.25
_CATCH_UP_S: Final = 0.5  # after a pause of the process, make up for this much and no more
_CLOCK_SLACK_S: Final = 60  # clocks are not set back by more than this
_REPLAY_CHUNK: Final = 64  # frames between two looks at the subscriber's buffer
_SAVE_S: Final = 0.2  # positions are written at most this often while a tape runs


class RatedFeed(Protocol):
    """Brings trades to the hub at a rate.

    Attributes:
        rate: Trades per second over all markets; may be changed while running.
    """

    rate: float

    async def run(self) -> None:
        """Trade until cancelled."""
        ...

    def close(self) -> None:
        """Give free what it holds."""
        ...


class TapeFeed:
    """Publishes made-up trades at a rate.

    Attributes:
        rate: Trades per second over all markets; may be changed while running.
        stopped: Indexes of markets that do not trade now.
        router: What faults do to the trades.
    """

    def __init__(self, hub: Hub, made: int, *, seed: str, rate: float, state: Path | None) -> None:
        """Make trades for the first ``made`` markets; with ``state`` go on where they stood.

        Raises:
            ConfigError: Another simulator uses the folder.
        """
        self.rate = rate
        self.stopped: set[int] = set()
        self.router: Router[Fill] = Router(hub.windows)
        self._hub = hub
        self._journal: Journal | None = None
        if state is not None:
            self._journal = Journal(state, hub.name, hub.world.markets)
            fills, removed = self._journal.load()
            hub.world.append(fills)
            for fill in removed:
                hub.world.histories[fill.market].remove(fill.id)
        start_s = hub.started_us // US_PER_S
        markets = hub.world.markets[:made]
        self._tape = Tape(
            markets,
            seed=seed,
            time_step_us=hub.front.time_step_us,
            first_ids=[hub.front.first_id(each.index, start_s) for each in markets],
            positions=None if self._journal is None else self._journal.positions(),
        )

    async def run(self) -> None:
        """Trade until cancelled."""
        last_us = self._resume_us()
        due = 0.0
        while True:
            step_s = 1 / self.rate if self.rate > 0 else _STEP_MAX_S
            await asyncio.sleep(min(max(step_s, _STEP_MIN_S), _STEP_MAX_S))
            at_us = max(now_us(), last_us)
            due += self.rate * min((at_us - last_us) / US_PER_S, _CATCH_UP_S)
            count = int(due)
            due -= count
            if count:
                self._publish(self._take(count, last_us, at_us), at_us)
            last_us = at_us

    def close(self) -> None:
        """Give up what is parked and close the journal."""
        self._hub.record(self.router.abandon(), ())
        if self._journal is not None:
            self._journal.close()

    def _resume_us(self) -> int:
        """Return when trading goes on: not before an earlier run, should the clock be set back.

        Times far ahead come from a fault that set the clock off and are no reason to wait.
        """
        at_us = now_us()
        newest = (history.last() for history in self._hub.world.histories)
        times = (fill.time_us for fill in newest if fill is not None)
        near = (time_us for time_us in times if time_us < at_us + _CLOCK_SLACK_S * US_PER_S)
        return max([at_us, *near])

    def _take(self, count: int, from_us: int, until_us: int) -> list[Fill]:
        skew = self._hub.windows.active("skew", self._hub.elapsed_s())
        skew_us = 0 if skew is None else int(skew.skew_s * US_PER_S)
        return self._tape.take(count, from_us + skew_us, until_us + skew_us, self.stopped)

    def _publish(self, fills: list[Fill], at_us: int) -> None:
        hub = self._hub
        if self._journal is not None:
            self._journal.append(fills)
        hub.world.append(fills)
        hub.stats.trades_made += len(fills)
        routed = self.router.route(fills, hub.elapsed_s())
        for fill in routed.removed:
            hub.world.histories[fill.market].remove(fill.id)
        if self._journal is not None:
            self._journal.remove(routed.removed)
        chunks: dict[str, Chunk] = {}

        def chunk(variant: str) -> Chunk:
            if variant not in chunks:
                frames = hub.front.encode(variant, routed.send, at_us)
                for fill, value in routed.spoiled:
                    price = hub.world.markets[fill.market].price_text(fill.price).encode()
                    for market, data, _ in hub.front.encode(variant, [fill], at_us):
                        frames.append((market, data.replace(price, value.encode()), 0))
                chunks[variant] = Chunk(frames)
            return chunks[variant]

        def plan(connection: Connection) -> list[tuple[Chunk, set[int]]]:
            variants = connection.session.wanted
            return [(chunk(variant), connection.wanted(variant)) for variant in variants]

        hub.record(routed.send, hub.deliver(plan, at_us))
        unsent = [*routed.lost, *(fill for fill, _ in routed.spoiled)]
        if unsent:
            hub.record(unsent, (), routed.removed)


class ReplayFeed:
    """Plays a recording: each market's tape from the moment it is first subscribed.

    At speed 0 a chunk goes out whenever a subscriber has taken the last one, and nothing while
    there is none; at other speeds frames go out in recorded time, socket or not.

    Attributes:
        router: What faults do to the frames.
    """

    def __init__(self, hub: Hub, recording: Recording, *, speed: float, state: Path | None) -> None:
        self.router: Router[RecordedFrame] = Router(hub.windows)
        self._hub = hub
        self._recording = recording
        self._speed = speed
        self._positions = Positions(recording, state)
        self._first = recording.markets[0].index
        self._anchors: dict[int, tuple[int, int]] = {}  # tape -> wall clock, recorded time
        self._changed = asyncio.Event()
        for tape, played in zip(recording.tapes, self._positions.played, strict=True):
            self._remember(tape[:played])

    @property
    def is_played(self) -> bool:
        """Whether every tape has come to its end."""
        return self._positions.played == [len(tape) for tape in self._recording.tapes]

    def subscribed(self, markets: set[int]) -> None:
        """Start the tapes of markets that somebody subscribed."""
        for market in markets:
            tape = market - self._first
            if 0 <= tape < len(self._recording.tapes) and tape not in self._anchors:
                left = self._recording.tapes[tape][self._positions.played[tape] :]
                self._anchors[tape] = (now_us(), left[0].received_us if left else 0)
        self._changed.set()

    async def run(self) -> None:
        """Play until cancelled."""
        saved_us = 0
        while True:
            self._changed.clear()
            has_played = await (self._play_due() if self._speed > 0 else self._play_fast())
            if now_us() - saved_us > _SAVE_S * US_PER_S or not has_played:
                self._positions.save()
                saved_us = now_us()
            if not has_played:
                await self._idle()

    def close(self) -> None:
        """Remember how far the tapes have been played."""
        self._positions.save()

    async def _idle(self) -> None:
        """Wait for a subscription, or for a moment: a socket may start to take data again."""
        try:
            async with asyncio.timeout(_STEP_MIN_S if self._anchors else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _play_due(self) -> bool:
        has_played = False
        for tape, (wall_us, recorded_us) in list(self._anchors.items()):
            until_us = recorded_us + int((now_us() - wall_us) * self._speed)
            left = self._left(tape, _REPLAY_CHUNK)
            due = [frame for frame in left if frame.received_us <= until_us]
            if due:
                self._send(tape, left[: left.index(due[-1]) + 1])
                has_played = True
        await asyncio.sleep(0)
        return has_played

    async def _play_fast(self) -> bool:
        has_played = False
        for tape in list(self._anchors):
            chunk = self._left(tape, _REPLAY_CHUNK)
            market = tape + self._first
            readers = [
                each
                for each in self._hub.connections
                if each.takes_data(now_us()) and market in each.markets() - each.muted
            ]
            if chunk and readers:
                self._send(tape, chunk)
                await _first_drained(readers)
                has_played = True
        return has_played

    def _left(self, tape: int, limit: int) -> list[RecordedFrame]:
        played = self._positions.played[tape]
        return self._recording.tapes[tape][played : played + limit]

    def _remember(self, frames: list[RecordedFrame]) -> list[Fill]:
        """Show the trades of ``frames`` in REST; ids that come again are no new trades."""
        fresh: list[Fill] = []
        for frame in frames:
            if frame.fill is None:
                continue
            history = self._hub.world.histories[frame.market]
            if history.last_id is None or frame.id > history.last_id:
                history.append(frame.fill)
                fresh.append(frame.fill)
        return fresh

    def _send(self, tape: int, frames: list[RecordedFrame]) -> None:
        hub = self._hub
        at_us = now_us()
        hub.stats.trades_made += len(self._remember(frames))
        routed = self.router.route(frames, hub.elapsed_s())
        chunks: dict[str, Chunk] = {}

        def plan(connection: Connection) -> list[tuple[Chunk, set[int]]]:
            # Whatever a socket subscribed of a symbol, it gets the symbol's whole tape.
            wrapping = connection.session.replay_variant()
            if wrapping not in chunks:
                chunks[wrapping] = Chunk(_payloads(wrapping, routed.send, routed.spoiled))
            return [(chunks[wrapping], connection.markets() - connection.muted)]

        covered = hub.deliver(plan, at_us)
        hub.record([each.fill for each in routed.send if each.fill], covered)
        unsent = [*routed.lost, *(each for each, _ in routed.spoiled)]
        removed = [each.fill for each in routed.removed if each.fill]
        for fill in removed:
            hub.world.histories[fill.market].remove(fill.id)
        hub.record([each.fill for each in unsent if each.fill], (), removed)
        self._positions.played[tape] += len(frames)


def _payloads(
    wrapping: str, frames: list[RecordedFrame], spoiled: list[tuple[RecordedFrame, str]]
) -> list[Frame]:
    is_raw = wrapping == "raw"
    plain = [
        (each.market, each.raw if is_raw else each.wrapped, 1 if each.fill else 0)
        for each in frames
    ]
    return plain + [
        (each.market, (each.raw if is_raw else each.wrapped).replace(b'"p":"', b'"p":"-'), 0)
        for each, _ in spoiled
    ]


async def _first_drained(readers: list[Connection]) -> None:
    """Wait until one of the readers has room again; the others are bounded by their buffers."""
    if any(each.socket.transport.get_write_buffer_size() == 0 for each in readers):
        await asyncio.sleep(0)
        return
    waits = [asyncio.ensure_future(each.socket.drain()) for each in readers]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
