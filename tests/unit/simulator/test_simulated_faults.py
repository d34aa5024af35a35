"""The fault language, its timetable and what faults do to a stretch of trades."""

from typing import Any

import pytest

from market_ingestor.simulator.faults import Fault, Router, Timetable, Windows, parse
from market_ingestor.simulator.tape import Fill


def trades(first: int, last: int, market: int = 0) -> list[Fill]:
    return [Fill(market, number, 1, 1, True, number) for number in range(first, last + 1)]


def ids(fills: list[Fill]) -> list[int]:
    return [fill.id for fill in fills]


def router(*faults: Fault, market: int | None = None) -> Router[Fill]:
    made: Router[Fill] = Router(Windows())
    for fault in faults:
        made.add(fault, market)
    return made


def test_a_fault_file_is_toml_or_json_lines() -> None:
    toml = (
        '[[fault]]\nfault = "cut"\nat_s = 3\n[[fault]]\nfault = "gap"\ncount = 5\nvenue = "okx"\n'
    )
    lines = '{"fault":"cut","at_s":3}\n\n{"fault":"gap","count":5,"venue":"okx"}\n'
    assert parse(toml) == parse(lines)
    assert parse(toml)[1] == Fault(fault="gap", count=5, venue="okx")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"fault":"explode"}', "line 1"),
        ('{"fault":"cut","when":3}', "when"),
        ('{"fault":"cut","every_s":0}', "every_s must be positive"),
        ('[[fault]]\nfault = "explode"\n', "explode"),
        ("not = [toml", "fault file|Unclosed|Invalid"),
    ],
)
def test_a_misspelt_fault_file_is_refused_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    ("cue", "fired"),
    [
        ({}, [0]),
        ({"at_s": 3}, [3]),
        ({"every_s": 4}, [4, 8]),
        ({"every_trades": 250}, [3, 6, 9]),
    ],
)
def test_a_fault_is_due_at_its_cue(cue: dict[str, Any], fired: list[int]) -> None:
    timetable = Timetable([Fault(fault="cut", **cue)], "seed")
    assert [second for second in range(10) if timetable.due(second, second * 100)] == fired


def test_chances_are_drawn_once_a_second_from_the_seed() -> None:
    def fired(seed: str) -> list[int]:
        timetable = Timetable([Fault(fault="cut", probability=0.3)], seed)
        return [tenth for tenth in range(1_000) if timetable.due(tenth / 10, 0)]

    assert fired("a") == fired("a")
    assert fired("a") != fired("b")
    assert 15 < len(fired("a")) < 45


def test_a_pause_is_not_followed_by_a_burst_of_faults() -> None:
    timetable = Timetable([Fault(fault="cut", every_s=1)], "seed")
    assert [bool(timetable.due(at, 0)) for at in (100, 100.1, 101)] == [True, False, True]


def test_nothing_happens_to_trades_without_a_fault() -> None:
    routed = router().route(trades(1, 5), 0)
    assert ids(routed.send) == [1, 2, 3, 4, 5]
    assert not routed.lost
    assert not routed.spoiled


def test_a_gap_keeps_trades_off_the_sockets_and_maybe_out_of_rest() -> None:
    routed = router(Fault(fault="gap", count=2)).route(trades(1, 5), 0)
    assert (ids(routed.send), ids(routed.lost), routed.removed) == ([3, 4, 5], [1, 2], [])
    routed = router(Fault(fault="gap", count=2, rest="gone")).route(trades(1, 5), 0)
    assert ids(routed.removed) == [1, 2]


def test_a_fault_of_one_symbol_leaves_the_others_alone() -> None:
    routed = router(Fault(fault="gap", count=9), market=1).route(
        trades(1, 3) + trades(7, 8, market=1), 0
    )
    assert ids(routed.send) == [1, 2, 3]
    assert ids(routed.lost) == [7, 8]


def test_duplicates_follow_their_original() -> None:
    routed = router(Fault(fault="duplicate", count=2)).route(trades(1, 3), 0)
    assert ids(routed.send) == [1, 1, 2, 2, 3]


def test_reordered_trades_come_in_reverse_also_across_chunks() -> None:
    mixer = router(Fault(fault="reorder", count=4))
    assert ids(mixer.route(trades(1, 2), 0).send) == []
    assert ids(mixer.route(trades(3, 6), 0.1).send) == [4, 3, 2, 1, 5, 6]
    assert ids(mixer.route(trades(7, 8), 0.2).send) == [7, 8]


def test_reordered_trades_of_a_market_that_falls_silent_come_late_not_never() -> None:
    mixer = router(Fault(fault="reorder", count=9), market=0)
    mixer.route(trades(1, 2), 0)
    assert ids(mixer.route(trades(5, 5, market=1), 1).send) == [5]
    assert ids(mixer.route(trades(6, 6, market=1), 3).send) == [6, 2, 1]
    assert ids(mixer.route(trades(3, 4), 4).send) == [3, 4]


def test_what_is_parked_at_the_end_is_known() -> None:
    mixer = router(Fault(fault="reorder", count=9))
    mixer.route(trades(1, 2), 0)
    assert ids(mixer.abandon()) == [1, 2]


def test_an_absurd_price_replaces_the_frame_of_the_trade() -> None:
    routed = router(Fault(fault="absurd", value="-1")).route(trades(1, 2), 0)
    assert ids(routed.send) == [2]
    assert [(fill.id, value) for fill, value in routed.spoiled] == [(1, "-1")]


def test_faults_mix_one_after_the_other() -> None:
    mixed = router(
        Fault(fault="gap", count=1),
        Fault(fault="duplicate", count=1),
        Fault(fault="reorder", count=2),
    )
    routed = mixed.route(trades(1, 6), 0)
    assert ids(routed.lost) == [1]
    assert ids(routed.send) == [2, 2, 4, 3, 5, 6]


def test_holding_back_one_symbol_ends_with_its_window() -> None:
    windows = Windows()
    held: Router[Fill] = Router(windows)
    windows.begin(Fault(fault="hold", duration_s=5), 1, now_s=0)
    both = trades(1, 1) + trades(2, 2, market=1)
    assert ids(held.route(both, 1).send) == [1]
    assert ids(held.route(both, 1).lost) == [2]
    assert ids(held.route(both, 6).send) == [1, 2]


def test_a_window_without_duration_never_ends() -> None:
    windows = Windows()
    windows.begin(Fault(fault="refuse", duration_s=0, status=418), None, now_s=0)
    found = windows.active("refuse", 1e9)
    assert found is not None
    assert found.status == 418
    assert windows.active("rest_error", 0) is None
