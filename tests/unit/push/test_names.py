"""Names found by pattern."""

from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.push.names import Names
from market_ingestor.push.subscriptions import matches

NAME = st.tuples(st.sampled_from("ab"), st.sampled_from("cd"))
PATTERN = st.tuples(st.sampled_from("ab*"), st.sampled_from("cd*"))


@settings(deadline=None)
@given(st.lists(NAME), st.lists(NAME), PATTERN)
def test_pattern_finds_what_it_matches(
    come: list[tuple[str, str]], gone: list[tuple[str, str]], pattern: tuple[str, str]
) -> None:
    names: Names[tuple[str, str]] = Names()
    for name in come:
        names.add(name)
    for name in gone:
        names.discard(name)
    left = set(come) - set(gone)
    found = names.matching(pattern)
    assert len(found) == len(set(found))
    assert set(found) == {name for name in left if matches(pattern, name)}
    assert set(names) == left
