"""Growth: what a trade, or a delivery, costs when there is more of everything.

Ours is the large one, its peer the small one, which is ours as well: a goal of 0.67 says that the
large one may cost half as much again. Roles are processes, and their processor time is measured.
"""

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import klines_stand
from benchmarks.batches import batches
from benchmarks.bench_fanout import CLIENTS_SMOKE
from benchmarks.bench_fold import fold
from benchmarks.bench_ingest import TRADES as INGEST_TRADES
from benchmarks.crowd import Stand as Crowd
from benchmarks.crowd import fitting
from benchmarks.ingest import stand as ingest_stand
from benchmarks.klines_stand import SPAN_S
from benchmarks.race import Round, race, timed
from benchmarks.roles import Around
from market_ingestor.bus import codec
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.push import messages
from market_ingestor.push.ring import Ring
from tests.integration.push.harness import kline

HALF_AS_MUCH_AGAIN: Final = 1 / 1.5
OF_ITS_FLOOR: Final = 1 / 1.2
ROUNDS: Final = 5

FEW, MANY = 10, 1_000  # symbols
SOME: Final = 100  # symbols, where periods grow
ALL_PERIODS: Final = tuple(PERIOD_MS)
PER_MESSAGE: Final = 17
MESSAGED_TRADES: Final = 170_000  # ten messages of each of a thousand symbols
TRADES_SMOKE: Final = 1_700
Size = tuple[int, tuple[str, ...]]  # symbols and periods
# What grows: when there are few and when there are many.
KLINES: Final[dict[str, tuple[Size, Size]]] = {
    "symbols": ((FEW, ALL_PERIODS), (MANY, ALL_PERIODS)),
    "periods": ((SOME, ("1m",)), (SOME, ALL_PERIODS)),
}

FEW_CLIENTS, MANY_CLIENTS = 10, 10_000
PUSHES: Final = 100  # to few clients in a round: one alone is over too soon to be timed


def test_ingest(benchmark: BenchmarkFixture, around: Around, is_smoke: bool) -> None:
    trades = TRADES_SMOKE if is_smoke else INGEST_TRADES
    sizes = FEW, FEW if is_smoke else MANY
    with ExitStack() as stack:
        stands = {
            each: stack.enter_context(ingest_stand.standing(each, around)) for each in set(sizes)
        }
        few, many = (stands[each] for each in sizes)
        race(
            benchmark,
            stage=f"growth of ingest, {MANY:,} symbols",
            work=trades,
            ours=many.ours(trades),
            peers={f"{FEW} symbols": few.ours(trades)},
            goals={f"{FEW} symbols": HALF_AS_MUCH_AGAIN},
            has_own_clock=True,
            rounds=ROUNDS,
        )


@pytest.mark.parametrize("grown", KLINES)
def test_klines(benchmark: BenchmarkFixture, around: Around, is_smoke: bool, grown: str) -> None:
    trades = TRADES_SMOKE if is_smoke else MESSAGED_TRADES
    small, large = KLINES[grown]
    name = _named(*small)
    sizes = small, small if is_smoke else large
    with ExitStack() as stack:
        stands = {
            each: stack.enter_context(klines_stand.standing(*each, around)) for each in set(sizes)
        }
        few, many = (stands[each] for each in sizes)
        race(
            benchmark,
            stage=f"growth of klines, {_named(*large)}",
            work=trades,
            ours=many.ours(trades, PER_MESSAGE),
            peers={name: few.ours(trades, PER_MESSAGE)},
            goals={name: HALF_AS_MUCH_AGAIN},
            has_own_clock=True,
            rounds=ROUNDS,
        )


def _named(symbols: int, periods: Sequence[str]) -> str:
    return f"{symbols:,} symbols, {len(periods)} periods"


def test_fold(benchmark: BenchmarkFixture, is_smoke: bool) -> None:
    trades = TRADES_SMOKE if is_smoke else MESSAGED_TRADES
    few, many = (
        batches(trades, PER_MESSAGE, symbol_count=each, span_s=SPAN_S) for each in (FEW, MANY)
    )
    race(
        benchmark,
        stage=f"growth of fold, {MANY:,} symbols",
        work=trades,
        ours=lambda: fold(many),
        peers={f"{FEW} symbols": timed(lambda: fold(few))},
        goals={f"{FEW} symbols": HALF_AS_MUCH_AGAIN},
        rounds=ROUNDS,
    )


@contextmanager
def _crowd(clients: int) -> Iterator[Crowd]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = Crowd(runner, clients)
        try:
            yield made
        finally:
            made.close()


def _to_few(crowd: Crowd, klines: Sequence[tuple[Kline, bytes]], deliveries: int) -> Round:
    """Return a round of many pushes, its time as if they had been so many deliveries."""

    def round_() -> float:
        gc.collect()
        gc.disable()
        seconds = 0.0
        for _ in range(PUSHES):
            crowd.drain()
            began = time.perf_counter()
            crowd.push(klines)
            seconds += time.perf_counter() - began
        gc.enable()
        return seconds * deliveries / (crowd.size * PUSHES)

    return round_


def test_fan_out(benchmark: BenchmarkFixture, is_smoke: bool) -> None:
    klines = [(each, codec.encode(each)) for each in [kline(0, symbol="S0")]]
    made = Ring(1024 * 1024).append(*klines[0], 1, 0)[0].message("closed")
    frame = messages.frames([made])
    clients = CLIENTS_SMOKE if is_smoke else fitting(MANY_CLIENTS)
    with _crowd(clients) as many, _crowd(FEW_CLIENTS) as few:
        race(
            benchmark,
            stage=f"growth of fan-out, {many.size:,} clients",
            work=many.size,
            ours=lambda: many.push(klines),
            floor=timed(lambda: many.write(frame)),
            peers={f"{FEW_CLIENTS} clients": _to_few(few, klines, many.size)},
            before=many.drain,
            unit="delivery",
            goals={"floor": OF_ITS_FLOOR},
        )
