"""The command line (contract, section 3): parse, set up the process, call one function.

Exit status 0 is fine, 2 is bad usage or configuration (the key is named), 1 is a failure. What a
command needs is loaded when it runs: loading everything is most of the time a role takes to start.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import uvloop

from market_ingestor import __version__, logs
from market_ingestor.config import Loaded, load
from market_ingestor.errors import ConfigError, MarketIngestorError
from market_ingestor.model import decimals
from market_ingestor.model.exchange import SIMULATED, SIMULATED_BY_DEFAULT, SIMULATED_PREFIX
from market_ingestor.runtime.shard import Shard
from market_ingestor.runtime.supervisor import FLOW

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
DUMB: Final = frozenset({None, "", "dumb", "unknown"})  # terminals that cannot place a cursor
RELOAD: Final = -1  # no exit status: the command line is to run once more

_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file; default /etc/market-ingestor/config.toml, then built-in values.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
_mode_option = click.option(
    "--mode", type=click.Choice(["live", "test"]), help="Overrides [ingest] mode."
)


def _fail(problem: Exception, status: int) -> NoReturn:
    click.echo(f"market-ingestor: {problem}", err=True)
    sys.exit(status)


def _execute(
    work: Callable[[], Coroutine[Any, Any, int | None]], *, log_level: int = logging.INFO
) -> NoReturn:
    """Run a coroutine on uvloop and leave with the exit status its outcome means."""
    decimals.install()  # before any thread starts
    logs.configure(level=log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(work())
    except (MarketIngestorError, BaseExceptionGroup) as problem:
        expected = sorted(_expected(problem), key=lambda each: not isinstance(each, ConfigError))
        if not expected:
            raise
        _fail(expected[0], EXIT_USAGE if isinstance(expected[0], ConfigError) else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_FAILED)
    if status == RELOAD:
        # The same process goes on, so a manager that knows it by its id sees no end.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line, no shell
    sys.exit(status or 0)


def _expected(problem: BaseException) -> list[MarketIngestorError]:
    """Return our own errors in a group of any depth; none if anything else is in it."""
    if isinstance(problem, MarketIngestorError):
        return [problem]
    if not isinstance(problem, BaseExceptionGroup):
        return []
    inner = [_expected(each) for each in problem.exceptions]
    return [error for errors in inner for error in errors] if all(inner) else []


def _load(config_file: Path | None, **overrides: Any) -> Loaded:
    given = {key.replace("__", "."): value for key, value in overrides.items() if value is not None}
    try:
        return load(config_file, overrides=given)
    except ConfigError as problem:
        _fail(problem, EXIT_USAGE)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="market-ingestor")
def main() -> None:
    """Record live trades from exchanges and turn them into candles that can be trusted."""


@main.command()
@click.argument("roles", nargs=-1, type=click.Choice(FLOW))
@_config_option
@click.option("--shard", default="1/1", help="I/N, or auto/N: ordinal from the host name.")
@_mode_option
def run(roles: tuple[str, ...], config_file: Path | None, shard: str, mode: str | None) -> None:
    """Run ROLES in this process; none means all of them.

    \b
    Examples:
      market-ingestor run --config config.toml
      market-ingestor run ingest klines --config config.toml
      market-ingestor run klines --shard 2/8
    """
    from market_ingestor.runtime import assembly

    overrides = {} if mode is None else {"ingest.mode": mode}
    loaded = _load(config_file, ingest__mode=mode)
    try:
        chosen = Shard.parse(shard)
    except ConfigError as problem:
        _fail(problem, EXIT_USAGE)

    async def run_roles() -> int:
        will_reload = await assembly.run_roles(
            loaded.settings,
            roles or FLOW,
            shard=chosen,
            # On a terminal SIGHUP means that it was closed.
            recheck=None if sys.stderr.isatty() else lambda: load(config_file, overrides=overrides),
        )
        return RELOAD if will_reload else 0

    _execute(run_roles)


@main.command(name="demo")
@click.option("--live", is_flag=True, help="The real venues instead of simulated ones.")
@click.option("--duration", type=click.FloatRange(min=0), help="End after so many seconds.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=Path(".data"))
@click.option("--frames", multiple=True, metavar="VENUE=FILE", help="Replay recorded frames.")
@click.option("--rate", type=click.FloatRange(min=0), default=50, help="Trades/s per venue.")
@click.option("--seed", type=int, default=1)
@click.option("--faults", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def demo_command(
    *,
    live: bool,
    duration: float | None,
    data: Path,
    frames: tuple[str, ...],
    rate: float,
    seed: int,
    faults: Path | None,
) -> None:
    """Run everything on this machine: servers, venues, roles; until Ctrl-C.

    \b
    Examples:
      market-ingestor demo
      market-ingestor demo --rate 200 --duration 60
      market-ingestor demo --data .data-recorded --frames binance=frames.txt.gz
    """
    from market_ingestor.runtime.demo import DemoOptions, demo

    options = DemoOptions(
        is_live=live,
        duration_s=duration,
        folder=data,
        frames=_frames(frames),
        rate=rate,
        seed=seed,
        faults=faults,
    )
    _execute(lambda: demo(options), log_level=logging.WARNING)  # the live line is the story


def _frames(given: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for each in given:
        venue, equals, file = each.partition("=")
        if not equals or not Path(file).is_file():
            raise click.BadParameter(f"{each!r} is not VENUE=FILE with a file that exists")
        files[venue.removeprefix(SIMULATED_PREFIX)] = Path(file)
    return files


@main.command()
@_config_option
def migrate(config_file: Path | None) -> None:
    """Bring the database to this version's schema."""
    from market_ingestor.runtime import commands

    loaded = _load(config_file)
    _execute(lambda: commands.migrate_database(loaded.settings))


