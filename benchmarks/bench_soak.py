"""Keeps the soak working: it is no benchmark, and runs for long when it runs (`soak`)."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from benchmarks.programs import Load
from benchmarks.soak import Sample, Soaked, soak
from benchmarks.stage import OnSystem
from benchmarks.trend import SAMPLES_MIN

EVERY_S: Final = 0.2


def test_soak(on_system: OnSystem[Soaked], tmp_path: Path, *, is_smoke: bool) -> None:
    if not is_smoke:
        pytest.skip("./cmd/bench soak --minutes N runs it")
    file = tmp_path / "soak.jsonl"
    soaked = on_system(
        Load(),
        lambda system: soak(
            system,
            seconds=EVERY_S * SAMPLES_MIN,
            rate=500,
            every_s=EVERY_S,
            file=file,
            step=lambda _done, _total: None,
        ),
    )
    lines = [msgspec.json.decode(line, type=Sample) for line in file.read_bytes().splitlines()]
    assert lines == soaked.samples
    assert soaked.sent == soaked.stored
