"""A venue whose ids have holes by nature is not asked about each of them."""

from market_ingestor.connectors.absences import HOUR_S, Absences


def test_a_few_absent_holes_are_no_habit() -> None:
    absences = Absences(holes_max=3)
    assert not absences.note(3, 0.0)
    assert not absences.note(0, 1.0)
    assert not absences.note(3, HOUR_S)  # the first three are an hour ago


def test_more_than_the_bound_in_an_hour_are() -> None:
    absences = Absences(holes_max=3)
    assert not absences.note(2, 0.0)
    assert absences.note(2, 10.0)
    assert Absences(holes_max=3).note(1_000_000, 0.0)
