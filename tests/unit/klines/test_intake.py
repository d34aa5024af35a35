"""Rules of `klines.intake`."""

import msgspec
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.errors import DecodeError
from market_ingestor.klines.intake import Intake
from market_ingestor.model.partition import slot
from market_ingestor.model.trade import FeedPosition, Mark, Trade, TradeBatch
from tests.unit.klines.build import MINUTE, T0, rules

SUBJECT = subjects.raw("okx", "BTCUSDT")
SLOT = slot("okx", "BTCUSDT")


def intake() -> Intake:
    return Intake(rules(), lambda _: True)


def batch(**fields: object) -> bytes:
    trade = Trade[str](id="5", price="1", amount="1", side=None, time_us=T0 * 1_000)
    whole = TradeBatch[str](
        v=1,
        exchange="okx",
        symbol="BTCUSDT",
        feed="f",
        n=1,
        source="ws",
        received_us=T0 * 1_000,
        prev_id=None,
        trades=[trade],
    )
    return codec.encode(msgspec.structs.replace(whole, **fields))


def mark(last_id: str | None = "5", symbol: str = "BTCUSDT", **fields: object) -> bytes:
    whole = Mark(
        v=1,
        exchange="okx",
        feed="f",
        received_us=(T0 + 2 * MINUTE) * 1_000,
        symbols={symbol: FeedPosition(n=1, id=last_id)},
        end=False,
    )
    return codec.encode(msgspec.structs.replace(whole, **fields))


def test_a_batch_reaches_its_symbol() -> None:
    ((aggregator, closings),) = intake().take(SUBJECT, batch(), 1)
    assert (aggregator.exchange, aggregator.symbol, closings) == ("okx", "BTCUSDT", [])
    assert T0 in aggregator.open.windows


def test_a_mark_from_a_wrong_clock_counts_from_when_it_was_stored() -> None:
    taken = intake()
    stored_us = (T0 + 5_000) * 1_000
    taken.take(SUBJECT, batch(), 1, T0 * 1_000)
    tomorrow = mark(received_us=(T0 + 24 * 60 * MINUTE) * 1_000)
    ((aggregator, closings),) = taken.take(subjects.mark("okx"), tomorrow, 2, stored_us)
    assert closings == []
    assert aggregator.watermark.value_us == stored_us - aggregator.rules.lateness_us


def test_a_batch_from_a_wrong_clock_explains_no_jump() -> None:
    taken = intake()
    taken.take(SUBJECT, batch(), 1, T0 * 1_000)
    later_us = (T0 + 24 * 60 * MINUTE) * 1_000
    trade = Trade[str](id="6", price="1", amount="1", side=None, time_us=later_us)
    wrong = batch(received_us=later_us, trades=[trade], n=2)
    ((aggregator, _),) = taken.take(SUBJECT, wrong, 2, (T0 + 1_000) * 1_000)
    assert aggregator.watermark.newest_us == T0 * 1_000


def test_a_mark_reaches_every_symbol_it_names() -> None:
    taken = intake()
    taken.take(SUBJECT, batch(), 1)
    ((aggregator, closings),) = taken.take(subjects.mark("okx"), mark(), 2)
    assert aggregator.symbol == "BTCUSDT"
    assert [each.period for each in closings] == ["1m"]


def test_a_mark_makes_a_symbol_known_before_its_first_trade() -> None:
    taken = intake()
    taken.take(subjects.mark("okx"), mark(None, "ETHUSDT"), 1)
    assert ("okx", "ETHUSDT") in taken.aggregators


def test_foreign_slots_are_dropped_before_decoding() -> None:
    taken = Intake(rules(), lambda number: number != SLOT)
    assert taken.take(SUBJECT, b"not even JSON", 1) == []
    assert taken.take(subjects.mark("okx"), mark(), 2) == []
    assert taken.aggregators == {}


def test_a_partition_skips_what_lies_before_its_position() -> None:
    taken = intake()
    taken.positions[SLOT] = 10
    assert taken.take(SUBJECT, batch(), 9) == []
    assert len(taken.take(SUBJECT, batch(), 10)) == 1


def test_a_symbol_without_a_record_in_a_cut_stream_trusts_nothing_at_first() -> None:
    taken = intake()
    taken.is_stream_cut = True
    taken.recorded.add(slot("okx", "ETHUSDT"))
    assert taken.aggregator("okx", "BTCUSDT").has_lost
    assert not taken.aggregator("okx", "ETHUSDT").has_lost


@pytest.mark.parametrize(
    ("subject", "payload"),
    [
        (SUBJECT, b"{"),
        (SUBJECT, b"\xff\xfe"),
        (SUBJECT, batch(symbol="ETHUSDT")),
        (SUBJECT, batch(exchange="kraken")),
        (SUBJECT, batch(trades=[])),
        (SUBJECT, batch(prev_id="x")),
        (SUBJECT, batch(received_us=-1)),
        (SUBJECT, batch(received_us=10**17)),
        (SUBJECT, batch(v=2)),
        (
            SUBJECT,
            batch(trades=[Trade[str](id="5", price="NaN", amount="1", side=None, time_us=1)]),
        ),
        (
            SUBJECT,
            batch(trades=[Trade[str](id="5", price="1", amount="-1", side=None, time_us=1)]),
        ),
        ("market.raw.okx", batch()),
        ("market.raw.OKX.BTCUSDT", batch()),
        ("market.raw.okx.btc-usdt", batch()),
        (subjects.mark("okx"), batch()),
        (subjects.mark("okx"), mark("05")),
        (subjects.mark("okx"), mark(symbol="a b")),
        (subjects.mark("okx"), mark(exchange="kraken")),
        (subjects.mark("okx"), mark(received_us=10**17)),
    ],
)
def test_what_is_not_what_its_subject_promises_is_refused_and_changes_nothing(
    subject: str, payload: bytes
) -> None:
    taken = intake()
    with pytest.raises(DecodeError):
        taken.take(subject, payload, 1)
    assert not any(each.open.windows for each in taken.aggregators.values())