@main.command()
@_config_option
def streams(config_file: Path | None) -> None:
    """Bring streams and buckets of NATS to the configuration."""
    from market_ingestor.runtime import commands

    loaded = _load(config_file)
    _execute(lambda: commands.make_bus_streams(loaded.settings))


@main.command(name="config")
@_config_option
def show_config(config_file: Path | None) -> None:
    """Print the effective settings and where each came from, secrets hidden."""
    from market_ingestor.runtime import commands

    commands.print_config(_load(config_file))


@main.command()
@_config_option
@_mode_option
@_json_option
def check(config_file: Path | None, mode: str | None, *, as_json: bool) -> None:
    """Validate the settings and reach NATS, the database and the venues."""
    from market_ingestor.runtime.check import check as check_settings

    loaded = _load(config_file, ingest__mode=mode)
    _execute(lambda: check_settings(loaded.settings, as_json=as_json))


def _time(_: click.Context, option: click.Parameter, value: str | None) -> datetime | None:
    """Read Unix milliseconds or RFC 3339."""
    if value is None:
        return None
    try:
        if value.isdigit():
            return datetime.fromtimestamp(int(value) / 1000, UTC)
        parsed = datetime.fromisoformat(value)
    except (ValueError, OverflowError) as problem:
        raise click.BadParameter(f"{value!r} is no time", param=option) from problem
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@main.command()
@_config_option
@click.option("--exchange")
@click.option("--symbol")
@click.option("--from", "from_time", callback=_time, help="Milliseconds or RFC 3339, inclusive.")
@click.option("--to", "to_time", callback=_time, help="Exclusive.")
@click.option("--account", is_flag=True, help="Balance the raw stream against the tables instead.")
@_json_option
def verify(
    *,
    account: bool,
    as_json: bool,
    config_file: Path | None,
    exchange: str | None,
    symbol: str | None,
    from_time: datetime | None,
    to_time: datetime | None,
) -> None:
    """Recompute candles from stored trades and compare; exit 1 when one differs.

    Windows count that ended longer ago than lateness_s and 30 s: both savers are past them.

    \b
    Examples:
      market-ingestor verify --exchange binance --symbol BTCUSDT --from 2025-11-20
      market-ingestor verify --json | jq '.differences | length'
      market-ingestor verify --account
    """
    from market_ingestor.runtime import commands

    loaded = _load(config_file)
    if account:
        _execute(lambda: commands.verify_account(loaded.settings, as_json=as_json))
    scope = commands.VerifyScope(
        exchange=exchange, symbol=symbol, from_time=from_time, to_time=to_time
    )
    _execute(lambda: commands.verify_candles(loaded.settings, scope, as_json=as_json))


