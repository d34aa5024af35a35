"""What is read back from the stream tells which ids are there."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from market_ingestor.connectors.history import StoredIds, spans
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


def test_where_live_trades_begin_is_known_as_far_as_everything_was_read() -> None:
    stored = StoredIds()
    stored.take(batch("rest", "9", 10, 11))
    stored.join()
    begins = [stored.begin]
    stored.take(batch("ws", None, 105, 106))
    stored.take(batch("ws", None, 107, 103))
    stored.take(batch("rest", "50", 51))
    stored.join()
    begins.append(stored.begin)
    stored.take(batch("ws", None, 80))  # and then the reading was cut short
    assert [*begins, stored.begin] == [None, 103, 103]


def test_times_are_known_near_every_hole() -> None:
    stored = StoredIds()
    assert stored.is_empty
    stored.take(batch("ws", None, 100, 101, 102))
    stored.take(batch("ws", "102", 110, 111))
    assert [stored.time_us(each) for each in (100, 102, 110, 105)] == [1000, 1020, 1100, 1020]


@pytest.mark.parametrize(
    "poison",
    [
        {"price": "1e9999"},
        {"amount": "NaN"},
        {"price": "-1"},
        {"id": "99999999999999999999"},
        {"id": "x"},
    ],
)
def test_a_batch_that_readers_refuse_hides_no_hole(poison: dict[str, str]) -> None:
    stored = StoredIds()
    stored.take(batch("ws", None, 100, 101))
    far = batch("ws", None, 10**18)
    bad = msgspec.structs.replace(far.trades[0], **poison)
    stored.take(msgspec.structs.replace(far, trades=[bad]))
    assert list(stored.intervals) == [(100, 101)]


NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def test_instruments_that_traded_together_are_read_in_one_go() -> None:
    (span,) = spans({"A": (minutes(0), 70), "B": (minutes(9), 60), "C": (minutes(18), 90)})
    assert (span.since, span.until, span.last) == (minutes(-10), minutes(18), 90)
    assert span.since_us == {
        "A": int(minutes(-10).timestamp() * 1e6),
        "B": int(minutes(-1).timestamp() * 1e6),
        "C": int(minutes(8).timestamp() * 1e6),
    }


def test_what_lies_between_instruments_far_apart_is_not_read() -> None:
    old, new = spans({"NEW": (minutes(500), 90), "OLD": (minutes(0), 10)})
    assert (list(old.since_us), old.last) == (["OLD"], 10)
    assert (new.since, list(new.since_us), new.last) == (minutes(490), ["NEW"], 90)


def test_no_messages_are_no_span() -> None:
    assert spans({}) == []
