"""Which stretches are whole."""

from itertools import pairwise

import pytest

from market_ingestor.api.completeness import Stretch, stretches
from market_ingestor.model.period import MINUTE_MS
from market_ingestor.model.stored import GapSpan, MinuteMark

START = 1_763_676_000_000  # on an hour


def at(minute: float) -> int:
    return START + int(minute * MINUTE_MS)


def mark(minute: int, *, complete: bool = True, repaired: bool = False) -> MinuteMark:
    """Return a candle of the ids ``100 * minute`` and the 99 behind it."""
    return MinuteMark(
        open_time=at(minute),
        complete=complete,
        is_repaired=repaired,
        first_id=str(100 * minute),
        last_id=str(100 * minute + 99),
    )


def hole(start: float, end: float, *, filled: bool = False) -> GapSpan:
    return GapSpan(from_ms=at(start), to_ms=at(end), is_filled=filled)


def states(found: list[Stretch]) -> str:
    """Return one letter a minute, after checking that stretches join."""
    for before, behind in pairwise(found):
        assert before.end == behind.start
        assert before.state != behind.state
    return "".join(each.state[0] * ((each.end - each.start) // MINUTE_MS) for each in found)


def judged(
    marks: list[MinuteMark],
    windows: list[tuple[str, int]] | None = None,
    gaps: list[GapSpan] | None = None,
) -> str:
    return states(stretches(at(0), at(6), marks, windows or [], gaps or []))


def test_candles_say_what_is_complete_and_silence_proves_nothing() -> None:
    assert judged([mark(0), mark(1), mark(3)]) == "ccucuu"


def test_neighbouring_ids_prove_that_nothing_was_traded_between() -> None:
    behind = MinuteMark(
        open_time=at(4), complete=True, is_repaired=False, first_id="100", last_id="107"
    )
    assert judged([mark(0), behind]) == "cccccu"


def test_complete_longer_candle_proves_its_minutes_without_trades() -> None:
    assert judged([mark(1)], [("5m", at(0))]) == "cccccu"
    assert judged([mark(1)], [("1w", at(-1_000))]) == "cccccc"


def test_longer_candle_proves_nothing_of_a_minute_that_is_not_complete() -> None:
    assert judged([mark(1, complete=False)], [("5m", at(0))])[1] == "u"


def test_holes_make_incomplete_until_they_are_filled() -> None:
    everything = [mark(n) for n in range(6)]
    assert judged(everything, gaps=[hole(1.5, 2.5)]) == "ciiccc"
    assert judged(everything, gaps=[hole(1.5, 2.5, filled=True)]) == "crrccc"
    assert judged([mark(n, complete=False) for n in range(6)], gaps=[hole(2, 2.9)]) == "uuiuuu"


def test_filled_hole_is_repaired_once_its_candle_says_so() -> None:
    marks = [mark(0), mark(1, complete=False), mark(2, repaired=True)]
    assert judged(marks, gaps=[hole(1, 1.5, filled=True)]) == "ciruuu"


@pytest.mark.parametrize("span", [(-9, -1), (6, 9)])
def test_holes_elsewhere_change_nothing(span: tuple[int, int]) -> None:
    assert judged([mark(n) for n in range(6)], gaps=[hole(*span)]) == "cccccc"


def test_hole_over_everything_is_clipped() -> None:
    assert judged([mark(0)], gaps=[hole(-9, 99)]) == "iiiiii"
