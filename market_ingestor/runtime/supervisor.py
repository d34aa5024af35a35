"""Runs the roles of one process and ends them in flow order. SHELL.

Owns signals, the stop sequence and its deadlines. A role that ends by itself is a fault: the
process then drains the others and fails, and systemd or Kubernetes starts it with a clean state.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import structlog

from market_ingestor.errors import ConfigError
from market_ingestor.runtime.health import HealthReport
from market_ingestor.runtime.role import Role
from market_ingestor.runtime.systemd import notify, ready, reloading

_log = structlog.get_logger(__name__)

_ResultT = TypeVar("_ResultT")

FLOW: Final = ("ingest", "klines", "save", "gateway", "api")  # upstream first
_SHARE: Final = 0.5  # of the time left, for each role but the last


class Supervisor:
    """Starts roles, waits for a signal or a fault, and drains.

    Args:
        grace_s: Time from the first stop to the last cancellation.
        report: Where readiness is withdrawn before anything stops.
        check: Raises `ConfigError` when the configuration as it is now cannot be run with; None
            when this process cannot begin anew.

    Attributes:
        will_reload: SIGHUP was received: after the drain the process is to begin anew.
    """

    def __init__(
        self, *, grace_s: float, report: HealthReport, check: Callable[[], object] | None = None
    ) -> None:
        self._roles: list[Role] = []
        self._grace_s = grace_s
        self._report = report
        self._check = check
        self._stop = asyncio.Event()
        self.will_reload = False

    def request_stop(self) -> None:
        """End the process; callable any number of times."""
        self._stop.set()

    def request_reload(self) -> None:
        """Drain, then begin anew with the configuration as it is now; if it is wrong, go on."""
        if self._check is None or self._stop.is_set():
            return
        try:
            self._check()
        except ConfigError as problem:
            _log.error("reload_refused", error=str(problem))
            return
        self.will_reload = True
        self.request_stop()

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT request a stop; SIGHUP a reload, or a stop where none can be."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        hang_up = self.request_stop if self._check is None else self.request_reload
        loop.add_signal_handler(signal.SIGHUP, hang_up)

    async def unless_stopped(self, work: Coroutine[Any, Any, _ResultT]) -> _ResultT | None:
        """Return what ``work`` returns, or None when a stop was requested first."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            return None
        finally:
            for each in (task, stop):
                each.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def run(
        self, roles: Sequence[Role], *, chores: Sequence[Coroutine[Any, Any, None]] = ()
    ) -> None:
        """Run until `request_stop` or until a role ends, then drain.

        Args:
            roles: In any order; they are stopped in flow order.
            chores: Work beside the roles that ends by itself; one that fails ends the process
                as a failing role does.

        Raises:
            Exception: What ended the first role that failed.
        """
        self._roles = sorted(roles, key=lambda role: FLOW.index(role.name))
        # Not a TaskGroup: there one failing role would cancel the others, who must drain instead.
        tasks = {role.name: asyncio.create_task(role.run(), name=role.name) for role in self._roles}
        side = [asyncio.create_task(each, name="chore") for each in chores]
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        self._report.roles = self._roles
        self._report.is_started = True
        notify(ready())
        _log.info("process_started", roles=[role.name for role in self._roles])
        try:
            await self._first_end({stop, *tasks.values()}, set(side))
            await self._drain(tasks)
        finally:
            for task in (stop, *side, *tasks.values()):
                task.cancel()
            await asyncio.gather(stop, *side, *tasks.values(), return_exceptions=True)
        self._raise_first(tasks)
        for task in side:
            if not task.cancelled() and (problem := task.exception()) is not None:
                raise problem

    @staticmethod
    async def _first_end(
        lasting: set["asyncio.Task[Any]"], chores: set["asyncio.Task[Any]"]
    ) -> None:
        """Return when a lasting task ends or a chore fails."""
        while True:
            done, _ = await asyncio.wait(lasting | chores, return_when=asyncio.FIRST_COMPLETED)
            if done & lasting or any(task.exception() for task in done):
                return
            chores -= done

    async def _drain(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        self._report.is_stopping = True
        notify(reloading() if self.will_reload else "STOPPING=1")
        _log.info("process_stopping", grace_s=self._grace_s, will_reload=self.will_reload)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace_s
        for role in self._roles:
            role.stop()
            left = max(deadline - loop.time(), 0)
            share = left if role is self._roles[-1] else left * _SHARE
            _, pending = await asyncio.wait({tasks[role.name]}, timeout=share)
            if pending:
                _log.warning("role_stop_overdue", role=role.name, waited_s=round(share, 1))
        unfinished = {task for task in tasks.values() if not task.done()}
        if unfinished:
            await asyncio.wait(unfinished, timeout=max(deadline - loop.time(), 0))
        _log.info("process_stopped", clean=all(task.done() for task in tasks.values()))

    @staticmethod
    def _raise_first(tasks: dict[str, asyncio.Task[None]]) -> None:
        for name, task in tasks.items():
            if task.cancelled():
                raise TimeoutError(f"{name} did not stop within the grace")
            problem = task.exception()
            if problem is not None:
                raise problem
