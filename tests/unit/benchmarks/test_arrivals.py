"""How old what arrives is: counted from the instants that the load writes into its amounts."""

import pytest

from benchmarks.arrivals import Arrivals, percentile
from benchmarks.load import age_us, stamp

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
BOUNDARY_US = 1_795_886_340 * SECOND_US  # the end of a minute


def trades(*sent: tuple[int, int]) -> bytes:
    """Return a push message with a trade for each (id, instant at which it was sent)."""
    listed = ",".join(
        f'{{"id":"{number}","price":"1","amount":"{stamp(at_us) / 100}","side":"buy",'
        f'"time_us":{at_us}}}'
        for number, at_us in sent
    )
    batch = f'{{"exchange":"sim-okx","symbol":"A","trades":[{listed}]}}'
    return f'{{"type":"trades","topic":"trade.sim-okx.A","data":{batch}}}'.encode()


def candle(last_id: int, *, closed: bool = False, revision: int = 0) -> bytes:
    """Return a push message with the candle of the minute before the boundary."""
    data = (
        f'{{"exchange":"sim-okx","symbol":"A","close_time":{BOUNDARY_US // 1_000 - 1},'
        f'"last_trade_id":"{last_id}","closed":{"true" if closed else "false"},'
        f'"revision":{revision}}}'
    )
    return f'{{"type":"kline","topic":"kline.sim-okx.A.1m","data":{data}}}'.encode()


@pytest.mark.parametrize("at_us", [BOUNDARY_US, BOUNDARY_US // 10**9 * 10**9 - 5])
def test_an_amount_tells_its_age_also_across_the_turn_of_the_stamps(at_us: int) -> None:
    amount = f"{stamp(at_us) // 100}.{stamp(at_us) % 100:02d}000000"
    assert age_us(amount, at_us + 1_230) == 1_230


def test_trades_have_the_age_at_which_they_come() -> None:
    arrivals = Arrivals()
    arrivals.take(trades((7, BOUNDARY_US), (8, BOUNDARY_US + 400)), BOUNDARY_US + 1_000)
    assert arrivals.trades == [1_000, 600]


def test_a_trade_counts_for_the_first_open_candle_that_holds_it() -> None:
    arrivals = Arrivals()
    arrivals.take(trades((7, BOUNDARY_US), (8, BOUNDARY_US + 400)), BOUNDARY_US + 500)
    arrivals.take(candle(7), BOUNDARY_US + 1_000)
    arrivals.take(candle(8), BOUNDARY_US + 9_000)
    arrivals.take(candle(8), BOUNDARY_US + 20_000)
    assert arrivals.opened == [1_000, 8_600]
    assert arrivals.newest == {("sim-okx", "A"): (8_600, BOUNDARY_US + 9_000)}


def test_a_closed_candle_counts_from_the_trade_that_lets_it_be_closed() -> None:
    arrivals = Arrivals()
    may_close_us = BOUNDARY_US + 2 * SECOND_US
    for number, at_us in enumerate((BOUNDARY_US - 10, BOUNDARY_US + 10, may_close_us)):
        arrivals.take(trades((number, at_us)), at_us + 500)
    arrivals.take(candle(0, closed=True, revision=1), may_close_us + 30_000)
    arrivals.take(candle(0, closed=True, revision=2), may_close_us + 90_000)
    assert arrivals.closed() == [30_000]


def test_what_was_missed_is_counted() -> None:
    arrivals = Arrivals()
    arrivals.take(b'{"type":"missed","topic":"trade.sim-okx.A","count":3}', BOUNDARY_US)
    assert arrivals.missed == 3


def test_a_percentile_is_a_value_that_came() -> None:
    assert percentile(range(0, 100_000_000, 1_000_000), 99) == 99.0
    assert percentile([5_000_000], 50) == 5.0
    with pytest.raises(ValueError, match="nothing came"):
        percentile([], 99)
