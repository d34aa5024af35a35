"""A live trade is checked against the clock, told from its copies, and counted."""

import pytest

from market_ingestor.connectors.account import Account
from market_ingestor.connectors.feed import Feed, Lane
from market_ingestor.connectors.gaps import GapFinder
from market_ingestor.connectors.intake import US_PER_S, Ages, Gate, Route, Track
from market_ingestor.model.instrument import Instrument, VenueInstrument
from market_ingestor.model.trade import TextTrade, Trade

NOW_US = 1_800_000_000 * US_PER_S
AGES = Ages(max_age_us=60 * US_PER_S, max_ahead_us=5 * US_PER_S)
ANY = Ages(max_age_us=0, max_ahead_us=0)


def track() -> Track:
    venue = VenueInstrument(
        venue_symbol="BTC-USDT", rest_symbol="BTC-USDT", base="BTC", quote="USDT"
    )
    return Track(Instrument(symbol="BTCUSDT", venue=venue), GapFinder(reorder_wait_s=0.2))


def lane(name: str = "a-1") -> Lane:
    feed = Feed(name, "okx", source="ws", has_contiguous_ids=True, simulated=False)
    return feed.lane("BTCUSDT")


def trade(number: int, time_us: int = NOW_US) -> TextTrade:
    return Trade(id=str(number), price="1", amount="1", side="buy", time_us=time_us)


def take(route: Route, account: Account, *trades: TextTrade, ages: Ages = AGES) -> list[str]:
    gate = Gate(ages, account, has_contiguous_ids=True)
    fit = gate.accept(route, trades, NOW_US, 0.0)
    assert account.balances
    return [each.id for each in fit]


@pytest.mark.parametrize(
    ("offset_s", "reason"), [(-60, None), (-61, "too_old"), (5, None), (6, "too_far_ahead")]
)
def test_live_trades_are_bounded_in_time(offset_s: int, reason: str | None) -> None:
    account = Account()
    time_us = NOW_US + offset_s * US_PER_S
    fit = take(Route(track(), lane()), account, trade(1, time_us))
    assert fit == ([] if reason else ["1"])
    assert dict(account.rejected) == ({reason: 1} if reason else {})


def test_zero_means_any_age() -> None:
    times = (0, 2 * NOW_US)
    trades = [trade(number, time_us) for number, time_us in enumerate(times, 1)]
    assert take(Route(track(), lane()), Account(), *trades, ages=ANY) == ["1", "2"]


def test_copies_within_a_feed_are_dropped_and_counted() -> None:
    account = Account()
    route = Route(track(), lane())
    assert take(route, account, trade(1), trade(2), trade(1)) == ["1", "2"]
    assert take(route, account, trade(2), trade(3)) == ["3"]
    assert (account.received, account.duplicates, account.in_flight) == (5, 2, 3)


def test_copies_from_another_feed_go_out_too() -> None:
    account, shared = Account(), track()
    assert take(Route(shared, lane("a-1")), account, trade(1), trade(2)) == ["1", "2"]
    assert take(Route(shared, lane("a-2")), account, trade(2), trade(3)) == ["2", "3"]
    assert account.duplicates == 0


def test_late_ids_are_not_taken_for_copies() -> None:
    assert take(Route(track(), lane()), Account(), trade(3), trade(1), trade(2)) == ["3", "1", "2"]


def test_a_rejected_trade_leaves_a_hole_to_be_seen() -> None:
    route = Route(track(), lane())
    take(route, Account(), trade(1), trade(2, time_us=0), trade(3))
    assert [(each.after_id, each.before_id) for each in route.track.finder.due(1.0)] == [(1, 3)]


def test_silence_is_judged_by_a_symbols_own_rate() -> None:
    busy, quiet = track(), track()
    for second in range(200):
        busy.traded(NOW_US + second * US_PER_S // 10)
        quiet.traded(NOW_US + second * 60 * US_PER_S)
    assert busy.silence_max_us() == 60 * US_PER_S
    limit = quiet.silence_max_us()
    assert limit is not None
    assert limit > 20 * 60 * US_PER_S


def test_a_symbol_that_hardly_traded_is_not_judged() -> None:
    assert track().silence_max_us() is None
