"""The short form of the suite: half a minute of faults, all at once, and nothing is lost."""

import os
from pathlib import Path
from typing import Final

import pytest

from tests.faults.run import run
from tests.faults.world import Size

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

SEED: Final = 16_111  # of a plan with something of everything; FAULTS_SEED is another
MINUTES: Final = 0.5
# Loaded machines may be slow here: time limits are the long form's to prove.
SIZE: Final = Size(rate=60, patience=8)


async def test_nothing_is_lost_and_nothing_counts_twice_whatever_dies(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED", SEED))
    report = await run(tmp_path, seed=seed, minutes=MINUTES, size=SIZE)
    print(report)  # noqa: T201 - figures of the run
    assert not report.problems
