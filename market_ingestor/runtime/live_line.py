"""The line that the demo shows while it runs. SHELL."""

import asyncio
import math
import sys
import time
from typing import Any, Final

from market_ingestor import metrics

LINE_INTERVAL_S: Final = 1.0


def _total(metric: Any) -> float:
    """Return the sum over all labels of a counter or gauge."""
    return math.fsum(
        sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    )


async def live_line() -> None:
    """Print once a second what is done, until cancelled; on a terminal one line is written anew."""
    is_terminal = sys.stdout.isatty()
    before, before_at = _total(metrics.trades_published_total), time.monotonic()
    while True:
        await asyncio.sleep(LINE_INTERVAL_S)
        published, now = _total(metrics.trades_published_total), time.monotonic()
        text = (
            f"{(published - before) / (now - before_at):8,.0f} trades/s"
            f"  {_total(metrics.trades_stored_total):10,.0f} stored"
            f"  {_total(metrics.klines_published_total):8,.0f} candles"
            f"  {_total(metrics.push_clients):3.0f} push clients"
        )
        before, before_at = published, now
        sys.stdout.write(f"\r\x1b[K{text}" if is_terminal else f"{text}\n")
        sys.stdout.flush()
