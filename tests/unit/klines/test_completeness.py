"""Rules of `klines.completeness`."""

import pytest

from market_ingestor.klines.completeness import HOLES_MAX, LOST_MAX, RESET, Completeness, Evidence
from market_ingestor.klines.holes import Change, Hole, runs
from market_ingestor.model.trade import Source
from tests.unit.klines.build import SECOND, T0, Row, columns


def at(ms: int) -> int:
    return (T0 + ms) * 1_000


class Reader:
    """Feeds batches to one `Completeness`."""

    def __init__(self) -> None:
        self.state = Completeness()

    def read(
        self, *rows: Row, prev: int | None = None, source: Source = "ws", n: int = 1
    ) -> list[Change]:
        return self.state.read(columns(*rows), prev, source, n)

    def judge(self, first: int, last: int) -> Evidence:
        return self.state.judge(at(first), at(last))

    @property
    def missing(self) -> list[tuple[int, int]]:
        return [(hole.after_id, hole.before_id) for hole in self.state.holes]


@pytest.fixture
def reader() -> Reader:
    reader = Reader()
    reader.read((10, 0))
    reader.read((11, 1_000), (12, 2_000), prev=10)
    return reader


def test_ids_without_a_jump_make_no_hole(reader: Reader) -> None:
    assert reader.read((13, 3_000), prev=12) == []
    assert reader.state.holes == []
    assert reader.state.is_contiguous


def test_a_jump_is_a_hole_between_its_neighbours(reader: Reader) -> None:
    changes = reader.read((15, 5_000), prev=12)
    assert reader.state.holes == [Hole(12, 15, at(2_000), at(5_000))]
    assert changes == [Change("gap", at(2_000), at(5_000))]


def test_a_jump_that_the_feed_itself_reports_is_a_hole_too(reader: Reader) -> None:
    reader.read((15, 5_000), prev=14)
    assert reader.missing == [(12, 15)]


def test_an_id_read_within_a_hole_splits_it(reader: Reader) -> None:
    reader.read((20, 9_000), prev=12)
    assert reader.read((16, 6_000), prev=15) == []
    assert reader.state.holes == [
        Hole(12, 16, at(2_000), at(6_000)),
        Hole(16, 20, at(6_000), at(9_000)),
    ]


def test_a_hole_shrinks_from_both_ends_and_closes(reader: Reader) -> None:
    reader.read((16, 6_000), prev=12)
    assert reader.read((13, 3_000), prev=12) == [Change("repair", at(2_000), at(3_000))]
    assert reader.read((15, 5_000), prev=14) == [Change("repair", at(5_000), at(6_000))]
    assert reader.missing == [(13, 15)]
    assert reader.read((14, 4_000), prev=13) == [
        Change("repair", at(3_000), at(4_000)),
        Change("repair", at(4_000), at(5_000)),
    ]
    assert reader.state.holes == []


def test_neighbours_in_a_rest_answer_are_neighbours_at_the_venue(reader: Reader) -> None:
    reader.read((30, 9_000), prev=12)
    reader.read((15, 4_000), (20, 6_000), prev=12, source="rest")
    assert reader.missing == [(20, 30)]
    reader.read((28, 8_000), (30, 9_000), prev=20, source="rest")
    assert reader.state.holes == []


def test_a_rest_answer_out_of_order_proves_no_neighbours(reader: Reader) -> None:
    reader.read((30, 9_000), prev=12)
    reader.read((20, 6_000), (15, 4_000), prev=12, source="rest")
    assert reader.missing == [(12, 15), (15, 20), (20, 30)]


def test_one_run_may_close_several_holes(reader: Reader) -> None:
    reader.read((14, 3_000), (16, 4_000), (18, 5_000), prev=12)
    assert reader.missing == [(12, 14), (14, 16), (16, 18)]
    reader.read(*((number, 4_000) for number in range(13, 18)), prev=12)
    assert reader.state.holes == []


def test_ids_read_again_change_nothing(reader: Reader) -> None:
    reader.read((15, 5_000), prev=12)
    for _ in range(2):
        assert reader.read((10, 0), (11, 1_000), prev=None) == []
        assert reader.read((15, 5_000), prev=12) == []
    assert reader.missing == [(12, 15)]


