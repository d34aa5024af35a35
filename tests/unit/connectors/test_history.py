"""What is read back from the stream tells which ids are there."""

from market_ingestor.connectors.history import StoredIds
from market_ingestor.model.trade import Source, Trade, TradeBatch


def batch(source: Source, prev_id: str | None, *ids: int) -> TradeBatch[str]:
    return TradeBatch(
        v=1,
        exchange="okx",
        symbol="BTCUSDT",
        feed="a-1",
        n=1,
        source=source,
        received_us=0,
        prev_id=prev_id,
        trades=[
            Trade(id=str(each), price="1", amount="1", side="buy", time_us=each * 10)
            for each in ids
        ],
    )


def test_a_refill_behind_live_trades_joins_them() -> None:
    stored = StoredIds()
    stored.take(batch("ws", None, 100, 101))
    stored.take(batch("ws", "101", 105, 106))
    stored.take(batch("rest", "101", 102, 103, 104, 105))
    assert list(stored.intervals) == [(100, 106)]


def test_a_hole_below_the_newest_message_is_seen() -> None:
    stored = StoredIds()
    stored.take(batch("ws", None, 100, 101))
    stored.take(batch("ws", "150", 151))  # what lay between was lost with its sender
    assert list(stored.intervals) == [(100, 101), (151, 151)]


def test_a_refill_proves_ids_absent_and_a_live_batch_does_not() -> None:
    stored = StoredIds()
    stored.take(batch("rest", "100", 103, 106))
    assert list(stored.intervals) == [(100, 106)]
    stored = StoredIds()
    stored.take(batch("ws", "100", 103, 106))
    assert list(stored.intervals) == [(103, 103), (106, 106)]


def test_times_are_known_near_every_hole() -> None:
    stored = StoredIds()
    assert stored.is_empty
    stored.take(batch("ws", None, 100, 101, 102))
    stored.take(batch("ws", "102", 110, 111))
    assert [stored.time_us(each) for each in (100, 102, 110, 105)] == [1000, 1020, 1100, 1020]
