"""The klines role as a process of its own on a stream of its own, and what its trades cost it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.batches import BatchMaker
from benchmarks.bus import publish
from benchmarks.race import Round
from benchmarks.roles import Around, Running, running
from market_ingestor.bus import subjects

AGE_US: Final = 300_000_000  # of the first trade: what a run has read never lies ahead of now
SPAN_S: Final = 2.0  # of trade time in a round


class KlinesStand:
    """Rounds of messages, published as fast as the bus takes them."""

    def __init__(self, klines: Running, maker: BatchMaker) -> None:
        self._role, _, self._bus, self._portal = klines
        self._maker = maker

    def ours(self, trades: int, per_message: int) -> Round:
        """Return a round: the role's processor time until all is folded and nothing waits."""

        def round_() -> float:
            messages = self._maker.make(trades, per_message, span_s=SPAN_S)
            began = self._role.cpu_s
            self._portal.call(publish, self._bus, messages)
            state = self._portal.call(self._bus.stream_state, subjects.RAW_STREAM)
            self._role.until(lambda health: _has_read(health, state.last_sequence))
            return self._role.cpu_s - began

        return round_


@contextmanager
def standing(symbols: int, periods: Sequence[str], around: Around) -> Iterator[KlinesStand]:
    """Run the role with these periods, for a feed of so many symbols."""
    with running("klines", f"[klines]\nperiods = {list(periods)}\n", around) as klines:
        maker = BatchMaker(symbols, begin_us=time.time_ns() // 1_000 - AGE_US)
        yield KlinesStand(klines, maker)


def _has_read(health: dict[str, Any], last_sequence: int) -> bool:
    details = health["roles"]["klines"]
    return (
        details["position"] > last_sequence
        and not details["publications"]
        and not details["long_windows_waiting"]
    )
