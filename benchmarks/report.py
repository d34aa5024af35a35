"""Prints what pytest-benchmark wrote as one table: ``python -m benchmarks.report FILE``.

Columns are microseconds per unit of work; a ratio is how many times faster ours is than the other
(below 1: slower). A goal that is missed is marked with ``!``; one that is no ratio stands behind
ours, as the most it may be.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

_HEAD: Final = ("stage", "unit", "ours us", "floor us", "ratio", "peer", "peer us", "ratio")


class _Stats(msgspec.Struct):
    median: float


class _Facts(msgspec.Struct):
    stage: str
    unit: str
    work: int
    medians: dict[str, float]
    goals: dict[str, float] = {}
    limit_us: float | None = None
    is_missed: bool = False


class _Benchmark(msgspec.Struct):
    stats: _Stats
    extra_info: dict[str, Any]


class _Run(msgspec.Struct):
    benchmarks: list[_Benchmark]


def rows(run: _Run) -> Iterator[tuple[str, ...]]:
    """Yield a row per stage, and a further one for each peer behind the first."""
    for each in run.benchmarks:
        if "stage" not in each.extra_info:
            continue
        facts = msgspec.convert(each.extra_info, _Facts)
        ours = facts.medians.pop("ours", each.stats.median)
        floor = _against(facts, "floor", ours)
        peers = [name for name in facts.medians if name != "floor"]
        first = ("", "", "") if not peers else (peers[0], *_against(facts, peers[0], ours))
        yield (facts.stage, facts.unit, _limited(facts, ours), *floor, *first)
        for name in peers[1:]:
            yield ("", "", "", "", "", name, *_against(facts, name, ours))


def _us(seconds: float, work: int) -> str:
    return f"{seconds / work * 1e6:.2f}"


def _limited(facts: _Facts, ours: float) -> str:
    """Return our time per unit, with the most it may be and its mark."""
    text = _us(ours, facts.work) + ("!" if facts.is_missed else "")
    if facts.limit_us is None:
        return text
    mark = "!" if ours / facts.work * 1e6 > facts.limit_us else ""
    return f"{text}{mark} of {facts.limit_us:.2f}"


def _against(facts: _Facts, name: str, ours: float) -> tuple[str, str]:
    """Return another's time per unit, and the ratio to ours with its mark."""
    seconds = facts.medians.get(name)
    if seconds is None:
        return "", ""
    ratio = seconds / ours
    return _us(seconds, facts.work), f"{ratio:.2f}" + (
        "!" if ratio < facts.goals.get(name, 0) else ""
    )


def table(run: _Run) -> str:
    """Return the table as Markdown."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(run)]
    return "\n".join(lines)


def details(run: _Run) -> str:
    """Return what rows have to say beside their figures, a line each."""
    lines = [
        f"{each.extra_info['stage']}: {detail}"
        for each in run.benchmarks
        for detail in each.extra_info.get("details", ())
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table of the file named on the command line, and what is to be said beside it."""
    run = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=_Run)
    sys.stdout.write(table(run) + "\n")
    if text := details(run):
        sys.stdout.write(f"\n{text}\n")


if __name__ == "__main__":
    main()
