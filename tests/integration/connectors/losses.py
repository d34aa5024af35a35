"""Venues that lose trades, and what was said about the holes."""

import contextlib
from collections.abc import AsyncIterator

from market_ingestor.bus.jetstream import Bus
from market_ingestor.model.event import MarketEvent
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.markets import VENUES, default_symbols
from market_ingestor.simulator.truth import TruthLog
from tests.integration.connectors.harness import Ingest, events, until

SYMBOLS = 3  # each costs a walk, and venues answer no more than one to ten requests a second


async def gap_events(bus: Bus) -> list[MarketEvent]:
    return [event for event in await events(bus) if event.type.startswith("gap_")]


@contextlib.asynccontextmanager
async def venues(log: TruthLog, rate: float) -> AsyncIterator[list[SimulatedVenue]]:
    """Run every venue; their waits then overlap."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                SimulatedVenue(name, default_symbols(name)[:SYMBOLS], rate=rate, truth=log)
            )
            for name in VENUES
        ]


async def until_published(ingest: Ingest, trades: int) -> None:
    """Wait until so many more trades of every venue are published."""
    accounts = ingest.role.outbox.accounts
    enough = {name: accounts[name].published + trades for name in accounts}
    await until(lambda: all(accounts[name].published > count for name, count in enough.items()))
