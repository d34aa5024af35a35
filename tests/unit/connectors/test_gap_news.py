"""What events say became of gaps: who asks again for one, and who settles it."""

import msgspec

from market_ingestor.connectors.gap_news import KEPT_MAX, Orphans, SaidGaps, key_of
from market_ingestor.model.event import EventType, MarketEvent

BTC, ETH = "BTCUSDT", "ETHUSDT"


def gap_event(
    kind: EventType, after: int, before: int, symbol: str = BTC, missing: int | None = None
) -> MarketEvent:
    return MarketEvent(
        v=1,
        exchange="okx",
        symbol=symbol,
        type=kind,
        time_us=0,
        after_id=str(after),
        before_id=str(before),
        missing=before - after - 1 if missing is None else missing,
        from_time=1,
        to_time=2,
        detail="",
    )


def said(*told: MarketEvent) -> SaidGaps:
    gaps = SaidGaps()
    for event in told:
        gaps.take(event)
    return gaps


def test_gaps_found_and_never_settled_are_still_open() -> None:
    gaps = said(
        gap_event("gap_found", 10, 15),
        gap_event("gap_found", 20, 25),
        gap_event("gap_found", 30, 35),
        gap_event("gap_filled", 10, 15),
        gap_event("gap_unfillable", 30, 35),
        gap_event("gap_found", 1, 3, symbol=ETH),
    )
    (still,) = gaps.open(BTC)
    assert (still.after_id, still.before_id, still.missing) == (20, 25, 4)
    assert (still.from_time_us, still.to_time_us) == (1_000, 2_999)
    assert len(gaps.open(ETH)) == 1


def test_gaps_given_up_are_remembered_until_they_are_filled() -> None:
    gaps = said(
        gap_event("gap_found", 10, 15),
        gap_event("gap_unfillable", 10, 15, missing=2),
        gap_event("gap_found", 20, 25),
        gap_event("gap_unfillable", 20, 25),
        gap_event("gap_filled", 20, 25),
    )
    (given_up,) = gaps.given_up(BTC)
    assert (given_up.after_id, given_up.before_id, given_up.missing) == (10, 15, 2)
    assert gaps.open(BTC) == []
    gaps.take(gap_event("gap_found", 10, 15))
    assert gaps.given_up(BTC) == []


def test_a_new_numbering_is_no_gap_to_be_remembered() -> None:
    reset = msgspec.structs.replace(gap_event("gap_unfillable", 10, 10**9), missing=None)
    assert said(reset).given_up(BTC) == []


def test_events_about_feeds_are_no_gaps() -> None:
    about_feed = msgspec.structs.replace(gap_event("feed_up", 0, 0), after_id=None, before_id=None)
    assert said(about_feed).open(BTC) == []


def test_of_very_many_gaps_the_oldest_are_forgotten() -> None:
    gaps = said(*(gap_event("gap_found", each, each + 2) for each in range(KEPT_MAX + 1)))
    assert [gap.after_id for gap in gaps.open(BTC)] == list(range(1, KEPT_MAX + 1))


def test_a_gap_is_left_behind_when_it_is_nobodys_for_two_looks() -> None:
    orphans, gaps = Orphans(), said(gap_event("gap_found", 10, 15), gap_event("gap_found", 1, 3))
    left, ours = gaps.open(BTC)
    mine = {key_of(BTC, ours)}
    assert orphans.look(gaps, [BTC], mine) == []
    assert orphans.look(gaps, [BTC], mine) == [(BTC, left)]
    # Whoever took it over has it from then on, and settles it before the look after the next.
    gaps.take(gap_event("gap_filled", 10, 15))
    assert orphans.look(gaps, [BTC], mine) == []
    assert orphans.look(gaps, [BTC], mine) == []


def test_a_gap_that_was_settled_between_two_looks_is_not_left_behind() -> None:
    orphans, gaps = Orphans(), said(gap_event("gap_found", 10, 15))
    assert orphans.look(gaps, [BTC], set()) == []
    gaps.take(gap_event("gap_unfillable", 10, 15))
    assert orphans.look(gaps, [BTC], set()) == []


def test_gaps_of_symbols_that_are_not_carried_are_not_ours_to_settle() -> None:
    orphans, gaps = Orphans(), said(gap_event("gap_found", 10, 15))
    assert orphans.look(gaps, [ETH], set()) == []
    assert orphans.look(gaps, [ETH], set()) == []
