"""Puts a process together: connections, roles, health, supervisor. SHELL.

The one place that knows every part. Order: settings are valid before anything is opened; health
answers before anything is connected; streams exist before a role starts.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import structlog
from pydantic import SecretStr

from market_ingestor.access import AccessPolicy
from market_ingestor.api.app import ApiOptions
from market_ingestor.api.control import Control
from market_ingestor.api.lanes import CONNECTIONS as API_CONNECTIONS
from market_ingestor.api.role import ApiRole
from market_ingestor.bus.control import ControlBoard, ControlFollower
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import GatewaySettings, Listener, Settings
from market_ingestor.connectors import registry
from market_ingestor.connectors.history import KnownIds, KnownTrade
from market_ingestor.connectors.ingest import IngestRole
from market_ingestor.errors import ConfigError, StoreUnavailableError
from market_ingestor.klines.processor import KlineProcessor
from market_ingestor.model.control import mode_of
from market_ingestor.push.gateway import Gateway, GatewayOptions
from market_ingestor.runtime.bus_setup import connect_patiently, prepare_bus
from market_ingestor.runtime.health import HealthReport, health_app, health_routes
from market_ingestor.runtime.heartbeat import beating
from market_ingestor.runtime.role import Role
from market_ingestor.runtime.shard import Shard
from market_ingestor.runtime.supervisor import Supervisor
from market_ingestor.runtime.web import WebServer, listen
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.candle_store import DatabaseCandleStore
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.read_store import DatabaseReadStore, kline_history
from market_ingestor.storage.saver import CONNECTIONS as SAVE_CONNECTIONS
from market_ingestor.storage.saver import BatchSaver
from market_ingestor.storage.timescale import Database

_log = structlog.get_logger(__name__)

INGEST_GRACE_SHARE: Final = 0.45  # within its half of the time the supervisor has
STATEMENT_GRACE_S: Final = 1.0  # a request is given up, and its statement cancelled, before that
DATABASE_WAIT_S: Final = 5.0
PORTS: Final = {"ingest": 9701, "klines": 9702, "save": 9703, "gateway": 9704, "api": 9705}
SHARED_PORT: Final = 9700


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of NATS: for setting streams up, and for each role under its own user."""

    setup: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]]

    @classmethod
    def same(cls, servers: Sequence[str]) -> "Links":
        """Return links by which every role uses the same addresses."""
        return cls(setup=tuple(servers), roles=dict.fromkeys(PORTS, tuple(servers)))


async def migrate_patiently(dsn: str) -> None:
    """Apply the schema as soon as the database answers, however long that takes.

    Runs beside the roles: trades and candles must not wait for the database. Until it is done
    savers hold what they have, as for any other trouble of the database.

    Raises:
        StorageError: A migration failed, or an applied file was changed.
    """
    is_logged = False
    while True:
        try:
            await migrate(dsn, connect_wait_s=DATABASE_WAIT_S)
        except StoreUnavailableError as problem:
            if not is_logged:
                _log.warning("database_awaited", error=str(problem))
                is_logged = True
        else:
            return


def known_ids(database: Database) -> KnownIds:
    """Return how ingest learns what was saved, where the stream holds nothing any more."""
    store = DatabaseReadStore(database)

    async def newest(exchange: str, symbol: str) -> KnownTrade | None:
        trade = await store.latest_trade(exchange, symbol)
        return None if trade is None else KnownTrade(id=int(trade.id), time_us=trade.time_us)

    return newest


def require_known_venues(settings: Settings) -> None:
    """Raise ConfigError for an enabled exchange that no venue speaks for."""
    for name, exchange in settings.exchanges.items():
        if exchange.enabled and exchange.kind == "venue" and registry.venue_for(name) is None:
            known = ", ".join(sorted(registry.VENUES))
            raise ConfigError(f"exchanges.{name}", f"is none of {known}, and kind is not 'tcp'")


