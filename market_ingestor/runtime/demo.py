"""Everything on one machine: servers, simulated venues, all roles, a live line. SHELL."""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from market_ingestor import metrics
from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.config import Settings
from market_ingestor.embedded import Embedded, NatsRights
from market_ingestor.errors import ConfigError
from market_ingestor.model.control import Mode
from market_ingestor.model.exchange import simulated_name
from market_ingestor.runtime.assembly import run_roles
from market_ingestor.runtime.parts import PORTS, SHARED_PORT, Links
from market_ingestor.runtime.ports import PortChooser
from market_ingestor.runtime.shard import Shard
from market_ingestor.runtime.supervisor import FLOW, Supervisor
from market_ingestor.simulator import VENUES, SimulatedVenue, SimulateOptions, Simulation
from market_ingestor.storage.migrate import migrate

LINE_INTERVAL_S: Final = 1.0
SECRET_MODE: Final = 0o600
ENDPOINTS_FILE: Final = "endpoints.json"
LIVE_SYMBOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "okx": ("BTCUSDT", "ETHUSDT"),
    "bybit": ("BTCUSDT", "ETHUSDT"),
    "coinbase": ("BTCUSD", "ETHUSD"),
    "kraken": ("BTCUSD", "ETHUSD"),
}


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a demo shall do.

    Attributes:
        is_live: Begin with the real venues instead of simulated ones.
        duration_s: End after so many seconds of running roles; None runs until a signal.
        folder: Where everything is kept; a second demo on it goes on where the first stopped.
        frames: Recordings to replay per venue; then only these venues run.
        rate: Trades per second and venue.
        seed: Decides what the simulated venues trade.
        faults: File of faults for the simulated venues.
    """

    is_live: bool
    duration_s: float | None
    folder: Path
    frames: Mapping[str, Path]
    rate: float
    seed: int
    faults: Path | None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Base addresses; written to ``endpoints.json`` with the passwords in them."""

    nats: str
    dsn: str
    api: str
    push: str
    tcp: str
    metrics: str
    simulators: dict[str, dict[str, str]]


async def demo(options: DemoOptions) -> None:
    """Run the demo until it is stopped or its time is over.

    Raises:
        EmbeddedError: A server is missing, or the folder is in use.
        ConfigError: The options do not fit together.
        Exception: What ended the first role that failed.
    """
    unknown = sorted(set(options.frames) - set(VENUES))
    if unknown:
        raise ConfigError("--frames", f"{unknown[0]!r} is not one of {', '.join(VENUES)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    rights = {
        name: NatsRights(publish=each.publish, subscribe=each.subscribe)
        for name, each in ROLE_RIGHTS.items()
    }
    _say(f"starting nats-server and PostgreSQL in {options.folder}")
    async with Embedded(folder, nats_rights=rights) as servers, AsyncExitStack() as stack:
        await migrate(servers.dsn)  # before any role asks tables that are still to be made
        venues = await _open_venues(options, folder, stack)
        endpoints, settings = _plan(servers, venues, is_live=options.is_live)
        _write_endpoints(folder / ENDPOINTS_FILE, endpoints)
        links = Links(
            setup=(servers.nats_url,),
            roles={name: (servers.nats_url_for(name),) for name in ROLE_RIGHTS},
        )
        async with _showing(endpoints, options, servers) as supervise:
            await run_roles(
                settings, FLOW, shard=Shard(index=1, count=1), links=links, supervise=supervise
            )


async def _open_venues(
    options: DemoOptions, folder: Path, stack: AsyncExitStack
) -> list[SimulatedVenue]:
    """Start the simulated venues; recordings play alone."""
    simulation = Simulation(
        SimulateOptions(
            venues=tuple(options.frames) or VENUES,
            seed=options.seed,
            rate=options.rate,
            frames=dict(options.frames),
            faults=options.faults,
            state=folder / "simulator",
        )
    )
    return list((await stack.enter_async_context(simulation)).venues.values())


