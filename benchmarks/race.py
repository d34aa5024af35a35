"""Runs contenders in turn, round by round, so that what drifts on a machine hits all alike.

A race has one stage, one contender that is ours, a floor (the least work that could give the same
result) and peers (what a user would take instead). pytest-benchmark times ours; the others are
timed between its rounds. Medians go into the report as ``extra_info``.
"""

import gc
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS: Final = 15
PEERS: Final = Path(__file__).parent / "peers"
PEERS_PYTHON: Final = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"

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
    with subprocess.Popen(
        [PEERS_PYTHON, PEERS / f"{script}.py", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        talk, answers = process.stdin, process.stdout
        assert talk is not None
        assert answers is not None
        assert answers.readline() == "ready\n"

        def round_() -> float:
            talk.write("\n")
            talk.flush()
            return float(answers.readline())

        yield round_
        talk.close()


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
) -> None:
    """Run all contenders in turn and note medians per unit of work.

    Args:
        work: Units (trades, frames, deliveries) in one round, the same for every contender.
        before: Runs before every contender's round, in nobody's time.
        goals: Least ratios, by ``floor`` or a peer's name: how many times faster ours must be
            (0.6 against the floor: at most 1 / 0.6 of its time).
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

    pedantic: Callable[..., object] = benchmark.pedantic
    pedantic(ours, setup=others_turn, rounds=rounds, warmup_rounds=1)
    note(
        benchmark,
        stage=stage,
        unit=unit,
        work=work,
        goals=dict(goals or {}),
        medians={name: statistics.median(each) for name, each in seconds.items()},
    )


def note(benchmark: BenchmarkFixture, **facts: Any) -> None:
    """Put facts into the report."""
    benchmark.extra_info.update(facts)