class Builder:
    """Makes roles with ready dependencies, and closes those dependencies with ``stack``."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        shard: Shard,
        stack: AsyncExitStack,
        report: HealthReport,
    ) -> None:
        self._report = report
        self._settings = settings
        self._links = links
        self._shard = shard
        self._stack = stack
        self.buses: list[Bus] = []

    async def build(self, name: str) -> Role:
        """Return the role called ``name``, connected and not started."""
        settings = self._settings
        bus = await connect_patiently(self._links.roles[name], name, settings.nats)
        self._stack.push_async_callback(bus.close)
        self._report.leans_on("nats", lambda: bus.is_up)
        self.buses.append(bus)
        match name:
            case "ingest":
                require_known_venues(settings)
                return IngestRole(
                    bus,
                    settings.exchanges,
                    settings.ingest,
                    shard=self._shard,
                    known_ids=known_ids(await self._database(name, connections=1)),
                    grace_s=settings.run.shutdown_grace_s * INGEST_GRACE_SHARE,
                    board=self._board(bus),
                )
            case "klines":
                store = DatabaseCandleStore(await self._database(name))
                return KlineProcessor(bus, store, settings.klines, owns=self._shard.owns)
            case "save":
                return await self._saver(bus)
            case "gateway":
                history = kline_history(await self._database(name))
                return Gateway(
                    bus,
                    gateway_options(settings.gateway),
                    history=history,
                    is_test_mode=self._is_test_mode(bus),
                )
            case "api":
                database = await self._database(
                    name,
                    connections=API_CONNECTIONS,
                    statement_timeout_s=settings.api.request_timeout_s + STATEMENT_GRACE_S,
                )
                return ApiRole(
                    bus,
                    DatabaseReadStore(database),
                    api_options(settings),
                    control=self._control(bus),
                    is_store_up=lambda: database.is_up,
                    more_routes=health_routes(self._report),
                )
            case _:
                raise ValueError(f"no role {name!r}")

    def _board(self, bus: Bus) -> ControlBoard:
        nats = self._settings.nats
        return ControlBoard(bus, replicas=nats.replicas, may_create=nats.manage_streams != "never")

    def _control(self, bus: Bus) -> Control:
        exchanges = self._settings.exchanges.items()
        return Control(
            bus,
            self._board(bus),
            mode=self._settings.ingest.mode,
            modes={mode_of(name) for name, each in exchanges if each.enabled},
        )

    def _is_test_mode(self, bus: Bus) -> Callable[[], bool]:
        """Return how a role that changes nothing learns whether it is test mode."""
        follower = ControlFollower(self._board(bus), puts_back=False)
        following = asyncio.create_task(follower.run(), name="control")
        self._stack.callback(following.cancel)
        configured = self._settings.ingest.mode
        return lambda: follower.mode(configured) == "test"

    async def _saver(self, bus: Bus) -> BatchSaver:
        save = self._settings.save
        database = await self._database("save", connections=SAVE_CONNECTIONS, stages=True)
        limits = SaveLimits(
            batch_size=save.batch_size,
            batch_size_max=save.batch_size_max,
            flush_interval_s=save.flush_interval_s,
        )
        return BatchSaver(
            bus,
            database,
            limits=limits,
            trade_retention_s=save.trade_retention,
            kline_retention_s=save.kline_retention,
        )

    async def _database(
        self,
        name: str,
        *,
        connections: int | None = None,
        stages: bool = False,
        statement_timeout_s: float | None = None,
    ) -> Database:
        settings = self._settings.database
        database = Database(
            settings.dsn.get_secret_value(),
            name=f"market-ingestor {name}",
            connections_max=settings.connections if connections is None else connections,
            stages=stages,
            statement_timeout_s=statement_timeout_s or settings.statement_timeout_s,
        )
        await self._stack.enter_async_context(database)
        if not stages:  # the saver watches its own
            watching = asyncio.create_task(database.watch(), name=f"database of {name}")
            self._stack.callback(watching.cancel)
        self._report.leans_on("database", lambda: database.is_up)
        return database


def _access(
    listener: Listener,
    *,
    control_tokens: tuple[SecretStr, ...] = (),
    trusted_proxies: tuple[str, ...] = (),
) -> AccessPolicy:
    return AccessPolicy(
        tokens=tuple(token.get_secret_value() for token in listener.tokens),
        control_tokens=tuple(token.get_secret_value() for token in control_tokens),
        origins=listener.origins,
        trusted_proxies=trusted_proxies,
    )


def api_options(settings: Settings) -> ApiOptions:
    """Return the API's options as configured."""
    api, gateway = settings.api, settings.gateway
    return ApiOptions(
        host=api.host,
        port=api.port,
        request_timeout_s=api.request_timeout_s,
        rate_limit_rps=api.rate_limit_rps,
        access=_access(api, control_tokens=api.control_tokens),
        addresses={
            "push": f"ws://{gateway.host}:{gateway.port}/ws",
            "tcp": f"{gateway.host}:{gateway.tcp_port}",
        },
    )


def gateway_options(gateway: GatewaySettings) -> GatewayOptions:
    """Return the push gateway's options as configured."""
    return GatewayOptions(
        host=gateway.host,
        port=gateway.port,
        tcp_port=gateway.tcp_port,
        send_buffer=gateway.send_buffer,
        send_buffer_bytes=gateway.send_buffer_bytes,
        ring_bytes=gateway.ring_bytes,
        max_clients=gateway.max_clients,
        max_clients_per_address=gateway.max_clients_per_address,
        limit_loopback=gateway.limit_loopback,
        access=_access(gateway, trusted_proxies=gateway.trusted_proxies),
    )


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
    async with beating(), serving_health(settings, names) as report, AsyncExitStack() as stack:
        supervisor = Supervisor(grace_s=settings.run.shutdown_grace_s, report=report, check=recheck)
        supervisor.handle_signals()
        prepared = await supervisor.unless_stopped(
            _prepare(settings, names, shard, links, stack, report)
        )
        if prepared is None:
            return supervisor.will_reload
        roles, buses = prepared
        if supervise is not None:
            supervise.set_result(supervisor)
        chores = [bus.until_ended() for bus in buses]
        if settings.database.migrate_on_start and "save" in names:
            chores.append(migrate_patiently(settings.database.dsn.get_secret_value()))
        await supervisor.run(roles, chores=chores)
    return supervisor.will_reload


async def _prepare(
    settings: Settings,
    names: Sequence[str],
    shard: Shard,
    links: Links,
    stack: AsyncExitStack,
    report: HealthReport,
) -> tuple[list[Role], list[Bus]]:
    await prepare_bus(links.setup, settings.nats)
    builder = Builder(settings, links, shard, stack, report)
    return [await builder.build(name) for name in dict.fromkeys(names)], builder.buses
