"""What a lost trade leaves behind."""

import msgspec

from market_ingestor.bus import codec
from market_ingestor.bus.reader import Delivery
from market_ingestor.model.trade import Trade, TradeBatch
from market_ingestor.storage.batch import Loss
from market_ingestor.storage.dead import hole, row_loss
from market_ingestor.storage.rows import trade_rows

TRADES = [
    Trade(id=str(number), price="1.5", amount="2", side=None, time_us=number * 1_000)
    for number in range(10, 13)
]


def message() -> Delivery:
    batch = TradeBatch(
        v=1,
        exchange="sim-okx",
        symbol="BTCUSDT",
        feed="f",
        n=1,
        source="ws",
        received_us=5,
        prev_id=None,
        trades=TRADES,
        simulated=True,
    )
    return Delivery(
        subject="market.raw.sim-okx.BTCUSDT",
        payload=codec.encode(batch),
        sequence=9,
        stored_us=0,
        pending=0,
        reply="",
        consumer_sequence=1,
    )


def test_a_refused_row_is_traced_to_its_trade() -> None:
    rows = trade_rows(message().subject, message().payload, 9).rows
    loss = row_loss(message(), rows[1], "bad")
    assert loss.trade == TRADES[1]


def test_a_lost_trade_is_a_hole_between_its_neighbours() -> None:
    event = hole(Loss(message=message(), reason="bad", trade=TRADES[1]), now_us=77)
    assert event is not None
    assert (event.exchange, event.symbol) == ("sim-okx", "BTCUSDT")
    assert (event.after_id, event.before_id, event.missing) == ("10", "12", 1)
    assert (event.from_time, event.to_time, event.time_us) == (11, 11, 77)
    assert event.type == "gap_unfillable"
    assert event.simulated


def test_a_trade_without_a_usable_id_or_time_still_leaves_a_hole() -> None:
    trade = msgspec.structs.replace(TRADES[0], id="x\0" * 60, time_us=-1)
    event = hole(Loss(message=message(), reason="bad", trade=trade), now_us=77)
    assert event is not None
    assert event.after_id == event.before_id == "x" * 32
    assert event.from_time is None


def test_a_lost_message_leaves_no_hole_that_could_be_named() -> None:
    assert hole(Loss(message=message(), reason="bad"), now_us=77) is None
