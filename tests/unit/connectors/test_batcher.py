"""A quiet process sends at once, a busy one gathers."""

import pytest

from market_ingestor.connectors.batcher import BEHIND_S_MAX, MANY, MORE_S, THICK, Batcher
from market_ingestor.connectors.feed import Feed
from market_ingestor.model.trade import TextTrade, Trade


def trade(number: int) -> TextTrade:
    return Trade(id=str(number), price="1", amount="1", side=None, time_us=0)


def batcher() -> Batcher:
    return Batcher(messages_per_s=10_000, linger_max_s=0.02)


def feed() -> Feed:
    return Feed("a-1", "okx", source="ws", has_contiguous_ids=True, simulated=False)


def test_the_first_flush_waits_for_nothing() -> None:
    assert batcher().wait_s(now=5.0) == 0


@pytest.mark.parametrize(
    ("messages", "wait_s"), [(1, 0.0001), (MANY, 0.001), (4 * MANY, 0.016), (5_000, 0.02)]
)
def test_after_a_flush_the_next_waits_by_the_budget(messages: int, wait_s: float) -> None:
    budget = batcher()
    budget.spent(messages, now=100.0)
    assert budget.wait_s(now=100.0) == pytest.approx(wait_s)
    assert budget.wait_s(now=100.0 + wait_s) == pytest.approx(0)


def behind(*, trades: int) -> Batcher:
    """Return one with trades of two symbols, whose socket has more, paused until 100.02."""
    gathering, one = batcher(), feed()
    gathering.spent(5_000, now=100.0)
    gathering.put(one.lane("A"), [trade(1)], received_us=1)
    gathering.put(one.lane("B"), [trade(each) for each in range(trades - 1)], received_us=1)
    gathering.fell_behind()
    return gathering


def test_thin_messages_wait_while_sockets_hold_more() -> None:
    assert behind(trades=2 * THICK - 1).wait_s(now=100.021) == MORE_S
    assert behind(trades=2 * THICK).wait_s(now=100.021) == 0


def test_they_wait_for_the_next_large_read_and_not_for_ever() -> None:
    gathering = behind(trades=2)
    assert gathering.wait_s(now=100.021) == MORE_S
    assert gathering.wait_s(now=100.022) == 0  # nothing large has been read since
    gathering.fell_behind()
    assert gathering.wait_s(now=100.019 + BEHIND_S_MAX) == MORE_S
    gathering.fell_behind()
    assert gathering.wait_s(now=100.021 + BEHIND_S_MAX) == 0


def test_the_first_burst_waits_for_nothing() -> None:
    gathering = batcher()
    gathering.put(feed().lane("A"), [trade(1)], received_us=1)
    gathering.fell_behind()
    assert gathering.wait_s(now=200.0) == 0


def test_trades_of_a_symbol_gather_in_order_and_lanes_in_order_of_arrival() -> None:
    gathering, one = batcher(), feed()
    a, b = one.lane("A"), one.lane("B")
    gathering.put(a, [trade(1)], received_us=1)
    gathering.put(b, [trade(9)], received_us=2)
    gathering.put(a, [trade(2), trade(3)], received_us=3)
    assert gathering.trades == 4
    assert gathering.take() == [a, b]
    assert [each.id for each in a.waiting] == ["1", "2", "3"]
    assert gathering.take() == []


def test_what_arrives_for_a_lane_not_drained_yet_goes_with_it() -> None:
    gathering, one = batcher(), feed()
    a = one.lane("A")
    gathering.put(a, [trade(1)], received_us=1)
    gathering.take()
    gathering.put(a, [trade(2)], received_us=2)  # the flush waits for room at the bus
    assert gathering.take() == []
    gathering.took(len(a.waiting))
    (message,) = a.drain()
    assert message.trades == 2
    assert gathering.trades == 0