def test_a_jump_of_more_than_a_million_is_a_new_sequence_of_ids(reader: Reader) -> None:
    assert reader.read((12 + RESET + 1, 5_000), prev=12) == []
    assert reader.state.holes == []
    assert reader.judge(1_000, 3_000) is Evidence.UNKNOWN


def test_made_up_ids_are_not_taken_for_contiguous_ones() -> None:
    reader = Reader()
    base = T0 * 1_000_000
    reader.read((base, 0), (base + 1, 0), (base + 1_000_000, 1))
    reader.read((base + 5_000_000_000, 5_000))
    assert not reader.state.is_contiguous
    assert reader.state.holes == []


def test_ids_that_continue_over_a_second_are_contiguous() -> None:
    reader = Reader()
    reader.read((1, 0))
    reader.read((2, 1_500))
    assert reader.state.is_contiguous


def test_a_span_is_proven_once_its_end_was_confirmed(reader: Reader) -> None:
    assert reader.judge(1_000, 2_000) is Evidence.UNCONFIRMED
    reader.state.confirm(at(2_000))
    assert reader.judge(1_000, 2_000) is Evidence.PROVEN
    assert reader.judge(1_000, 3_000) is Evidence.UNCONFIRMED


def test_a_span_that_begins_before_the_first_trade_read_is_unknown(reader: Reader) -> None:
    reader.state.confirm(at(60_000))
    assert reader.judge(-1, 2_000) is Evidence.UNKNOWN
    assert reader.judge(0, 2_000) is Evidence.PROVEN


def test_a_span_over_a_hole_is_holed_its_neighbours_are_not(reader: Reader) -> None:
    reader.read((20, 20_000), prev=12)
    reader.read((21, 30_000), prev=20)
    reader.state.confirm(at(60_000))
    assert reader.judge(0, 2_000) is Evidence.PROVEN
    assert reader.judge(0, 2_001) is Evidence.HOLED
    assert reader.judge(10_000, 11_000) is Evidence.HOLED
    assert reader.judge(20_000, 25_000) is Evidence.HOLED
    assert reader.judge(20_001, 25_000) is Evidence.PROVEN


def test_without_ids_a_span_needs_one_feed_up_through_it() -> None:
    reader = Reader()
    for second in range(61):
        reader.state.feeds.heard("a", at(second * SECOND))
    assert reader.judge(0, 60_000) is Evidence.PROVEN
    assert reader.judge(-1_000, 59_000) is Evidence.UNKNOWN


def test_trades_found_in_the_database_close_holes(reader: Reader) -> None:
    reader.read((15, 5_000), prev=12)
    reader.state.stored(columns((12, 2_000), (13, 3_000), (14, 4_000)))
    assert reader.state.holes == []


def test_holes_are_bounded_and_what_is_forgotten_cannot_be_proven(reader: Reader) -> None:
    for number in range(HOLES_MAX + 10):
        reader.read((20 + 2 * number, 3_000 + number), prev=12)
    assert len(reader.state.holes) == HOLES_MAX
    assert forgotten(reader) == Hole(12, 38, at(2_000), at(3_009))
    reader.state.confirm(at(60_000))
    reader.state.holes.clear()
    assert reader.judge(0, 1_500) is Evidence.PROVEN
    assert reader.judge(3_000, 3_500) is Evidence.UNKNOWN
    assert reader.judge(3_010, 3_500) is Evidence.PROVEN


def forgotten(reader: Reader) -> Hole | None:
    return None if reader.state.forgotten is None else reader.state.forgotten.span


@pytest.fixture
def crowded() -> Reader:
    """Give holes at 12-20, 20-22, .. of which the first forty were forgotten."""
    reader = Reader()
    reader.read((10, 0))
    reader.read((12, 2_000), prev=10)
    reader.state.holes.clear()
    for number in range(HOLES_MAX + 40):
        reader.read((20 + 2 * number, 3_000 + number), prev=12)
    return reader


def test_what_the_database_has_after_all_is_forgotten_no_more(crowded: Reader) -> None:
    assert forgotten(crowded) == Hole(12, 98, at(2_000), at(3_039))
    crowded.state.holes.clear()
    assert crowded.state.recall([], is_all=True) == (at(2_000), at(3_039))
    assert forgotten(crowded) is None
    crowded.state.confirm(at(60_000))
    assert crowded.judge(2_000, 3_039) is Evidence.PROVEN