def _plan(
    servers: Embedded, venues: list[SimulatedVenue], *, is_live: bool
) -> tuple[Endpoints, Settings]:
    """Choose ports and return the addresses and the settings that use them.

    There are simulated and real exchanges, whichever run first: the mode may be switched.
    """
    ports = PortChooser(avoided=frozenset(PORTS.values()))
    api, push, tcp, health = (ports.choose(usual) for usual in (8080, 8081, 8888, SHARED_PORT))
    values: dict[str, Any] = {
        "nats": {"servers": (servers.nats_url,), "raw_max_bytes": 4 * 1024**3},
        "database": {"dsn": servers.dsn},
        "gateway": {"port": push, "tcp_port": tcp},
        "api": {"port": api},
        "metrics": {"port": health},
    }
    values["exchanges"] = {name: {"symbols": symbols} for name, symbols in LIVE_SYMBOLS.items()}
    values["exchanges"] |= {
        simulated_name(venue.name): {
            "symbols": tuple(venue.symbols),
            "ws_url": venue.ws_url,
            "rest_url": venue.rest_url,
        }
        for venue in venues
    }
    if not is_live:
        # Recorded trades are years old, so live frames may have any age here.
        values["ingest"] = {"mode": "test", "max_trade_age_s": 0}
    endpoints = Endpoints(
        nats=servers.nats_url,
        dsn=servers.dsn,
        api=f"http://127.0.0.1:{api}",
        push=f"ws://127.0.0.1:{push}",
        tcp=f"127.0.0.1:{tcp}",
        metrics=f"http://127.0.0.1:{health}",
        simulators={
            venue.name: {"ws_url": venue.ws_url, "rest_url": venue.rest_url} for venue in venues
        },
    )
    return endpoints, Settings.model_validate(values)


def _write_endpoints(path: Path, endpoints: Endpoints) -> None:
    path.touch(mode=SECRET_MODE)
    path.chmod(SECRET_MODE)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(endpoints)) + b"\n")


@contextlib.asynccontextmanager
async def _showing(
    endpoints: Endpoints, options: DemoOptions, servers: Embedded
) -> AsyncIterator["asyncio.Future[Supervisor]"]:
    """Show a live line, end the roles when time is over or a server died."""
    supervise: asyncio.Future[Supervisor] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(_watch(supervise, endpoints, options, servers))
        try:
            yield supervise
        finally:
            watch.cancel()


async def _watch(
    supervise: "asyncio.Future[Supervisor]",
    endpoints: Endpoints,
    options: DemoOptions,
    servers: Embedded,
) -> None:
    supervisor = await supervise
    for name, address in (
        ("dashboard", f"{endpoints.api}/"),
        ("API", endpoints.api),
        ("push", f"{endpoints.push}/ws"),
        ("TCP", endpoints.tcp),
        ("metrics", f"{endpoints.metrics}/metrics"),
    ):
        _say(f"  {name:10}{address}")
    await _say_mode(endpoints.nats, endpoints.api, "live" if options.is_live else "test")
    async with asyncio.TaskGroup() as tasks:
        line = tasks.create_task(_live_line())
        ended = tasks.create_task(servers.watch())
        try:
            await asyncio.wait({ended}, timeout=options.duration_s)
        finally:
            supervisor.request_stop()
            line.cancel()
            ended.cancel()


async def _say_mode(nats: str, api: str, begun: Mode) -> None:
    """Say which mode runs where an earlier demo on this folder was switched to another."""
    with contextlib.suppress(*TROUBLE):
        bus = await Bus.connect([nats], name="demo")
        try:
            entry = await ControlBoard(bus).read()
        finally:
            await bus.close()
        if entry.state is not None and (entry.state.mode or begun) != begun:
            _say(f"  mode    {entry.state.mode}, as was asked for; POST {api}/mode/{begun} ends it")


def _total(metric: Any) -> float:
    """Return the sum over all labels of a counter or gauge."""
    return math.fsum(
        sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    )


async def _live_line() -> None:
    """Print once a second what the service does; rewrites its line on a terminal."""
    is_terminal = sys.stdout.isatty()
    before, before_at = _total(metrics.trades_published_total), time.monotonic()
    while True:
        await asyncio.sleep(LINE_INTERVAL_S)
        published, now = _total(metrics.trades_published_total), time.monotonic()
        text = (
            f"{(published - before) / (now - before_at):8,.0f} trades/s"
            f"  {_total(metrics.trades_stored_total):10,.0f} stored"
            f"  {_total(metrics.klines_published_total):8,.0f} candles"
            f"  {_total(metrics.push_clients):3.0f} push clients"
        )
        before, before_at = published, now
        sys.stdout.write(f"\r\x1b[K{text}" if is_terminal else f"{text}\n")
        sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
