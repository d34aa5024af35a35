"""Runs contenders in turn, round by round, so that what drifts on a machine hits all alike.

A race has one stage, one contender that is ours, a floor (the least work that could give the same
result) and peers (what a user would take instead). pytest-benchmark times ours, unless that is a
process with a clock of its own; the others are timed between its rounds. Medians go into the
report as ``extra_info``.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.children import PROJECT, child

ROUNDS: Final = 15
PEERS: Final = Path(__file__).parent / "peers"
PEERS_PYTHON: Final = PROJECT / ".venv-peers" / "bin" / "python"

# Runs one round and returns its seconds, wall or CPU, as the stage has it.
Round = Callable[[], float]


def timed(run: Callable[[], object]) -> Round:
    """Return a round that times ``run`` by the wall clock, garbage collection off."""

    def round_() -> float:
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
        gc.enable()
        return seconds

    return round_


@contextmanager
def peer(script: str, data: object, folder: Path) -> Iterator[Round | None]:
    """Give the rounds of a peer's script, None where its environment is not installed."""
    if not PEERS_PYTHON.exists():
        yield None
        return
    path = folder / f"{script}.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with child(PEERS_PYTHON, PEERS / f"{script}.py", path) as process:
        assert process.answer() == "ready"
        yield lambda: float(process.ask(""))


def race(
    benchmark: BenchmarkFixture,
    *,
    stage: str,
    work: int,
    ours: Callable[[], object],
    floor: Round | None = None,
    peers: Mapping[str, Round | None] | None = None,
    rounds: int = ROUNDS,
    unit: str = "trade",
    before: Callable[[], object] | None = None,
    goals: Mapping[str, float] | None = None,
    has_own_clock: bool = False,
    limit_us: float | None = None,
) -> None:
    """Run all contenders in turn and note medians per unit of work.

    Args:
        work: Units (trades, frames, deliveries) in one round, the same for every contender.
        before: Runs before every contender's round, in nobody's time.
        goals: Least ratios, by ``floor`` or a peer's name: how many times faster ours must be
            (0.6 against the floor: at most 1 / 0.6 of its time).
        has_own_clock: Whether ``ours`` is a `Round` too: what it returns counts.
        limit_us: Most microseconds that ours may take per unit of work.
    """
    others: dict[str, Round] = {name: run for name, run in (peers or {}).items() if run}
    if floor is not None:
        others["floor"] = floor
    seconds: dict[str, list[float]] = {name: [] for name in others}

    prepare = before or (lambda: None)

    def others_turn() -> None:
        for name, run in others.items():
            prepare()
            seconds[name].append(run())
        prepare()
        gc.collect()

    def our_turn() -> None:
        result = ours()
        if has_own_clock:
            assert isinstance(result, float)
            seconds.setdefault("ours", []).append(result)

    pedantic: Callable[..., object] = benchmark.pedantic
    pedantic(our_turn, setup=others_turn, rounds=rounds, warmup_rounds=1)
    note(
        benchmark,
        stage=stage,
        unit=unit,
        work=work,
        goals=dict(goals or {}),
        limit_us=limit_us,
        medians={name: statistics.median(each) for name, each in seconds.items()},
    )


def noted(benchmark: BenchmarkFixture, **facts: Any) -> None:
    """Make a row of what was measured by other means: its medians name ours too."""
    pedantic: Callable[..., object] = benchmark.pedantic
    pedantic(lambda: None)
    note(benchmark, **facts)


def note(benchmark: BenchmarkFixture, **facts: Any) -> None:
    """Put facts into the report."""
    benchmark.extra_info.update(facts)