def _tcp(_: click.Context, option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Read HOST:PORT."""
    if value is None:
        return None
    host, _colon, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"{value!r} is not HOST:PORT", param=option)
    return host.strip("[]"), int(port)


@main.command()
@click.option("--url", default="ws://127.0.0.1:8081/ws", show_default=True, help="Of the gateway.")
@click.option("--tcp", callback=_tcp, metavar="HOST:PORT", help="Lines over TCP instead.")
@click.option("--token", envvar="MARKET_INGESTOR_TOKEN", help="Better in MARKET_INGESTOR_TOKEN.")
@click.option(
    "--once",
    is_flag=True,
    help="Print the table once; likewise without a terminal or on a dumb one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON per market, once.")
def watch(
    *, url: str, tcp: tuple[str, int] | None, token: str | None, once: bool, as_json: bool
) -> None:
    """Watch markets in the terminal: prices, statistics, candles, holes.

    \b
    Examples:
      market-ingestor watch
      market-ingestor watch --tcp 127.0.0.1:8888
      market-ingestor watch --json | jq -r .last_price
    """
    from market_ingestor.watch.screen import Screen, print_once
    from market_ingestor.watch.source import Target

    target = Target(url=url, tcp=tcp, token=token)
    has_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    if once or as_json or not has_terminal or os.environ.get("TERM") in DUMB:
        _execute(lambda: print_once(target, as_json=as_json), log_level=logging.ERROR)
    _execute(lambda: Screen(target).run(), log_level=logging.ERROR)


@main.command()
@click.option(
    "--venue",
    "venues",
    multiple=True,
    type=click.Choice(SIMULATED),
    help=f"Default: {', '.join(SIMULATED_BY_DEFAULT)}.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Of the first venue.")
@click.option("--seed", type=int, default=1)
@click.option("--rate", type=click.FloatRange(min=0), default=50, help="Trades/s per venue.")
@click.option("--symbols", default="", help="Comma-separated; default: each venue's usual ones.")
@click.option("--frames", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--speed", type=click.FloatRange(min=0), default=0, help="0: as fast as read.")
@click.option("--faults", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False))
def simulate(*, venues: tuple[str, ...], symbols: str, frames: Path | None, **options: Any) -> None:
    """Run venue simulators alone and print their addresses.

    \b
    Examples:
      market-ingestor simulate --venue kraken --port 40001
      market-ingestor simulate --rate 500 --record trades.jsonl
    """
    from market_ingestor.runtime import commands
    from market_ingestor.simulator import SimulateOptions

    chosen = venues or (("binance",) if frames else SIMULATED_BY_DEFAULT)
    wanted = tuple(name.strip() for name in symbols.split(",") if name.strip())
    described = SimulateOptions(
        venues=chosen,
        symbols=wanted or None,
        frames=dict.fromkeys(chosen, frames) if frames else {},
        **options,
    )
    _execute(lambda: commands.simulate_venues(described))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this program's commands and options.

    \b
    Examples:
      market-ingestor completion bash > ~/.local/share/bash-completion/completions/market-ingestor
      source <(market-ingestor completion zsh)
      market-ingestor completion fish > ~/.config/fish/completions/market-ingestor.fish
    """
    from click.shell_completion import get_completion_class

    chosen = get_completion_class(shell)
    if chosen is None:
        _fail(ValueError(f"no completion for {shell}"), EXIT_FAILED)
    click.echo(chosen(main, {}, "market-ingestor", "_MARKET_INGESTOR_COMPLETE").source())
