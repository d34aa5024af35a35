"""Rolling statistics equal what a plain list of all trades says, however they arrive."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.klines.sliding import BUCKET_US, WINDOWS
from market_ingestor.klines.stats import RollingStats
from market_ingestor.model.decimals import ZERO, average, canonical
from market_ingestor.model.stats import WindowStats
from tests.unit.klines.build import T0, columns

TRADE = st.tuples(
    st.integers(0, 400_000),  # milliseconds after T0
    st.integers(1, 10**6).map(lambda n: str(Decimal(n).scaleb(-3))),
    st.integers(0, 10**9).map(lambda n: str(Decimal(n).scaleb(-8))),
)
BATCHES = st.lists(st.tuples(st.lists(TRADE, min_size=1, max_size=12), st.booleans()), max_size=25)


def plainly(seen: list[tuple[int, Decimal, Decimal]], now_us: int, length: int) -> WindowStats:
    """Return a window by looking at every trade."""
    begin = (now_us // BUCKET_US - length + 1) * BUCKET_US
    inside = [(price, amount) for time_us, price, amount in seen if time_us >= begin]
    prices = [price for price, _ in inside]
    volume = sum((amount for _, amount in inside), ZERO)
    return WindowStats(
        average=average(sum(prices, ZERO), Decimal(len(prices))),
        vwap=average(sum((price * amount for price, amount in inside), ZERO), volume),
        high=canonical(max(prices)) if prices else None,
        low=canonical(min(prices)) if prices else None,
        volume=canonical(volume),
        trade_count=len(inside),
    )


@given(batches=BATCHES, idle_ms=st.integers(0, 400_000))
def test_windows_equal_a_look_at_every_trade(
    batches: list[tuple[list[tuple[int, str, str]], bool]], idle_ms: int
) -> None:
    stats = RollingStats("binance", "BTCUSDT")
    seen: list[tuple[int, Decimal, Decimal]] = []
    now_us = number = 0
    for rows, is_asked in batches:
        batch = columns(*((number + row, *each) for row, each in enumerate(rows)))
        number += len(rows)
        now_us = max(now_us, *batch.times)
        seen += zip(batch.times, batch.prices, batch.amounts, strict=True)
        stats.take([batch], now_us)
        if is_asked:
            check(stats, seen, now_us)
    stats.advance(max(now_us, T0 * 1_000) + idle_ms * 1_000)
    if seen:
        check(stats, seen, now_us + idle_ms * 1_000)


def check(stats: RollingStats, seen: list[tuple[int, Decimal, Decimal]], now_us: int) -> None:
    told = stats.stats([])
    assert told is not None
    assert told.time_us == now_us
    assert told.windows == {name: plainly(seen, now_us, n) for name, n in WINDOWS.items()}
