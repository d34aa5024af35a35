"""A jump becomes a gap when nothing filled it in time; what is settled is not asked for again."""

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.connectors.gaps import ID_RESET, Finding, FoundGap, GapFinder, IdReset

WAIT_S = 0.2
LATER = 10.0


def finder(*ids: int) -> GapFinder:
    made = GapFinder(reorder_wait_s=WAIT_S)
    for each in ids:
        made.observe(each, each * 1000, 0.0)
    return made


def gap(after: int, before: int, missing: int | None = None) -> FoundGap:
    return FoundGap(
        after_id=after,
        before_id=before,
        missing=before - after - 1 if missing is None else missing,
        from_time_us=after * 1000,
        to_time_us=before * 1000,
    )


def keys(findings: list[Finding]) -> list[tuple[int, int]]:
    return [(each.after_id, each.before_id) for each in findings]


def test_contiguous_ids_make_no_gap() -> None:
    made = finder(*range(100, 200))
    assert not made.needs_look
    assert made.due(LATER) == []


def test_a_jump_is_a_gap_after_the_reorder_wait_and_only_once() -> None:
    made = finder(10, 14)
    assert made.due(WAIT_S - 0.01) == []
    assert made.due(WAIT_S) == [gap(10, 14)]
    assert made.due(LATER) == []


def test_there_is_something_to_look_at_until_it_is_decided() -> None:
    made = finder(10, 14)
    looks = [made.needs_look]
    made.due(LATER)
    looks.append(made.needs_look)
    assert looks == [True, False]


def test_what_arrives_within_the_wait_is_no_gap() -> None:
    made = finder(10, 14, 12, 11, 13)
    assert made.due(LATER) == []


def test_of_a_jump_filled_in_part_the_rest_is_one_gap() -> None:
    made = finder(10, 20, 15)
    assert made.due(LATER) == [
        FoundGap(after_id=10, before_id=20, missing=8, from_time_us=10_000, to_time_us=20_000)
    ]


def test_another_feed_of_the_process_fills_the_jump() -> None:
    made = finder(101, 103)
    made.observe(102, 102_000, 0.1)  # the second socket is slower
    assert made.due(LATER) == []


def test_neighbouring_holes_are_joined_and_far_ones_are_not() -> None:
    made = finder(10, 12, 14, 16)
    assert made.due(LATER) == [gap(10, 16, missing=3)]
    made = finder(10, 12, *range(13, 5_000), 5_001)
    assert keys(made.due(LATER)) == [(10, 12), (4_999, 5_001)]


def test_a_jump_of_over_a_million_is_a_new_numbering() -> None:
    made = finder(10, 11 + ID_RESET + 1)
    (finding,) = made.due(LATER)
    assert isinstance(finding, IdReset)
    made.observe(11 + ID_RESET + 2, 0, LATER)
    made.observe(11 + ID_RESET + 4, 0, LATER)
    assert keys(made.due(2 * LATER)) == [(11 + ID_RESET + 2, 11 + ID_RESET + 4)]


def test_a_jump_of_a_million_is_a_gap() -> None:
    (finding,) = finder(10, 11 + ID_RESET).due(LATER)
    assert isinstance(finding, FoundGap)
    assert finding.missing == ID_RESET


def test_older_ids_than_any_known_are_no_hole_of_ours() -> None:
    assert finder(100, 50).due(LATER) == []


def test_a_heartbeat_above_the_last_trade_is_a_gap_even_before_the_next_trade() -> None:
    made = finder(10)
    made.heard(12, 999_000, 0.0)
    assert made.due(WAIT_S / 2) == []
    (finding,) = made.due(LATER)
    assert (finding.after_id, finding.before_id) == (10, 13)
    made.observe(13, 13_000, LATER)
    assert made.due(2 * LATER) == []


def test_a_heartbeat_that_overtook_its_trade_is_no_gap() -> None:
    made = finder(10)
    made.heard(11, 0, 0.0)
    made.observe(11, 11_000, 0.05)
    assert made.due(LATER) == []


def test_heartbeats_that_repeat_make_one_gap() -> None:
    made = finder(10)
    for second in range(5):
        made.heard(12, 0, float(second))
    assert keys(made.due(LATER)) == [(10, 13)]


def test_the_first_heartbeat_is_an_anchor() -> None:
    made = finder()
    made.heard(50, 0, 0.0)
    assert made.due(LATER) == []
    made.observe(53, 53_000, 0.0)
    assert keys(made.due(LATER)) == [(50, 53)]


def test_an_anchor_is_not_a_trade_that_we_have() -> None:
    made = finder()
    made.heard(50, 50_000, 0.0)
    made.restore([(40, 45)], lambda trade_id: trade_id * 1000, 0.0)
    assert keys(made.due(LATER)) == [(45, 51)]


def test_an_anchor_between_the_stream_and_the_first_trade_is_missing_too() -> None:
    made = finder()
    made.heard(50, 50_000, 0.0)
    made.observe(51, 51_000, 0.0)
    made.restore([(40, 45)], lambda trade_id: trade_id * 1000, 0.0)
    (finding,) = made.due(LATER)
    assert isinstance(finding, FoundGap)
    assert (finding.after_id, finding.before_id, finding.missing) == (45, 51, 5)


