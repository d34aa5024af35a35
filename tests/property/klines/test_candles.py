"""What must hold for every set of trades, in every order and every cut."""

from decimal import Decimal
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.candle import fold_of, identity, kline_of
from market_ingestor.klines.columns import Columns
from market_ingestor.klines.facts import BatchFacts, Rules
from market_ingestor.klines.watermark import Watermark
from market_ingestor.klines.window import Fold
from market_ingestor.model.intervals import IdIntervals
from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import Side

T0 = 1_763_676_000_000
MINUTE = 60_000
SPAN_US = 12 * MINUTE * 1_000
NEVER_LATE = Rules(periods=("1m", "3m", "5m"), lateness_us=10 * SPAN_US, hold_us=10_000_000)

numbers = st.decimals(
    min_value="0.0000000001", max_value="999999999999", allow_nan=False, places=10
)


class OneTrade(NamedTuple):
    trade_id: int
    time_us: int
    price: Decimal
    amount: Decimal
    side: Side | None


def columns_of(trades: list[OneTrade]) -> Columns:
    return Columns(
        [each.trade_id for each in trades],
        [each.time_us for each in trades],
        [each.price for each in trades],
        [each.amount for each in trades],
        [each.side for each in trades],
    )


@st.composite
def trade_sets(draw: st.DrawFn) -> list[OneTrade]:
    """Return trades with ids of their own, contiguous or not, times in any order."""
    ids = draw(
        st.one_of(
            st.integers(1, 10**18).flatmap(
                lambda first: st.integers(1, 15).map(lambda n: list(range(first, first + n)))
            ),
            st.lists(st.integers(1, 500), min_size=1, max_size=15, unique=True),
        )
    )
    return [
        OneTrade(
            each,
            T0 * 1_000 + draw(st.integers(0, SPAN_US - 1)),
            draw(numbers),
            draw(numbers),
            draw(st.sampled_from(("buy", "sell", None))),
        )
        for each in ids
    ]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[OneTrade], list[list[OneTrade]]]:
    """Return trades, and batches that hold each at least once, in any order."""
    trades = draw(trade_sets())
    copies = draw(st.lists(st.sampled_from(trades), max_size=8))
    order = draw(st.permutations(trades + copies))
    batches: list[list[OneTrade]] = []
    while order:
        count = draw(st.integers(1, len(order)))
        batches.append(list(order[:count]))
        order = order[count:]
    return trades, batches


def candles(batches: list[list[OneTrade]], *, has_ids: bool = True) -> dict[tuple[str, int], Kline]:
    """Return what closes when these batches are read and time then passes."""
    aggregator = Aggregator("okx", "BTCUSDT", NEVER_LATE)
    closings = []
    for number, batch in enumerate(batches, start=1):
        facts = BatchFacts("f", number, "ws", T0 * 1_000, 1 if has_ids and number > 1 else None)
        closings += aggregator.batch(facts, columns_of(batch), number)
    closings += aggregator.silence(30 * SPAN_US, len(batches))
    assert not [each for each in closings if each.is_tainted]
    return {
        (each.period, each.open_time): kline_of(
            each.fold, "okx", "BTCUSDT", each.period, each.open_time, complete=True, revision=1
        )
        for each in closings
    }


def direct(trades: list[OneTrade], minutes: int, period: str) -> dict[tuple[str, int], Kline]:
    """Return the candles of a period straight from the trades."""
    length = minutes * MINUTE
    rows: dict[int, list[OneTrade]] = {}
    for trade in trades:
        rows.setdefault(trade.time_us // 1_000 // length * length, []).append(trade)
    return {
        (period, opened): kline_of(
            Fold.of(columns_of(members)),
            "okx",
            "BTCUSDT",
            period,
            opened,
            complete=True,
            revision=1,
        )
        for opened, members in rows.items()
    }


@given(deliveries(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_order_copies_and_cuts_of_batches_change_no_candle(
    delivered: tuple[list[OneTrade], list[list[OneTrade]]], has_ids: bool
) -> None:
    trades, batches = delivered
    wanted = direct(trades, 1, "1m") | direct(trades, 3, "3m") | direct(trades, 5, "5m")
    assert candles(batches, has_ids=has_ids) == wanted


@given(trade_sets())
@settings(max_examples=100, deadline=None)
def test_a_longer_candle_by_merging_minutes_equals_the_direct_one(trades: list[OneTrade]) -> None:
    minutes = direct(trades, 1, "1m")
    for (_, opened), wanted in direct(trades, 5, "5m").items():
        total: Fold | None = None
        for (_, minute), kline in minutes.items():
            if opened <= minute < opened + 5 * MINUTE:
                if total is None:
                    total = fold_of(kline)
                else:
                    total.absorb(fold_of(kline))
        assert total is not None
        merged = kline_of(total, "okx", "BTCUSDT", "5m", opened, complete=True, revision=1)
        assert merged == wanted
        assert identity(merged) == identity(wanted)


@given(trade_sets())
@settings(max_examples=100, deadline=None)
def test_prices_lie_between_low_and_high_and_sums_are_exact(trades: list[OneTrade]) -> None:
    for kline in direct(trades, 1, "1m").values():
        fold = fold_of(kline)
        assert fold.low <= min(fold.open, fold.close)
        assert fold.high >= max(fold.open, fold.close)
        assert fold.buy_volume <= fold.volume
        assert fold.buy_quote_volume <= fold.quote_volume
    every = Fold.of(columns_of(trades))
    assert every.volume == sum((each.amount for each in reversed(trades)), Decimal(0))
    assert every.quote_volume == sum(
        (each.amount * each.price for each in sorted(trades)), Decimal(0)
    )


steps = st.tuples(
    st.sampled_from(("a", "b")),
    st.integers(0, 10**10),
    st.lists(st.integers(0, 10**11), max_size=4),
    st.integers(0, 10**10),
)


@given(st.lists(steps, max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_watermark_never_goes_back(
    course: list[tuple[str, int, list[int], int]],
) -> None:
    watermark = Watermark(2_000_000)
    before = None
    trade_id = 0
    for feed, received_us, times, elapsed_us in course:
        if times:
            ids = list(range(trade_id + 1, trade_id + 1 + len(times)))
            trade_id += len(times)
            watermark.trades(feed, received_us, times, ids)
        watermark.elapse(elapsed_us)
        assert before is None or (watermark.value_us is not None and watermark.value_us >= before)
        before = watermark.value_us


ranges = st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda each: (each[0], sum(each)))


@given(st.lists(ranges, max_size=30))
@settings(max_examples=100, deadline=None)
def test_intervals_are_the_set_they_stand_for(added: list[tuple[int, int]]) -> None:
    intervals, model = IdIntervals(), set[int]()
    for first, last in added:
        fresh = set(range(first, last + 1)) - model
        assert intervals.add_range(first, last) == len(fresh)
        model |= fresh
    assert {each for first, last in intervals for each in range(first, last + 1)} == model
