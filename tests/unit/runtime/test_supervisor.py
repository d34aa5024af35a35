"""A process starts its roles, ends them in flow order, and never hangs on one."""

import asyncio

import pytest

from market_ingestor.errors import StorageError
from market_ingestor.runtime.health import HealthReport
from market_ingestor.runtime.role import Health
from market_ingestor.runtime.supervisor import Supervisor

pytestmark = pytest.mark.anyio


class ScriptedRole:
    """A role that notes when it stops, and may fail or refuse to stop."""

    def __init__(
        self,
        name: str,
        log: list[str],
        *,
        error: Exception | None = None,
        report: HealthReport | None = None,
        is_deaf: bool = False,
    ) -> None:
        self.name = name
        self._log = log
        self._error = error
        self._report = report
        self._is_deaf = is_deaf
        self._stop = asyncio.Event()

    async def run(self) -> None:
        if self._error is not None:
            raise self._error
        await self._stop.wait()
        if self._is_deaf:
            await asyncio.Event().wait()
        self._log.append(self.name)

    def stop(self) -> None:
        if self._report is not None:
            assert self._report.is_stopping
        self._stop.set()

    def health(self) -> Health:
        return Health(is_ready=not self._stop.is_set())


async def test_roles_stop_in_flow_order_whatever_order_they_were_given() -> None:
    log: list[str] = []
    report = HealthReport()
    supervisor = Supervisor(grace_s=5, report=report)
    roles = [ScriptedRole(name, log, report=report) for name in ("api", "save", "ingest", "klines")]
    asyncio.get_running_loop().call_later(0.05, supervisor.request_stop)
    await supervisor.run(roles)
    assert log == ["ingest", "klines", "save", "api"]


async def test_readiness_ends_before_anything_stops() -> None:
    report = HealthReport()
    supervisor = Supervisor(grace_s=5, report=report)
    supervisor.request_stop()
    await supervisor.run([ScriptedRole("save", [], report=report)])
    assert not report.is_ready
    assert report.as_dict()["status"] == "stopping"


async def test_a_failing_role_drains_the_others_and_fails_the_process() -> None:
    log: list[str] = []
    supervisor = Supervisor(grace_s=5, report=HealthReport())
    roles = [ScriptedRole("klines", log, error=ZeroDivisionError()), ScriptedRole("save", log)]
    with pytest.raises(ZeroDivisionError):
        await supervisor.run(roles)
    assert log == ["save"]


async def test_a_role_that_does_not_stop_is_ended_after_the_grace() -> None:
    log: list[str] = []
    supervisor = Supervisor(grace_s=0.3, report=HealthReport())
    supervisor.request_stop()
    roles = [ScriptedRole("ingest", log, is_deaf=True), ScriptedRole("save", log)]
    with pytest.raises(TimeoutError, match="ingest"):
        await supervisor.run(roles)
    assert log == ["save"]


async def test_a_stop_during_preparation_ends_it() -> None:
    ended: list[str] = []

    async def prepare() -> bool:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.append("prepare")

    supervisor = Supervisor(grace_s=1, report=HealthReport())
    asyncio.get_running_loop().call_later(0.05, supervisor.request_stop)
    assert await supervisor.unless_stopped(prepare()) is None
    assert ended == ["prepare"]


async def test_a_chore_may_end_and_the_roles_go_on() -> None:
    log: list[str] = []
    done = asyncio.Event()
    supervisor = Supervisor(grace_s=5, report=HealthReport())

    async def chore() -> None:
        done.set()

    async def stop_later() -> None:
        await done.wait()
        supervisor.request_stop()

    stopping = asyncio.create_task(stop_later())
    await supervisor.run([ScriptedRole("save", log)], chores=[chore()])
    await stopping
    assert log == ["save"]


async def test_a_failing_chore_drains_the_roles_and_fails_the_process() -> None:
    log: list[str] = []
    supervisor = Supervisor(grace_s=5, report=HealthReport())

    async def chore() -> None:
        raise StorageError("an applied file was changed")

    with pytest.raises(StorageError):
        await supervisor.run([ScriptedRole("save", log)], chores=[chore()])
    assert log == ["save"]
