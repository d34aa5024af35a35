"""klines: MARKET_RAW to MARKET_KLINE."""

from market_ingestor.klines.processor import KlineProcessor
from market_ingestor.runtime.parts import Parts
from market_ingestor.storage.candle_store import DatabaseCandleStore


async def build(parts: Parts) -> KlineProcessor:
    """Return the role, connected and not started."""
    bus = await parts.bus("klines")
    store = DatabaseCandleStore(await parts.database("klines"))
    return KlineProcessor(bus, store, parts.settings.klines, owns=parts.shard.owns)
