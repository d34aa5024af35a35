"""The list of mutations is true: what it removes is there, and so are the tests it names."""

import pytest

from tests.faults.mutations import MUTATIONS, PROJECT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.safeguard)
def test_what_is_removed_stands_there_once(mutation: Mutation) -> None:
    assert (PROJECT / mutation.path).read_text(encoding="utf-8").count(mutation.before) == 1
    file, _, name = mutation.caught_by.partition("::")
    assert f"def {name}" in (PROJECT / file).read_text(encoding="utf-8")


def test_the_readme_lists_every_mutation() -> None:
    text = (PROJECT / "tests/README.md").read_text(encoding="utf-8")
    for mutation in MUTATIONS:
        test = mutation.caught_by.removeprefix("tests/")
        assert f"| {mutation.safeguard} | `{test}` |" in text, mutation.safeguard