def test_settled_ids_are_not_found_again() -> None:
    made = finder(10, 14)
    made.due(LATER)
    made.add(11, 13)
    made.restore([(9, 10), (14, 14)], lambda _: 0, LATER)
    assert made.due(2 * LATER) == []
    assert made.missing(10, 14) == []


def test_every_hole_of_the_stream_up_to_the_first_live_id_is_found() -> None:
    made = finder(120)
    made.restore([(100, 104), (107, 110)], lambda trade_id: trade_id * 1000, 0.0)
    assert made.due(LATER) == [
        FoundGap(after_id=104, before_id=120, missing=11, from_time_us=104_000, to_time_us=120_000)
    ]


def test_the_time_of_a_live_id_is_not_taken_from_the_stream() -> None:
    made = GapFinder(reorder_wait_s=WAIT_S)
    made.observe(120, 900_000, 0.0)
    made.restore([(100, 110)], lambda _: 5_000, 0.0)  # all it knows is older by hours
    (finding,) = made.due(LATER)
    assert (finding.from_time_us, finding.to_time_us) == (5_000, 900_000)


def test_the_first_live_id_may_come_after_the_stream_was_read() -> None:
    made = finder()
    made.restore([(100, 110)], lambda trade_id: trade_id * 1000, 0.0)
    made.observe(115, 115_000, 1.0)
    assert made.due(LATER) == [gap(110, 115)]


def test_a_hole_found_by_restore_and_live_is_one() -> None:
    made = finder()
    made.restore([(100, 110)], lambda trade_id: trade_id * 1000, 0.0)
    made.observe(115, 115_000, 0.0)
    made.restore([(100, 110)], lambda trade_id: trade_id * 1000, 0.0)
    assert keys(made.due(LATER)) == [(110, 115)]


def test_what_was_given_up_before_is_not_found_again() -> None:
    made = finder(115)
    known = [(100, 104), (107, 107), (109, 110), (112, 112)]
    given_up = [gap(104, 109, missing=3), gap(112, 115)]  # 107 came while it was asked for
    made.restore(known, lambda trade_id: trade_id * 1000, 0.0, given_up)
    assert keys(made.due(LATER)) == [(110, 112)]


def test_what_was_given_up_is_settled_and_not_there() -> None:
    made = finder(100, 110)
    made.add(103, 104)
    made.give_up(100, 107)
    assert made.missing(100, 110) == [(107, 109)]
    assert made.given_up(100, 107) == made.given_up(99, 110) == 4
    assert made.given_up(102, 105) == made.given_up(106, 110) == 0
    made.restore([], lambda trade_id: trade_id * 1000, 0.0, [gap(106, 110)])
    assert made.given_up(100, 110) == 7


def test_what_was_given_up_with_trades_in_flight_is_asked_for_again() -> None:
    made = finder(115)
    given_up = [gap(104, 109, missing=3)]  # its owner had 107 too, and died
    made.restore([(100, 104), (109, 115)], lambda trade_id: trade_id * 1000, 0.0, given_up)
    assert keys(made.due(LATER)) == [(104, 109)]


def test_what_lies_below_all_that_was_read_is_not_missing() -> None:
    made = finder(120)
    known = [(10, 20), (40, 45), (100, 104), (107, 110)]  # refills, and from 100 on what came live
    made.restore(known, lambda trade_id: trade_id * 1000, 0.0, begin=100)
    assert keys(made.due(LATER)) == [(104, 120)]
    assert made.missing(20, 40) == [(21, 39)]  # for a hole of which an event tells


def test_what_was_given_up_before_anything_we_know_is_left_alone() -> None:
    made = finder()
    known = [(100, 104), (107, 110)]
    made.restore(known, lambda trade_id: trade_id * 1000, 0.0, [gap(10, 15)])
    assert keys(made.due(LATER)) == [(104, 107)]


@given(st.lists(st.integers(min_value=0, max_value=60), min_size=1, max_size=60))
def test_gaps_cover_exactly_what_is_missing_above_the_lowest(ids: list[int]) -> None:
    made = finder(*ids)
    first = ids[0]
    found: set[int] = set()
    for finding in made.due(LATER):
        assert isinstance(finding, FoundGap)
        missing = {
            each
            for begin, end in made.missing(finding.after_id, finding.before_id)
            for each in range(begin, end + 1)
        }
        assert finding.missing == len(missing)
        assert not found & missing
        found |= missing
    # What lies below the id that was first to arrive was never promised.
    assert {each for each in range(first, max(ids)) if each not in ids} <= found
    assert not found & set(ids)


def test_a_stopped_finder_finds_nothing_and_still_knows_ids() -> None:
    finder = GapFinder(reorder_wait_s=0.2)
    for each in (1, 5):
        finder.observe(each, 0, 0.0)
    finder.stop()
    for each in (9, 5_000_000):
        finder.observe(each, 0, 0.0)
    finder.heard(5_000_100, 0, 0.0)
    assert finder.due(10.0) == []
    assert not finder.needs_look
    assert 9 in finder
    assert finder.newest == 5_000_000
