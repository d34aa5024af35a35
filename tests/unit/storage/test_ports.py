"""The stores are what their users ask for; mypy is the judge."""

from typing import TYPE_CHECKING

from market_ingestor.bus.jetstream import Bus
from market_ingestor.storage.candle_store import DatabaseCandleStore
from market_ingestor.storage.read_store import DatabaseReadStore
from market_ingestor.storage.saver import BatchSaver
from market_ingestor.storage.timescale import Database

if TYPE_CHECKING:
    from market_ingestor.api.ports import ReadStore
    from market_ingestor.klines.ports import CandleStore
    from market_ingestor.runtime.role import Role


def test_the_ports_are_implemented() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", stages=True)
    candles: CandleStore = DatabaseCandleStore(database)
    reads: ReadStore = DatabaseReadStore(database)
    saver: Role = BatchSaver(Bus("test"), database)
    assert candles is not None
    assert reads is not None
    assert saver.name == "save"
    assert not saver.health().is_ready
