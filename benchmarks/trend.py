"""Tells growth from noise in what was sampled over a run. Pure."""

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

SAMPLES_MIN: Final = 8  # two in each quarter
MIB: Final = 1024**2


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """How much more the end may have than the second quarter: both together.

    Attributes:
        share: Of what the second quarter had.
        floor: In the unit of the values; noise of a small value is large in comparison.
    """

    share: float
    floor: float


# A role's memory moves by a few MiB from one collection of garbage to the next. Beyond that it may
# remember: two hours of candle versions and a ring of closed candles are filled for long, at some
# 0.2 MiB a minute with 100 symbols. A leak of eight bytes a trade at 5,000 trades/s is 2.3 MiB a
# minute: half an hour shows it fourfold.
MEMORY: Final = Tolerance(share=0.1, floor=12 * MIB)
# A saver works in batches, so what waits goes up and down by a second's messages all the time.
QUEUE_S: Final = Tolerance(share=0.5, floor=1.0)
# Medians of a quarter are steady to some milliseconds on a machine that others use as well.
LATENCY_S: Final = Tolerance(share=0.5, floor=0.03)


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What grew, from the median of the second quarter to that of the last."""

    name: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.name} grew from {self.before:.6g} to {self.after:.6g}"


def growth(name: str, values: Sequence[float], tolerance: Tolerance) -> Growth | None:
    """Return what grew, None when nothing did.

    The first quarter is left out: caches fill, pools are made. Medians forgive single samples, the
    long way between the quarters shows what grows slowly. What grew and fell again is no growth.

    Raises:
        ValueError: There are too few samples to judge.
    """
    if len(values) < SAMPLES_MIN:
        raise ValueError(f"{name}: {len(values)} samples are too few to judge")
    quarter = len(values) // 4
    before, after = median(values[quarter : 2 * quarter]), median(values[-quarter:])
    if after <= before * (1 + tolerance.share) + tolerance.floor:
        return None
    return Growth(name=name, before=before, after=after)
