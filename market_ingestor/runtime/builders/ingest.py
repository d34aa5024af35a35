"""ingest: exchanges to MARKET_RAW."""

from typing import Final

from market_ingestor.config import Settings
from market_ingestor.connectors import registry
from market_ingestor.connectors.history import KnownIds, KnownTrade
from market_ingestor.connectors.ingest import IngestRole
from market_ingestor.errors import ConfigError
from market_ingestor.runtime.parts import Parts
from market_ingestor.storage.read_store import DatabaseReadStore
from market_ingestor.storage.timescale import Database

GRACE_SHARE: Final = 0.45  # within its half of the time the supervisor has


async def build(parts: Parts) -> IngestRole:
    """Return the role, connected and not started."""
    settings = parts.settings
    bus = await parts.bus("ingest")
    require_known_venues(settings)
    return IngestRole(
        bus,
        settings.exchanges,
        settings.ingest,
        shard=parts.shard,
        known_ids=known_ids(await parts.database("ingest", connections=1)),
        grace_s=settings.run.shutdown_grace_s * GRACE_SHARE,
        board=parts.board(bus),
    )


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
