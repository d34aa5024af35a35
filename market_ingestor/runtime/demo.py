"""Everything on one machine: servers, simulated venues, all roles, a live line. SHELL."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import tomli_w

from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.config import Settings
from market_ingestor.embedded import Embedded, NatsRights, write_private
from market_ingestor.errors import ConfigError
from market_ingestor.model.control import Mode
from market_ingestor.model.exchange import simulated_name
from market_ingestor.runtime.assembly import run_roles
from market_ingestor.runtime.live_line import live_line
from market_ingestor.runtime.parts import PORTS, SHARED_PORT, Links
from market_ingestor.runtime.ports import PortChooser
from market_ingestor.runtime.shard import Shard
from market_ingestor.runtime.supervisor import FLOW, Supervisor
from market_ingestor.simulator import VENUES, SimulatedVenue, SimulateOptions, Simulation
from market_ingestor.storage.migrate import migrate

ENDPOINTS_FILE: Final = "endpoints.json"
CONFIG_FILE: Final = "config.toml"
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
        endpoints, values = _plan(servers, venues, is_live=options.is_live)
        _write(folder, endpoints, values)
        links = Links(
            setup=(servers.nats_url,),
            roles={name: (servers.nats_url_for(name),) for name in ROLE_RIGHTS},
        )
        settings = Settings.model_validate(values)
        async with _showing(endpoints, options, servers) as supervise:
            await run_roles(
                settings, FLOW, shard=Shard(index=1, count=1), links=links, supervise=supervise
            )
    _say(f"\nstopped; the same command goes on from what {options.folder} holds")


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
) -> tuple[Endpoints, dict[str, Any]]:
    """Choose ports and return the addresses and the values of the settings that use them.

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
    return endpoints, values


def _write(folder: Path, endpoints: Endpoints, values: Mapping[str, Any]) -> None:
    """Write where everything is, for programs, and the settings, for commands such as verify."""
    formatted = msgspec.json.format(msgspec.json.encode(endpoints))
    write_private(folder / CONFIG_FILE, tomli_w.dumps(values).encode())
    write_private(folder / ENDPOINTS_FILE, formatted + b"\n")


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
        line = tasks.create_task(live_line())
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


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
