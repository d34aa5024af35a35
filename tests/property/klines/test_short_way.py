"""Trades that continue what was read take a shorter way: it must come to the same."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.columns import Columns
from market_ingestor.klines.completeness import LOST_MAX
from market_ingestor.klines.facts import BatchFacts
from market_ingestor.klines.resume import dump
from tests.unit.klines.build import MINUTE, T0, columns, rules

STEPS = st.tuples(
    st.sampled_from("ssssssssjbhenrdflgx"),  # what is odd about the batch; "s": nothing is
    st.integers(1, 4),  # trades
    st.sampled_from((0, 1, 900, 30_000, MINUTE)),  # milliseconds since the trade before
)


class LongWay(Aggregator):
    """Takes every batch for a special one."""

    def _continue(self, facts: BatchFacts, columns: Columns, sequence: int) -> bool:
        del facts, columns, sequence
        return False


class Reader:
    """One aggregator, and what it showed after each batch."""

    def __init__(self, aggregator: Aggregator) -> None:
        self.aggregator = aggregator
        self.shown: list[object] = []

    def read(self, facts: BatchFacts, trades: Columns, sequence: int) -> None:
        aggregator = self.aggregator
        closings = aggregator.batch(facts, trades, sequence)
        forgotten = aggregator.completeness.forgotten
        self.shown.append(
            (
                [
                    (each.period, each.open_time, each.evidence, each.fold.count)
                    for each in closings
                ],
                aggregator.open_candles(),
                aggregator.fresh,
                aggregator.folded,
                dump(aggregator),
                list(forgotten.accounted) if forgotten is not None else None,
            )
        )


def ids_of(oddity: str, next_id: int, count: int) -> list[int]:
    """Return the ids of a batch: the next ones, unless they are what is odd."""
    firsts = {"j": next_id + 5, "b": max(next_id - count, 1), "l": 1}  # a hole, copies, the lowest
    first = firsts.get(oddity, next_id)
    ids = list(range(first, first + count))
    if oddity == "d":
        ids.reverse()
    elif oddity == "g":  # a hole inside the batch
        ids[-1] += 3
    return ids


def spoil(aggregator: Aggregator, oddity: str, next_id: int) -> None:
    """Do to an aggregator what comes from elsewhere than the stream."""
    if oddity == "r":
        aggregator.known.forget_to(next_id + 1)
    elif oddity == "x":  # more trades are refused than are remembered
        for each in range(LOST_MAX + 3):
            aggregator.completeness.lose(next_id + each, T0 * 1_000)


def read_all(readers: Sequence[Reader], steps: Sequence[tuple[str, int, int]]) -> None:
    """Give each reader the same batches, made of ``steps``."""
    next_id, at_ms, numbers = 1, 0, {"a": 0, "b": 0}
    for sequence, (oddity, count, step_ms) in enumerate(steps, start=1):
        feed = "b" if oddity == "f" else "a"
        numbers[feed] += 1
        ids = ids_of(oddity, next_id, count)
        times = [at_ms + step_ms * (row + 1) for row in range(count)]
        if oddity == "e":  # the last trade belongs to a minute far ahead
            times[-1] += 130 * MINUTE
        facts = BatchFacts(
            feed,
            numbers[feed],
            "rest" if oddity == "n" else "ws",
            (T0 + times[0] + 100) * 1_000,
            None if oddity == "h" else min(ids) - 1,
        )
        for reader in readers:
            spoil(reader.aggregator, oddity, next_id)
            reader.read(facts, columns(*zip(ids, times, strict=True)), sequence)
        next_id, at_ms = max(next_id - 1, *ids) + 1, times[0] + step_ms


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=300, deadline=None)
def test_the_short_way_comes_to_the_same(steps: list[tuple[str, int, int]]) -> None:
    short = Reader(Aggregator("okx", "BTCUSDT", rules()))
    long = Reader(LongWay("okx", "BTCUSDT", rules()))
    read_all((short, long), steps)
    for at, (mine, wanted) in enumerate(zip(short.shown, long.shown, strict=True)):
        assert mine == wanted, at
