"""When a batch is written, what it holds, and which row is blamed."""

import pytest

from market_ingestor.storage.batch import (
    Batch,
    Bisection,
    SaveLimits,
    is_due,
    is_same_fact,
    slot,
    wait_s,
)
from market_ingestor.storage.rows import Row

LIMITS = SaveLimits(batch_size=10, batch_size_max=50, flush_interval_s=1.0)


def row(number: int, *, price: str = "1", time_us: int = 0, symbol: str = "BTCUSDT") -> Row:
    return Row(("binance", symbol, str(number)), f"{number}\n", (price, "1", time_us), time_us, 0)


def filled(count: int, *, now: float = 100.0) -> Batch[str]:
    batch: Batch[str] = Batch()
    batch.add("m", [row(number) for number in range(count)], now=now)
    return batch


def test_an_empty_batch_is_never_due() -> None:
    assert not is_due(LIMITS, Batch[str](), now=1e9, more_waiting=False)
    assert wait_s(LIMITS, Batch[str](), now=1e9) == LIMITS.flush_interval_s


@pytest.mark.parametrize(
    ("rows", "age_s", "more_waiting", "due"),
    [
        (9, 0.0, False, False),
        (10, 0.0, False, True),
        (10, 0.0, True, False),  # a larger batch costs less per row
        (50, 0.0, True, True),
        (1, 0.9, False, False),
        (1, 1.0, True, True),
    ],
)
def test_size_and_age_trigger_whichever_comes_first(
    rows: int, age_s: float, more_waiting: bool, due: bool
) -> None:
    batch = filled(rows)
    assert is_due(LIMITS, batch, now=100.0 + age_s, more_waiting=more_waiting) is due


def test_messages_without_rows_count_towards_the_limit() -> None:
    batch: Batch[int] = Batch()
    for number in range(50):
        batch.add(number, (), now=0.0)
    assert is_due(LIMITS, batch, now=0.0, more_waiting=True)


def test_waiting_ends_when_the_first_message_is_old_enough() -> None:
    batch = filled(1, now=100.0)
    batch.add("later", [row(99)], now=100.8)
    assert wait_s(LIMITS, batch, now=100.7) == pytest.approx(0.3)
    assert wait_s(LIMITS, batch, now=105.0) == 0.0


def test_a_key_is_held_once_and_the_first_stays() -> None:
    batch: Batch[str] = Batch()
    batch.add("a", [row(1, time_us=5)], now=0.0)
    batch.add("b", [row(1, time_us=5), row(1, time_us=6)], now=0.0)
    assert [each.time_us for each in batch.sorted_rows()] == [5]
    assert (batch.repeated, batch.conflicting) == (1, 1)
    assert batch.messages == ["a", "b"]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (("1.10", "2", 7), True),
        (("1.100", "2.0", 7), True),
        (("1.1", "2", 8), False),
        (("1.2", "2", 7), False),
        (("1.2.3", "2", 7), False),
    ],
)
def test_equal_numbers_are_the_same_fact_however_written(
    other: tuple[str, str, int], same: bool
) -> None:
    assert is_same_fact(("1.10", "2", 7), other) is same


def test_rows_are_written_in_the_order_of_their_keys() -> None:
    batch: Batch[str] = Batch()
    batch.add("m", [row(3), row(10), row(2, symbol="AUSDT")], now=0.0)
    assert [each.key for each in batch.sorted_rows()] == [
        ("binance", "AUSDT", "2"),
        ("binance", "BTCUSDT", "10"),
        ("binance", "BTCUSDT", "3"),
    ]


def test_only_instruments_with_rest_rows_are_locked_alone() -> None:
    batch: Batch[str] = Batch()
    live, refill = [row(1, symbol="AUSDT")], [row(1, symbol="BUSDT")]
    assert slot(live[0].key) != slot(refill[0].key)
    batch.add("ws", live, now=0.0)
    batch.add("rest", refill, now=0.0, alone=True)
    keys, alone = batch.slots(batch.sorted_rows())
    assert keys == sorted(keys)
    assert dict(zip(keys, alone, strict=True)) == {
        slot(live[0].key): False,
        slot(refill[0].key): True,
    }


def test_absorbing_takes_everything_over() -> None:
    batch, other = filled(2), filled(4, now=99.0)
    batch.absorb(other)
    assert len(batch) == 4
    assert len(batch.messages) == 2


def run(search: Bisection, poison: set[str], *, heals: set[str] | None = None) -> list[list[str]]:
    """Play the database: refuse chunks with poison; ``heals`` succeed when tried alone again."""
    tried: list[list[str]] = []
    while (chunk := search.chunk) is not None:
        ids = [str(each.key[2]) for each in chunk]
        is_retry = len(ids) == 1 and ids in tried
        tried.append(ids)
        if poison & set(ids) and not (is_retry and heals and set(ids) <= heals):
            search.refused("bad")
        else:
            search.stored()
    return tried


def test_one_good_batch_is_one_write() -> None:
    search = Bisection([row(number) for number in range(8)])
    assert len(run(search, set())) == 1
    assert not search.dead
    assert not search.unexplained


def test_a_poison_row_is_dead_after_failing_alone_twice_beside_a_neighbour() -> None:
    search = Bisection([row(number) for number in range(8)])
    tried = run(search, {"5"})
    assert tried.count(["5"]) == 2
    assert [each.row.key[2] for each in search.dead] == ["5"]
    stored = {each for ids in tried if "5" not in ids for each in ids}
    assert stored == set("01234567") - {"5"}


def test_a_row_that_succeeds_on_its_second_try_lives() -> None:
    search = Bisection([row(number) for number in range(4)])
    run(search, {"2"}, heals={"2"})
    assert not search.dead
    assert not search.unexplained


def test_nothing_dies_without_a_neighbour_that_succeeds() -> None:
    search = Bisection([row(number) for number in range(4)])
    run(search, set("0123"))
    assert not search.dead
    assert len(search.unexplained) == 4


def test_a_lone_row_does_not_die() -> None:
    search = Bisection([row(1)])
    run(search, {"1"})
    assert not search.dead
    assert [each.row.key[2] for each in search.unexplained] == ["1"]
