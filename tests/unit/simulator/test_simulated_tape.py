"""The made-up trades: deterministic, contiguous, plausible."""

from itertools import pairwise

from market_ingestor.simulator.markets import build
from market_ingestor.simulator.tape import Fill, Position, Tape

NOW_US = 1_795_132_800_000_000
SECOND_US = 1_000_000
MARKETS = build("binance", ["BTCUSDT", "ETHUSDT", "DOGEUSDT"])


def tape(seed: str = "7", positions: dict[int, Position] | None = None) -> Tape:
    return Tape(MARKETS, seed=seed, time_step_us=1_000, first_ids=[10, 20, 30], positions=positions)


def timeless(fills: list[Fill]) -> list[tuple[int, int, int, int, bool]]:
    return [(each.market, each.id, each.price, each.amount, each.is_buy) for each in fills]


def test_the_same_seed_gives_the_same_trades_however_they_are_cut() -> None:
    whole = tape().take(500, NOW_US, NOW_US + SECOND_US)
    cut = tape()
    parts = [fill for _ in range(50) for fill in cut.take(10, NOW_US, NOW_US + SECOND_US)]
    assert timeless(whole) == timeless(parts)
    assert timeless(whole) != timeless(tape("8").take(500, NOW_US, NOW_US + SECOND_US))


def test_ids_run_without_a_hole_in_every_market() -> None:
    fills = tape().take(1_000, NOW_US, NOW_US + SECOND_US)
    for market, first in enumerate([10, 20, 30]):
        ids = [fill.id for fill in fills if fill.market == market]
        assert ids == list(range(first, first + len(ids)))
        assert len(ids) > 100


def test_times_ascend_within_the_interval_on_the_venues_grid() -> None:
    fills = tape().take(1_000, NOW_US, NOW_US + SECOND_US)
    times = [fill.time_us for fill in fills]
    assert times == sorted(times)
    assert all(NOW_US <= time_us <= NOW_US + SECOND_US for time_us in times)
    assert all(time_us % 1_000 == 0 for time_us in times)


def test_prices_and_amounts_stay_positive_and_near_the_start() -> None:
    fills = tape().take(20_000, NOW_US, NOW_US + SECOND_US)
    for fill in fills:
        start = MARKETS[fill.market].start_price
        assert start / 2 < fill.price < start * 2
        assert fill.amount >= 1


def test_taker_orders_sweep_several_levels_at_one_time() -> None:
    fills = tape().take(2_000, NOW_US, NOW_US + 100 * SECOND_US)
    sweeps = [
        (left, right)
        for left, right in pairwise(fills)
        if (left.market, left.time_us) == (right.market, right.time_us)
    ]
    assert len(sweeps) > 200
    assert all(left.is_buy == right.is_buy for left, right in sweeps)
    assert any(left.price != right.price for left, right in sweeps)


def test_a_resumed_tape_goes_on_with_the_next_id_and_other_trades() -> None:
    first = tape()
    before = first.take(300, NOW_US, NOW_US + SECOND_US)
    positions = {
        market: Position(last_id=first.last_id(market), price=MARKETS[market].start_price)
        for market in range(3)
    }
    after = tape(positions=positions).take(300, NOW_US, NOW_US + SECOND_US)
    for market in range(3):
        last = max(fill.id for fill in before if fill.market == market)
        assert next(fill.id for fill in after if fill.market == market) == last + 1
    assert [each[2:] for each in timeless(before)] != [each[2:] for each in timeless(after)]


def test_a_stopped_market_does_not_trade() -> None:
    fills = tape().take(200, NOW_US, NOW_US + SECOND_US, stopped={0})
    assert {fill.market for fill in fills} == {1, 2}
    assert tape().take(200, NOW_US, NOW_US + SECOND_US, stopped={0, 1, 2}) == []


def test_hundreds_of_symbols_share_the_trades_evenly() -> None:
    markets = build("binance", [f"S{number:03d}USDT" for number in range(100)])
    many = Tape(markets, seed="1", time_step_us=1_000, first_ids=[1] * 100)
    fills = many.take(50_000, NOW_US, NOW_US + SECOND_US)
    counts = [0] * 100
    for fill in fills:
        counts[fill.market] += 1
    assert min(counts) > 300
    assert max(counts) < 700
