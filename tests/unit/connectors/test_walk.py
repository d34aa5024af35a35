"""A page of history proves what lies in a hole and what does not exist."""

from collections.abc import Sequence

from market_ingestor.connectors.account import Account
from market_ingestor.connectors.gaps import FoundGap, GapFinder
from market_ingestor.connectors.venue import HistoryPage, Rejected
from market_ingestor.connectors.walk import TIME_SLACK_US, GapWalk, Run
from market_ingestor.model.trade import TextTrade, Trade

NOW_US = 1_800_000_000_000_000


def trade(number: int, time_us: int = NOW_US) -> TextTrade:
    return Trade(id=str(number), price="1", amount="1", side="buy", time_us=time_us)


def page(*trades: int | TextTrade, rejected: int = 0) -> HistoryPage:
    rows = [trade(each) if isinstance(each, int) else each for each in trades]
    return HistoryPage(trades=rows, rejected=[Rejected("bad_price", "x")] * rejected, next=None)


class Walked:
    """A walk over the hole between two ids, of which some in between are there."""

    def __init__(self, after: int, before: int, *present: int, is_by_time: bool = False) -> None:
        self.finder = GapFinder(reorder_wait_s=0)
        for each in (after, *present, before):
            self.finder.observe(each, NOW_US, 0.0)
        self.account = Account()
        self.gap = FoundGap(
            after_id=after,
            before_id=before,
            missing=before - after - 1 - len(present),
            from_time_us=NOW_US,
            to_time_us=NOW_US,
        )
        self.walk = GapWalk(self.gap, self.finder, self.account, is_by_time=is_by_time)

    def page(self, page: HistoryPage) -> list[tuple[str | None, list[int]]]:
        runs = self.walk.page(page)
        assert self.account.balances
        return [(run.prev_id, ids(run)) for run in runs]

    def absences(self) -> list[tuple[str | None, list[int]]]:
        runs = self.walk.absences()
        assert self.account.balances
        return [(run.prev_id, ids(run)) for run in runs]

    @property
    def missing(self) -> list[tuple[int, int]]:
        return self.finder.missing(self.gap.after_id, self.gap.before_id)


def ids(run: Run) -> list[int]:
    return [int(each.id) for each in run.trades]


def numbers(first: int, last: int) -> Sequence[int]:
    return range(first, last + 1)


def test_a_hole_is_filled_with_its_neighbours_as_proof() -> None:
    walked = Walked(10, 14)
    assert walked.page(page(8, 9, 10, 11, 12, 13, 14, 15)) == [("10", [11, 12, 13, 14])]
    assert walked.missing == []
    assert (walked.account.in_flight, walked.account.duplicates) == (4, 4)


def test_ids_that_the_venue_skips_are_absent() -> None:
    walked = Walked(10, 14)
    assert walked.page(page(10, 12, 14)) == [("10", [12, 14])]
    assert walked.missing == []


def test_a_hole_in_which_nothing_happened_is_proved_by_its_neighbours_alone() -> None:
    walked = Walked(10, 14)
    assert walked.page(page(10, 14)) == [("10", [14])]
    assert walked.missing == []


def test_a_page_that_ends_in_the_hole_proves_nothing_beyond_its_end() -> None:
    walked = Walked(10, 20)
    assert walked.page(page(*numbers(10, 15))) == [("10", [11, 12, 13, 14, 15])]
    assert walked.missing == [(16, 19)]
    assert walked.walk.may_come(walked.missing)


def test_a_page_that_begins_in_the_hole_makes_no_claim_below() -> None:
    walked = Walked(10, 20)
    assert walked.page(page(*numbers(15, 21))) == [(None, [15, 16, 17, 18, 19, 20])]
    assert walked.missing == [(11, 14)]
    assert not walked.walk.may_come(walked.missing)


def test_pages_that_overlap_by_one_row_prove_the_seam() -> None:
    walked = Walked(10, 20)
    walked.page(page(*numbers(15, 21)))
    assert walked.page(page(9, 10, 12, 15)) == [("10", [12, 15])]
    assert walked.missing == []


def test_history_that_lists_nothing_yet_may_come() -> None:
    walked = Walked(10, 20)
    assert walked.page(page()) == []
    assert walked.walk.may_come(walked.missing)


def test_only_what_is_missing_is_published() -> None:
    walked = Walked(10, 20, 13, 14, 15)
    assert walked.page(page(*numbers(10, 20))) == [
        ("10", [11, 12, 13]),
        ("15", [16, 17, 18, 19, 20]),
    ]


def test_with_a_row_unfit_for_use_nothing_is_claimed_absent() -> None:
    walked = Walked(10, 20)
    assert walked.page(page(10, 11, 12, 15, 20, rejected=1)) == [(None, [11, 12]), (None, [15])]
    assert walked.missing == [(13, 14), (16, 19)]
    assert walked.account.rejected["bad_price"] == 1


def test_a_row_far_outside_the_neighbours_times_is_rejected() -> None:
    walked = Walked(10, 14)
    late = trade(12, NOW_US + TIME_SLACK_US + 1)
    early = trade(13, NOW_US - TIME_SLACK_US - 1)
    assert walked.page(page(10, 11, late, early, 14)) == [(None, [11])]
    assert walked.missing == [(12, 13)]
    assert dict(walked.account.rejected) == {"too_far_ahead": 1, "too_old": 1}


def test_rows_without_a_place_in_the_hole_are_only_counted() -> None:
    walked = Walked(10, 14)
    assert walked.page(page(100, 101)) == []
    assert (walked.account.received, walked.account.duplicates) == (2, 2)


def test_holes_that_the_venue_does_not_list_are_counted() -> None:
    walked = Walked(10, 20, 15)
    walked.page(page(10, 11, 12, 13, 14, 15, 18, 20))
    assert walked.walk.absent == 1


def test_a_page_by_time_claims_nothing_absent() -> None:
    walked = Walked(10, 15, is_by_time=True)
    assert walked.page(page(10, 11, 13, 15)) == [(None, [11]), (None, [13])]
    assert walked.missing == [(12, 12), (14, 14)]


def test_what_no_page_of_a_whole_walk_by_time_lists_is_absent_between_its_neighbours() -> None:
    walked = Walked(10, 15, is_by_time=True)
    walked.page(page(9, 10, 11))
    walked.page(page(11, 15, 16))
    assert walked.absences() == [("11", [15])]
    assert walked.missing == []
    assert walked.walk.absent == 1


def test_a_trade_at_another_time_than_its_neighbours_is_found_on_another_page() -> None:
    walked = Walked(10, 13, is_by_time=True)
    assert walked.page(page(10, 11, 13, 14, 15)) == [(None, [11])]
    assert walked.page(page(12, 15, 20)) == [(None, [12])]
    assert walked.absences() == []
    assert walked.walk.absent == 0


def test_without_both_neighbours_on_its_pages_a_walk_by_time_proves_nothing() -> None:
    walked = Walked(10, 15, is_by_time=True)
    walked.page(page(12, 15, 16))
    assert walked.absences() == [("12", [15])]  # what lies below 12 may be older than the history
    assert walked.missing == [(11, 11)]


def test_a_walk_by_time_that_leaves_something_out_proves_nothing() -> None:
    for spoiled in (
        page(10, 15, rejected=1),
        HistoryPage(trades=[trade(10), trade(15)], rejected=[], next=None, is_whole=False),
    ):
        walked = Walked(10, 15, is_by_time=True)
        walked.page(spoiled)
        assert walked.absences() == []
        assert walked.missing == [(11, 14)]
