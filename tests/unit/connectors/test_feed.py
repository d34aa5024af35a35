"""What a feed puts on the bus can be proved complete by whoever reads it."""

import itertools

import pytest

from market_ingestor.bus import codec
from market_ingestor.connectors.feed import NAME_CHARS_MAX, Feed, FeedNames, Lane
from market_ingestor.model.trade import FeedPosition, TextTrade, Trade, TradeBatch


def trade(number: int, price: str = "1.5") -> TextTrade:
    return Trade(id=str(number), price=price, amount="2", side="buy", time_us=number * 1000)


def feed(*, has_contiguous_ids: bool = True) -> Feed:
    return Feed(
        "token-1",
        "sim-okx",
        source="ws",
        has_contiguous_ids=has_contiguous_ids,
        simulated=True,
    )


def sent(lane: Lane, *ids: int) -> list[TradeBatch[str]]:
    lane.put([trade(each) for each in ids], received_us=7)
    return [codec.text_batch(each.subject, each.payload) for each in lane.drain()]


def test_names_are_never_used_again_and_fit_a_subject() -> None:
    names = FeedNames("abc123")
    given = [names.next() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert all(len(name) <= NAME_CHARS_MAX for name in given)
    assert not set("".join(given)) & set(".*> ")


@pytest.mark.parametrize("token", ["", "a.b", "ä", "a b"])
def test_a_token_that_would_break_a_subject_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        FeedNames(token)


def test_batches_of_a_symbol_are_numbered_from_one_and_chained() -> None:
    lane = feed().lane("BTCUSDT")
    batches = sent(lane, 10, 11) + sent(lane, 13) + sent(lane, 12, 14)
    assert [(each.n, each.prev_id) for each in batches] == [(1, None), (2, "11"), (3, "13")]
    assert [trade.id for each in batches for trade in each.trades] == ["10", "11", "13", "12", "14"]


def test_symbols_are_numbered_apart() -> None:
    one = feed()
    assert sent(one.lane("A"), 5)[0].n == 1
    assert sent(one.lane("B"), 900)[0].prev_id is None


def test_without_contiguous_ids_nothing_is_chained() -> None:
    lane = feed(has_contiguous_ids=False).lane("AAPL")
    assert [each.prev_id for each in sent(lane, 1) + sent(lane, 2)] == [None, None]


def test_a_batch_carries_what_the_contract_names() -> None:
    (message,) = _messages(feed().lane("BTCUSDT"), trade(10))
    assert message.subject == "market.raw.sim-okx.BTCUSDT"
    assert message.message_id == "token-1.BTCUSDT.1"
    assert codec.text_batch(message.subject, message.payload) == TradeBatch(
        v=1,
        exchange="sim-okx",
        symbol="BTCUSDT",
        feed="token-1",
        n=1,
        source="ws",
        received_us=7,
        prev_id=None,
        trades=[trade(10)],
        simulated=True,
    )


def _messages(lane: Lane, *trades: TextTrade) -> list:  # type: ignore[type-arg] # of messages
    lane.put(trades, received_us=7)
    return lane.drain()


def test_a_batch_is_split_at_the_limit_and_the_parts_are_chained() -> None:
    lane = feed().lane("BTCUSDT")
    trades = [trade(each, price="1" * 60) for each in range(1, 5001)]
    messages = _messages(lane, *trades)
    assert len(messages) > 1
    assert all(len(each.payload) <= codec.BATCH_BYTES_MAX for each in messages)
    batches = [codec.text_batch(each.subject, each.payload) for each in messages]
    assert [each.n for each in batches] == list(range(1, len(batches) + 1))
    assert [each.id for batch in batches for each in batch.trades] == [each.id for each in trades]
    for before, after in itertools.pairwise(batches):
        assert after.prev_id == before.trades[-1].id


def test_a_batch_remembers_when_its_first_trade_was_received() -> None:
    lane = feed().lane("BTCUSDT")
    lane.put([trade(1)], received_us=100)
    lane.put([trade(2)], received_us=200)
    (message,) = lane.drain()
    assert codec.text_batch(message.subject, message.payload).received_us == 100
    lane.put([trade(3)], received_us=300)
    (message,) = lane.drain()
    assert codec.text_batch(message.subject, message.payload).received_us == 300


def test_a_feed_delivers_an_id_once() -> None:
    lane = feed().lane("BTCUSDT")
    assert [lane.is_new(each) for each in (5, 6, 5, 3, 7, 3)] == [
        True, True, False, True, True, False,
    ]  # fmt: skip


def test_a_mark_names_every_confirmed_symbol_also_one_that_never_traded() -> None:
    one = feed()
    for symbol in ("A", "B"):
        one.lane(symbol).is_confirmed = True
    one.lane("C")
    sent(one.lane("A"), 10, 11)
    mark = one.mark(99)
    assert mark.symbols == {
        "A": FeedPosition(n=1, id="11"),
        "B": FeedPosition(n=0, id=None),
    }
    assert (mark.received_us, mark.end, mark.simulated) == (99, False, True)
    assert one.mark(100, end=True).end


def test_a_dropped_symbol_leaves_the_marks() -> None:
    one = feed()
    one.lane("A").is_confirmed = True
    one.drop("A")
    assert one.mark(1).symbols == {}
