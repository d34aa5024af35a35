"""Several simulated venues at once, as the command line and the demo start them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from market_ingestor.errors import ConfigError
from market_ingestor.simulator.faults import Fault, parse
from market_ingestor.simulator.markets import ALL_VENUES, VENUES
from market_ingestor.simulator.server import DEFAULT_RATE, SimulatedVenue
from market_ingestor.simulator.truth import TruthLog


class SimulateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``simulate`` and ``demo`` can ask for.

    Attributes:
        venues: Which ones, in the order of their ports.
        port: Of the first venue, the others follow; 0 for free ones.
        symbols: Pairs every venue lists; None for each venue's usual ones.
        rate: Trades per second and venue.
        frames: Recordings to play, by venue; their venues make nothing up.
        speed: Speed of recordings, 0 for as fast as sockets accept.
        faults: Fault file, TOML or JSON lines.
        record: File that the ground truth is appended to.
        state: Folder in which every venue remembers ids, history and positions.
    """

    venues: tuple[str, ...] = VENUES
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    rate: float = DEFAULT_RATE
    symbols: tuple[str, ...] | None = None
    frames: dict[str, Path] = {}
    speed: float = 0.0
    faults: Path | None = None
    record: Path | None = None
    state: Path | None = None
    has_limits: bool = True


class Simulation:
    """Venues that start and stop together.

    Attributes:
        venues: The running ones, by name.
    """

    def __init__(self, options: SimulateOptions) -> None:
        """Prepare; nothing is opened or read before it is entered."""
        self._options = options
        self._stack = AsyncExitStack()
        self.venues: dict[str, SimulatedVenue] = {}

    async def __aenter__(self) -> Self:
        """Start every venue.

        Raises:
            ConfigError: An option is wrong, a file cannot be read, a folder or port is in use.
        """
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _start(self, stack: AsyncExitStack) -> None:
        options = self._options
        for name in {*options.venues, *options.frames}:
            if name not in ALL_VENUES:
                raise ConfigError("venue", f"{name} is not simulated: {', '.join(ALL_VENUES)} are")
        truth = None if options.record is None else stack.enter_context(TruthLog(options.record))
        faults = [] if options.faults is None else _faults(options.faults)
        for offset, name in enumerate(options.venues):
            port = options.port + offset if options.port else 0
            try:
                venue = SimulatedVenue(
                    name,
                    options.symbols if name not in options.frames else None,
                    seed=options.seed,
                    rate=options.rate,
                    state=options.state,
                    frames=options.frames.get(name),
                    speed=options.speed,
                    faults=faults,
                    truth=truth,
                    has_limits=options.has_limits,
                    host=options.host,
                    port=port,
                )
            except ValueError as error:
                raise ConfigError("symbols", str(error)) from error
            try:
                self.venues[name] = await stack.enter_async_context(venue)
            except OSError as error:
                raise ConfigError("port", f"{port} for {name}: {error}") from error


async def simulate(
    options: SimulateOptions, on_started: Callable[[Simulation], None] | None = None
) -> None:
    """Run simulated venues until cancelled; ``on_started`` is told once all of them listen.

    Raises:
        ConfigError: See `Simulation`.
    """
    async with Simulation(options) as simulation:
        if on_started is not None:
            on_started(simulation)
        await asyncio.Event().wait()


def _faults(path: Path) -> list[Fault]:
    try:
        faults = parse(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError("faults", f"{path}: {error}") from error
    for fault in faults:
        if fault.venue is not None and fault.venue not in ALL_VENUES:
            raise ConfigError("faults", f"{path}: {fault.venue} is not simulated")
    return faults
