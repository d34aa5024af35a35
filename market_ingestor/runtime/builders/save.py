"""save: streams to tables."""

from market_ingestor.runtime.parts import Parts
from market_ingestor.storage.batch import SaveLimits
from market_ingestor.storage.saver import CONNECTIONS, BatchSaver


async def build(parts: Parts) -> BatchSaver:
    """Return the role, connected and not started."""
    save = parts.settings.save
    bus = await parts.bus("save")
    database = await parts.database("save", connections=CONNECTIONS, stages=True)
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
