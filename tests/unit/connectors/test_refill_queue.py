"""Newest holes first, neighbours together, never more than the bound."""

from market_ingestor.connectors.gaps import JOIN_IDS, FoundGap, GapFinder
from market_ingestor.connectors.intake import Track
from market_ingestor.connectors.refill_queue import LATE_ATTEMPTS_MAX, Hole, RefillQueue
from market_ingestor.model.instrument import Instrument, VenueInstrument


def track(symbol: str = "A") -> Track:
    venue = VenueInstrument(venue_symbol=symbol, rest_symbol=symbol, base=symbol, quote="")
    return Track(Instrument(symbol=symbol, venue=venue), GapFinder(reorder_wait_s=0))


def hole(owner: Track, after: int, before: int, *, not_before: float = 0.0) -> Hole:
    gap = FoundGap(
        after_id=after,
        before_id=before,
        missing=before - after - 1,
        from_time_us=after,
        to_time_us=before,
    )
    return Hole(track=owner, gap=gap, not_before=not_before)


def queue(*holes: Hole, holes_max: int = 100) -> RefillQueue:
    made = RefillQueue(holes_max)
    for each in holes:
        made.put(each)
    return made


def test_the_newest_hole_comes_first_whatever_its_symbol() -> None:
    old, new = hole(track("A"), 10, 20), hole(track("B"), 5_000, 5_010)
    made = queue(new, old)
    assert [made.take(0.0), made.take(0.0), made.take(0.0)] == [[new], [old], []]


def test_neighbouring_holes_of_a_symbol_are_one_walk() -> None:
    one, other = track(), track("B")
    first, second = hole(one, 10, 12), hole(one, 12 + JOIN_IDS - 1, 12 + JOIN_IDS + 5)
    far = hole(one, 9_000, 9_001)
    foreign = hole(other, 11, 13)
    made = queue(second, far, first, foreign)
    assert made.take(0.0) == [far]
    assert made.take(0.0) == [first, second]
    assert made.take(0.0) == [foreign]


def test_a_hole_put_off_waits_while_others_go_on() -> None:
    later, now = hole(track(), 10, 20, not_before=5.0), hole(track("B"), 1, 3)
    made = queue(later, now)
    assert made.take(0.0) == [now]
    assert made.take(0.0) == []
    assert made.next_at() == 5.0
    assert made.take(5.0) == [later]
    assert made.next_at() is None


def test_a_walk_learns_of_newer_holes() -> None:
    old, new = hole(track(), 10, 20), hole(track(), 30, 40, not_before=5.0)
    made = queue(new)
    assert not made.has_newer(old, 0.0)
    assert made.has_newer(old, 5.0)
    assert not made.has_newer(hole(track(), 50, 60), 5.0)


def test_beyond_the_bound_the_oldest_hole_is_given_up() -> None:
    old, new = hole(track(), 10, 20), hole(track(), 30, 40)
    made = queue(new, holes_max=1)
    assert made.put(old) is old
    assert len(made) == 1


def test_late_history_is_asked_for_again_with_growing_waits_and_not_for_ever() -> None:
    one = hole(track(), 10, 20)
    waits = []
    while one.try_later(100.0):
        waits.append(one.not_before - 100.0)
    assert waits == [2.0**n for n in range(LATE_ATTEMPTS_MAX - 1)]
    assert one.late == LATE_ATTEMPTS_MAX


def test_a_hole_whose_walks_fail_makes_way_for_others() -> None:
    one = hole(track(), 10, 20)
    waits = []
    for _ in range(8):
        one.put_off(100.0)
        waits.append(one.not_before - 100.0)
    assert waits == [0, 1, 3, 7, 15, 31, 60, 60]
