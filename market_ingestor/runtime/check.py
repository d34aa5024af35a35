"""The command ``check``: is everything there that the settings name, and as needed? SHELL."""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Final

import click
from websockets.exceptions import InvalidStatus, WebSocketException

from market_ingestor.bus.jetstream import TROUBLE
from market_ingestor.config import ExchangeSettings, Settings
from market_ingestor.connectors import registry
from market_ingestor.connectors.rest import REST_FAILURES, RestClient
from market_ingestor.connectors.transport import open_transport
from market_ingestor.connectors.venue import Venue
from market_ingestor.errors import StoreUnavailableError, VenueError, excerpt
from market_ingestor.model.control import mode_of
from market_ingestor.model.instrument import InstrumentTable
from market_ingestor.runtime.bus_setup import check_server
from market_ingestor.runtime.commands import EXIT_FAILED, connected_bus, connected_database

REACH_S_MAX: Final = 15.0  # for one of them, beyond what its own parts take
NAMED_MAX: Final = 5  # symbols in one finding

Finding = tuple[str, str | None]


async def check(settings: Settings, *, as_json: bool = False) -> int:
    """Reach everything the settings name; returns 1 when something is not as it must be."""
    mode = settings.ingest.mode
    looks: list[Awaitable[Finding]] = [
        _finding("nats", _nats(settings)),
        _finding("database", _database(settings)),
    ]
    looks += [
        _finding(f"exchanges.{name}", _exchange(name, each))
        for name, each in settings.exchanges.items()
        if each.enabled and mode_of(name) == mode
    ]
    if len(looks) == 2:  # noqa: PLR2004 - those above
        looks.append(_finding("exchanges", _none_enabled(mode)))
    findings = await asyncio.gather(*looks)
    if as_json:
        click.echo(json.dumps(dict(findings)))  # null where all is well
        return EXIT_FAILED if any(problem for _, problem in findings) else 0
    for name, problem in findings:
        click.echo(f"{name}: {problem or 'ok'}")
    return EXIT_FAILED if any(problem for _, problem in findings) else 0


async def _finding(name: str, look: Awaitable[str | None]) -> Finding:
    try:
        async with asyncio.timeout(REACH_S_MAX):
            return name, await look
    except TimeoutError:
        return name, f"no answer within {REACH_S_MAX:g} s"


async def _none_enabled(mode: str) -> str:
    return f"none is enabled for mode {mode!r}"


async def _nats(settings: Settings) -> str | None:
    """Return what is wrong with NATS: it is away, too old, or has no JetStream."""
    async with AsyncExitStack() as stack:
        try:
            bus = await connected_bus(settings, stack)
            check_server(bus)
            await bus.api("INFO")
        except TROUBLE as problem:
            return str(problem) or "JetStream does not answer"
    return None


async def _database(settings: Settings) -> str | None:
    """Return what is wrong with the database: it is away, or has no schema and gets none."""
    async with AsyncExitStack() as stack:
        try:
            database = await connected_database(settings, stack)
            has_schema = await database.value("SELECT to_regclass('market_trades') IS NOT NULL")
        except StoreUnavailableError as problem:
            return str(problem)
    if not has_schema and not settings.database.migrate_on_start:
        return "answers, and has no schema: run migrate, or set migrate_on_start"
    return None


async def _exchange(name: str, settings: ExchangeSettings) -> str | None:
    """Return what is wrong with an exchange: its list, a symbol, or its trades' address."""
    venue = registry.configured_venue(name, settings)
    if venue is None:
        return "is no venue we know, and kind is not 'tcp'"
    problem = await _list(name, venue, settings) or await _trades(venue, settings)
    if problem is not None and settings.token is not None:
        problem = problem.replace(settings.token.get_secret_value(), "***")
    return problem


async def _list(name: str, venue: Venue, settings: ExchangeSettings) -> str | None:
    request = venue.instruments_request()
    if request is None:
        return None
    limits = venue.limits
    try:
        async with RestClient(
            name, settings.rest_url or venue.rest_url, requests_per_s=limits.rest_requests_per_s
        ) as rest:
            table = InstrumentTable(venue.decode_instruments(await rest.get(request)))
    except REST_FAILURES as problem:
        if isinstance(problem, VenueError) and not limits.lists_for_all:
            return None
        return f"list of instruments: {str(problem) or repr(problem)}"
    unknown = [symbol for symbol in settings.symbols if table.resolve(symbol) is None]
    return f"not listed: {', '.join(unknown[:NAMED_MAX])}" if unknown else None


async def _trades(venue: Venue, settings: ExchangeSettings) -> str | None:
    """Open a connection as for trades, and leave again."""
    try:
        transport = await open_transport(
            venue.connect_url(registry.ws_base(venue, settings)),
            frame_bytes_max=venue.limits.frame_bytes_max,
        )
    except InvalidStatus as refusal:
        return f"trades: the handshake was refused with status {refusal.response.status_code}"
    except (OSError, TimeoutError, WebSocketException) as problem:
        return f"trades: {excerpt(str(problem) or repr(problem))}"
    await transport.close()
    return None
