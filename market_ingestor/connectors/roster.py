"""Which exchanges run, and with which symbols: the operator's wishes made so. SHELL.

Owns the fleets. A change of mode starts the new fleets first and stops the old ones when the new
are up; a change of symbols touches the fleets of their exchanges only.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from market_ingestor.bus.control import ControlFollower
from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors.fleet import Fleet
from market_ingestor.model.control import ControlState, Mode, mode_of
from market_ingestor.model.control import changes as changes_of

_log = structlog.get_logger(__name__)

FIRST_READ_S: Final = 3.0  # for the bucket at the start; then the configuration counts until later
LOOK_S: Final = 0.1  # between two looks while a change is under way
SWITCH_WAIT_S: Final = 30.0  # for every new feed; then those that are up must do

FleetMaker = Callable[[str, ExchangeSettings], Fleet]


class _Running(msgspec.Struct, frozen=True):
    fleet: Fleet
    task: "asyncio.Task[None]"


class Roster:
    """The fleets of one process.

    Args:
        exchanges: ``[exchanges]``; those enabled may run.
        mode: As configured; counts until the operator said otherwise.
        make_fleet: Makes the fleet of an exchange with its configured symbols.
        follower: What the operator wants; run by the caller.
        on_retired: Is told of each fleet that has ended.

    Attributes:
        applied: The document everything is in line with, None before the first.
        problem: Why the newest document cannot be applied.
        settled: Set when all has come into line or a problem changed; whoever waits clears it.
    """

    def __init__(
        self,
        exchanges: Mapping[str, ExchangeSettings],
        *,
        mode: Mode,
        make_fleet: FleetMaker,
        follower: ControlFollower,
        on_retired: Callable[[Fleet], None],
    ) -> None:
        self._exchanges = {name: each for name, each in exchanges.items() if each.enabled}
        self._configured_mode = mode
        self._make_fleet = make_fleet
        self._follower = follower
        self._on_retired = on_retired
        self._running: dict[str, _Running] = {}
        self._ending: dict[str, _Running] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._wanted: ControlState | None = None
        self._told: ControlState | None = None
        self._is_settled = False
        self._switch_began: float | None = None
        self.applied: ControlState | None = None
        self.problem: str | None = None
        self.settled = asyncio.Event()

    # -- what others ask

    @property
    def fleets(self) -> list[Fleet]:
        """Return the fleets that run, those about to be stopped included."""
        return [each.fleet for each in self._running.values()]

    @property
    def modes(self) -> list[Mode]:
        """Return the modes that exchanges are configured for."""
        return sorted({mode_of(name) for name in self._exchanges})

    @property
    def mode(self) -> Mode:
        """Return the mode that is wanted, and can be had."""
        wanted = self._wanted.mode if self._wanted is not None else None
        return wanted or self._configured_mode

    def exchange(self, name: str) -> ExchangeSettings | None:
        """Return the settings of an enabled exchange."""
        return self._exchanges.get(name)

    def fleet(self, name: str) -> Fleet | None:
        """Return the fleet of an exchange if it runs."""
        running = self._running.get(name)
        return None if running is None else running.fleet

    @property
    def delays(self) -> list[str]:
        """Return what keeps a change that is under way from being made, one clause each."""
        if self._is_settled:
            return []
        fleets = [each.fleet for name, each in self._running.items() if mode_of(name) == self.mode]
        return [problem for each in fleets if not _is_ready(each) for problem in each.problems]

    # -- running

    async def run(self) -> None:
        """Keep everything in line with the operator's wishes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await self._first_word()
            while True:
                self._follower.changed.clear()
                self._take()
                is_settled = self._step(asyncio.get_running_loop().time())
                try:
                    async with asyncio.timeout(None if is_settled else LOOK_S):
                        await self._follower.changed.wait()
                except TimeoutError:
                    continue

    async def _first_word(self) -> None:
        """Wait for the operator's wishes, a moment only."""
        try:
            async with asyncio.timeout(FIRST_READ_S):
                while not self._follower.is_read:
                    self._follower.changed.clear()
                    await self._follower.changed.wait()
        except TimeoutError:
            _log.warning("control_not_read", mode=self._configured_mode)

    def _take(self) -> None:
        """Take the newest document over, unless nothing here could run then."""
        state, before = self._follower.state, self.problem
        self.problem = self._follower.problem
        if state is not None and state != self._wanted:
            self._follow(state)
        if self.problem != before:
            self.settled.set()

    def _follow(self, state: ControlState) -> None:
        mode = state.mode or self._configured_mode
        if mode not in self.modes and self._wanted_names():
            # Stopping what runs for nothing would lose trades.
            self.problem = f"no exchange is configured for mode {mode!r}"
            return
        if mode != self.mode:
            _log.info("mode_changed", mode=mode, revision=state.revision)
        self._wanted = state

    def _wanted_names(self) -> set[str]:
        return {name for name in self._exchanges if mode_of(name) == self.mode}

    def _step(self, now: float) -> bool:
        """Do what can be done now; return whether nothing is left to do."""
        names = self._wanted_names()
        for name in [name for name, each in self._ending.items() if each.task.done()]:
            self._on_retired(self._ending.pop(name).fleet)
        for name in names - self._running.keys() - self._ending.keys():
            self._start(name)
        if self._told is not self._wanted:
            self._told = self._wanted
            for name, running in self._running.items():
                running.fleet.want(*changes_of(self._wanted, name))
        leaving = self._running.keys() - names
        if leaving and self._may_leave(names, now):
            for name in leaving:
                self._end(name)
            leaving = set()
        if not leaving:
            self._switch_began = None
        is_whole = not leaving and not self._ending and names == self._running.keys()
        if not (is_whole and all(each.fleet.is_settled for each in self._running.values())):
            self._is_settled = False
            return False
        if self.applied is not self._wanted or not self._is_settled:
            self.applied = self._wanted
            self._is_settled = True
            self.settled.set()
        return True

    def _may_leave(self, names: set[str], now: float) -> bool:
        """Return whether the feeds of the mode before may stop: the new ones are up."""
        if self._switch_began is None:
            self._switch_began = now
        fleets = [self._running[name].fleet for name in names if name in self._running]
        if all(map(_is_ready, fleets)):
            return len(fleets) == len(names)
        return now - self._switch_began > SWITCH_WAIT_S and any(fleet.is_up for fleet in fleets)

    def _start(self, name: str) -> None:
        assert self._tasks is not None  # noqa: S101 - only called from `run`
        fleet = self._make_fleet(name, self._exchanges[name])
        fleet.want(*changes_of(self._wanted, name))
        self._running[name] = _Running(fleet, self._tasks.create_task(fleet.run(), name=name))

    def _end(self, name: str) -> None:
        running = self._running.pop(name)
        running.task.cancel()
        self._ending[name] = running
        _log.info("exchange_stopped", exchange=name)


def _is_ready(fleet: Fleet) -> bool:
    return fleet.is_settled and (fleet.is_up or fleet.is_idle)
