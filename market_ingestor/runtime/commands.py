"""What the short-lived commands do: migrate, config, verify, simulate. SHELL."""

import asyncio
import re
import signal
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Final

import click
import msgspec
from pydantic import SecretStr

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.config import Loaded, Settings
from market_ingestor.errors import ConfigError, StoreUnavailableError, StreamSetupError
from market_ingestor.runtime.bar import progress_bar
from market_ingestor.runtime.bus_setup import check_server, login, make_streams
from market_ingestor.simulator import SimulateOptions, Simulation
from market_ingestor.storage.account import account
from market_ingestor.storage.migrate import migrate
from market_ingestor.storage.progress import Progress
from market_ingestor.storage.times import at_ms
from market_ingestor.storage.timescale import Database
from market_ingestor.storage.verify import SETTLE_S, VerifyReport, instruments, verify
from market_ingestor.suggestions import did_you_mean

REACH_TIMEOUT_S: Final = 5.0
EXIT_FAILED: Final = 1


class VerifyScope(msgspec.Struct, frozen=True, kw_only=True):
    """Which candles to verify; None means all."""

    exchange: str | None
    symbol: str | None
    from_time: datetime | None
    to_time: datetime | None


async def migrate_database(settings: Settings) -> None:
    """Apply missing migrations and name them."""
    async with AsyncExitStack() as stack:
        await _database_or_fail(settings, stack)  # said at once, before migrate's long patience
    applied = await migrate(settings.database.dsn.get_secret_value())
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to apply")


async def make_bus_streams(settings: Settings) -> None:
    """Create or update streams and buckets, and name them with what they may hold."""
    async with AsyncExitStack() as stack:
        bus = await connected_bus(settings, stack)
        check_server(bus)
        try:
            await make_streams(bus, settings.nats)
            for name in subjects.STREAMS:
                state = await bus.stream_state(name)
                click.echo(f"{name}: {state.messages} messages, at most {state.bytes_max} bytes")
        except TROUBLE as problem:
            reason = str(problem) or "no answer"
            raise StreamSetupError(f"streams cannot be made: {reason}") from problem


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return _without_password(value) if isinstance(value, str) else value


def _without_password(address: str) -> str:
    return re.sub(r"//[^@/]*@", "//***@", address)


def print_config(loaded: Loaded) -> None:
    """Print every setting as ``section.key = value  # source``, secrets hidden."""

    def show(tree: dict[str, Any], above: str) -> None:
        for key, value in tree.items():
            name = f"{above}.{key}" if above else key
            if isinstance(value, dict):
                show(value, name)
            else:
                text = msgspec.json.encode(value).decode()
                click.echo(f"{name} = {text}  # {loaded.sources.get(name, 'default')}")

    tree = _plain(loaded.settings.model_dump())
    show(tree, "")


async def _database_or_fail(settings: Settings, stack: AsyncExitStack) -> Database:
    try:
        return await connected_database(settings, stack)
    except StoreUnavailableError as problem:
        raise StoreUnavailableError(f"the database does not answer: {problem}") from problem


async def _known_scope(database: Database, scope: VerifyScope) -> None:
    """Raise `ConfigError` when nothing of the kind is stored, naming what was perhaps meant."""
    stored = await instruments(database)
    if not stored:
        return
    exchanges = {exchange for exchange, _ in stored}
    if scope.exchange is not None and scope.exchange not in exchanges:
        meant = did_you_mean(scope.exchange, exchanges)
        raise ConfigError("--exchange", f"nothing of {scope.exchange!r} is stored{meant}")
    symbols = {symbol for exchange, symbol in stored if scope.exchange in {None, exchange}}
    if scope.symbol is not None and scope.symbol not in symbols:
        meant = did_you_mean(scope.symbol, symbols)
        raise ConfigError("--symbol", f"nothing of {scope.symbol!r} is stored{meant}")


async def verify_candles(settings: Settings, scope: VerifyScope, *, as_json: bool = False) -> int:
    """Recompute candles and print those that differ; returns 1 when there are any.

    Raises:
        ConfigError: Nothing of that exchange or symbol is stored.
    """
    async with AsyncExitStack() as stack:
        database = await _database_or_fail(settings, stack)
        await _known_scope(database, scope)
        step = stack.enter_context(progress_bar("recomputing candles"))
        report = await verify(
            database,
            exchange=scope.exchange,
            symbol=scope.symbol,
            from_time=scope.from_time,
            to_time=scope.to_time,
            periods=settings.klines.periods,
            lateness_s=settings.klines.lateness_s,
            trade_retention_s=settings.save.trade_retention,
            progress=Progress(await connected_bus(settings, stack)),
            on_step=step,
        )
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return EXIT_FAILED if report.differences else 0
    for difference in report.differences:
        click.echo(str(difference))
    for line in _unclosed_lines(report):
        click.echo(line)
    click.echo(f"{report.compared} candles compared, {len(report.differences)} differ")
    if not report.compared:
        settled_s = settings.klines.lateness_s + SETTLE_S
        click.echo(f"nothing is shown by that: only windows that ended {settled_s:g} s ago count")
    return EXIT_FAILED if report.differences else 0


def _unclosed_lines(report: VerifyReport) -> list[str]:
    """Return a line for each instrument that klines is behind with."""
    windows: dict[tuple[str, str], list[int]] = {}
    for each in report.unclosed:
        windows.setdefault((each.exchange, each.symbol), []).append(each.open_time)
    return [
        f"{exchange} {symbol}: {len(opened)} windows from {at_ms(min(opened)):%FT%TZ} on are not"
        " closed yet: klines does not run, or has not read so far"
        for (exchange, symbol), opened in windows.items()
    ]


async def verify_account(settings: Settings, *, as_json: bool = False) -> int:
    """Balance MARKET_RAW against rows, conflicts and dead letters; returns 1 when it does not."""
    async with AsyncExitStack() as stack:
        bus = await connected_bus(settings, stack)
        report = await account(bus, await _database_or_fail(settings, stack))
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return 0 if report.is_balanced else EXIT_FAILED
    for name in report.examples:
        click.echo(f"missing: {' '.join(name)}")
    stored = report.trades - report.dead - report.missing
    click.echo(
        f"{report.trades} trades in MARKET_RAW from sequence {report.first_sequence} to"
        f" {report.last_sequence} (marks are in between), where the savers are: {stored} in the"
        f" tables, {report.dead} among the dead letters, {report.missing} missing"
    )
    return 0 if report.is_balanced else EXIT_FAILED


async def connected_database(settings: Settings, stack: AsyncExitStack) -> Database:
    """Return the database, which answers; raises StoreUnavailableError when it does not."""
    dsn = settings.database.dsn.get_secret_value()
    database = await stack.enter_async_context(Database(dsn, statement_timeout_s=None))
    await database.connect(REACH_TIMEOUT_S)
    return database


async def connected_bus(settings: Settings, stack: AsyncExitStack) -> Bus:
    """Return a connection to NATS; raises BusError when there is none."""
    nats = settings.nats
    bus = await Bus.connect(
        nats.servers,
        name="command",
        login=login(nats),
        timeout_s=REACH_TIMEOUT_S,
    )
    stack.push_async_callback(bus.close)
    return bus


async def simulate_venues(options: SimulateOptions) -> None:
    """Run simulated venues until SIGINT or SIGTERM and print where they are."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Simulation(options) as simulation:
        for name, venue in simulation.venues.items():
            click.echo(f"{name} {venue.ws_url} {venue.rest_url}")
        await stop.wait()
