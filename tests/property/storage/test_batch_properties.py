"""Rules of batches that hold for every input."""

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.storage.batch import Batch, Bisection
from market_ingestor.storage.rows import Row, escaped
from market_ingestor.storage.times import at, microseconds

numbers = st.integers(min_value=0, max_value=40)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def row(number: int) -> Row:
    return Row(("binance", "BTCUSDT", f"{number:02}"), f"{number}\n", None, number, number)


def unescaped(field: str) -> str:
    """Read a field as COPY does."""
    out, characters = [], iter(field)
    for each in characters:
        if each == "\\":
            following = next(characters)
            out.append({"t": "\t", "n": "\n", "r": "\r"}.get(following, following))
        else:
            out.append(each)
    return "".join(out)


@given(texts)
def test_an_escaped_field_reads_back_and_breaks_no_line(text: str) -> None:
    field = escaped(text)
    assert unescaped(field) == text
    assert not {"\t", "\n", "\r"} & set(field)


@given(st.integers(min_value=0, max_value=4_102_444_800_000_000))
def test_times_survive_the_way_to_a_timestamp_and_back(time_us: int) -> None:
    assert microseconds(at(time_us)) == time_us


@given(st.sets(numbers, min_size=1), st.sets(numbers))
def test_bisection_stores_every_good_row_and_kills_only_bad_ones(
    present: set[int], poison: set[int]
) -> None:
    bad = present & poison
    search = Bisection([row(number) for number in sorted(present)])
    stored: list[int] = []
    writes = 0
    while (chunk := search.chunk) is not None:
        writes += 1
        held = {each.sequence for each in chunk}
        if held & bad:
            search.refused("bad")
        else:
            stored += sorted(held)
            search.stored()
    dead = {each.row.sequence for each in search.dead}
    unexplained = {each.row.sequence for each in search.unexplained}
    assert sorted(stored) == sorted(present - bad)
    assert dead | unexplained == bad
    assert not (dead and unexplained)
    assert dead == (bad if present - bad else set())
    assert writes <= 3 * len(present) + 2


@given(st.lists(st.lists(numbers, max_size=6), max_size=10))
def test_a_batch_holds_each_key_once_and_every_message(messages: list[list[int]]) -> None:
    batch: Batch[int] = Batch()
    for index, each in enumerate(messages):
        batch.add(index, [row(number) for number in each], now=0.0)
    offered = [number for each in messages for number in each]
    rows = batch.sorted_rows()
    assert [each.sequence for each in rows] == sorted(set(offered))
    assert batch.repeated == len(offered) - len(set(offered))
    assert batch.messages == list(range(len(messages)))