def test_what_the_database_lacks_is_a_hole_again_and_filled_like_one(crowded: Reader) -> None:
    crowded.state.holes.clear()
    gaps = [Hole(20, 22, at(3_000), at(3_001)), Hole(30, 32, at(3_005), at(3_006))]
    assert crowded.state.recall(gaps, is_all=True) == (at(2_000), at(3_039))
    assert crowded.missing == [(20, 22), (30, 32)]
    assert crowded.read((31, 3_005)) == [
        Change("repair", at(3_005), at(3_005)),
        Change("repair", at(3_005), at(3_006)),
    ]
    assert crowded.missing == [(20, 22)]


def test_ids_read_or_proved_absent_since_are_no_holes(crowded: Reader) -> None:
    crowded.state.holes.clear()
    crowded.read((24, 3_002), prev=20, source="rest")  # 21 and 23 do not exist
    gaps = [Hole(20, 24, at(3_000), at(3_002)), Hole(26, 28, at(3_003), at(3_004))]
    crowded.state.recall(gaps, is_all=True)
    assert crowded.missing == [(26, 28)]


def test_what_does_not_fit_stays_forgotten(crowded: Reader) -> None:
    gaps = [Hole(20 + 2 * n, 22 + 2 * n, at(3_000 + n), at(3_001 + n)) for n in range(35)]
    assert crowded.state.recall(gaps, is_all=True) is None  # no room at all
    del crowded.state.holes[: HOLES_MAX // 2 + 30]
    assert crowded.state.recall(gaps, is_all=True) == (at(2_000), at(3_030))
    assert crowded.missing[:30] == [(gap.after_id, gap.before_id) for gap in gaps[:30]]
    assert forgotten(crowded) == Hole(80, 98, at(3_030), at(3_039))
    del crowded.state.holes[:40]
    assert crowded.state.recall(gaps[30:32], is_all=False) == (at(3_030), at(3_032))
    assert forgotten(crowded) == Hole(84, 98, at(3_032), at(3_039))


def test_trades_refused_beyond_the_bound_are_left_to_the_database(reader: Reader) -> None:
    for number in range(LOST_MAX + 1):
        reader.state.lose(11 + number, at(1_000 + number))
    assert forgotten(reader) == Hole(10, 12, at(1_000), at(1_000))


def test_runs_of_a_batch_out_of_order() -> None:
    found = runs(columns((5, 50), (3, 30), (4, 40), (9, 90), (5, 50)), None, "ws")
    assert [(run.first_id, run.last_id) for run in found] == [(3, 5), (9, 9)]
    assert (found[0].first_us, found[0].last_us) == (at(30), at(50))


def test_where_ids_have_holes_by_nature_the_feeds_are_the_evidence(reader: Reader) -> None:
    reader.read((15, 5_000), prev=12)
    assert reader.read((20, 60_000), n=3) == []  # the feed says no more what it had before
    assert reader.read((30, 70_000), n=4) == []
    assert reader.missing == [(12, 15)]  # what was missing before, still is
    assert reader.judge(0, 10_000) is Evidence.HOLED
    assert reader.judge(60_000, 120_000) is Evidence.UNKNOWN
    for second in range(60, 122):
        reader.state.feeds.heard("a", at(second * SECOND))
    assert reader.judge(60_000, 120_000) is Evidence.PROVEN


def test_the_first_batch_of_a_feed_says_nothing_of_the_ids(reader: Reader) -> None:
    reader.read((15, 5_000), n=1)
    assert reader.missing == [(12, 15)]
    assert not reader.state.has_holes


def test_a_feed_whose_ids_prove_something_again_begins_anew(reader: Reader) -> None:
    reader.read((20, 60_000), n=3)
    reader.read((30, 70_000), (31, 70_000), prev=29, n=2)
    reader.read((40, 80_000), prev=31, n=3)
    assert reader.missing == [(31, 40)]
    assert reader.judge(60_000, 65_000) is Evidence.UNKNOWN


def test_a_refill_says_nothing_of_the_ids_of_a_feed(reader: Reader) -> None:
    reader.read((14, 4_000), source="rest", n=2)
    assert not reader.state.has_holes
