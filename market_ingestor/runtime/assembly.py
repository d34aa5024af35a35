"""Puts a process together: connections, roles, health, supervisor. SHELL.

Order: settings are valid and code is loaded before anything is opened; health answers before
anything is connected; streams exist before a role starts, and so does the schema if the database
is there.
"""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog

from market_ingestor.config import Settings
from market_ingestor.runtime.bus_setup import prepare_bus
from market_ingestor.runtime.health import HealthReport, health_app
from market_ingestor.runtime.heartbeat import beating
from market_ingestor.runtime.parts import PORTS, SHARED_PORT, Links, Parts
from market_ingestor.runtime.role import Role
from market_ingestor.runtime.schema import Schema
from market_ingestor.runtime.shard import Shard
from market_ingestor.runtime.supervisor import Supervisor
from market_ingestor.runtime.web import WebServer, listen

_log = structlog.get_logger(__name__)

SCHEMA_S_MAX: Final = 10.0  # for the schema; roles then start beside it


def builder(name: str) -> Callable[[Parts], Awaitable[Role]]:
    """Return what makes the role called ``name``.

    Only here is its code loaded: a process of one role starts with a quarter less work than one
    that loads every role.
    """
    module = importlib.import_module(f"market_ingestor.runtime.builders.{name}")
    build: Callable[[Parts], Awaitable[Role]] = module.build
    return build


@contextlib.asynccontextmanager
async def serving_health(settings: Settings, names: Sequence[str]) -> AsyncIterator[HealthReport]:
    """Serve health and metrics on the process's own port for the length of the block."""
    port = settings.metrics.port
    if port is None:
        port = PORTS[names[0]] if len(names) == 1 else SHARED_PORT
    report = HealthReport(names=names)
    server = WebServer(health_app(report), listen("metrics.port", settings.metrics.host, port))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(), name="health")
        try:
            yield report
        finally:
            server.stop()


async def run_roles(
    settings: Settings,
    names: Sequence[str],
    *,
    shard: Shard,
    links: Links | None = None,
    supervise: "asyncio.Future[Supervisor] | None" = None,
    recheck: Callable[[], object] | None = None,
) -> bool:
    """Run roles in this process until a signal ends it.

    Args:
        names: Roles, each once.
        links: NATS addresses per role; None takes the configured ones for all.
        supervise: Is given the supervisor when the roles are about to start, for callers that
            end them by another way than a signal.
        recheck: Reads the configuration anew and raises `ConfigError` when it is wrong; None when
            this process does not begin anew on SIGHUP.

    Returns:
        Whether SIGHUP ended it: the caller is to begin anew.

    Raises:
        ConfigError: An address cannot be listened on.
        StorageError: The schema could not be applied.
        Exception: What ended the first role that failed.
    """
    links = links or Links.same(settings.nats.servers)
    builders = [builder(name) for name in dict.fromkeys(names)]
    async with beating(), serving_health(settings, names) as report, AsyncExitStack() as stack:
        supervisor = Supervisor(grace_s=settings.run.shutdown_grace_s, report=report, check=recheck)
        supervisor.handle_signals()
        parts = Parts(settings, links, shard, stack, report)
        schema = None
        if settings.database.migrate_on_start and "save" in names:
            schema = stack.enter_context(Schema(settings.database.dsn.get_secret_value()))
        roles = await supervisor.unless_stopped(_prepare(builders, parts, links, schema))
        if roles is None:
            return supervisor.will_reload
        if supervise is not None:
            supervise.set_result(supervisor)
        chores = [bus.until_ended() for bus in parts.buses]
        if schema is not None:
            chores.append(schema.applied())
        await supervisor.run(roles, chores=chores)
    return supervisor.will_reload


async def _prepare(
    builders: Sequence[Callable[[Parts], Awaitable[Role]]],
    parts: Parts,
    links: Links,
    schema: Schema | None,
) -> list[Role]:
    await prepare_bus(links.setup, parts.settings.nats)
    if schema is not None:
        await schema.tried(SCHEMA_S_MAX)
    return [await build(parts) for build in builders]
