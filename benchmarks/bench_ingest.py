"""Ingest: frames of a venue, a trade each, to trades acknowledged by JetStream.

Ours is the ingest role as a process, floor and peer are processes beside it, and what is measured
is their processor time: a venue, nats-server and they share the machine's cores. The floor is a
`recv` loop of the websockets library that drops every frame. The peer decodes each with msgspec
and gives it to nats-py's ``publish_async`` with a message id. All get the same trades, of symbols
chosen uniformly, from a venue that never makes them wait; each round ends when all are stored.
"""

from collections.abc import Iterator
from statistics import median
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.ingest.stand import Stand, standing
from benchmarks.race import note, race
from benchmarks.roles import Around

TRADES: Final = 200_000
TRADES_SMOKE: Final = 2_000
ROUNDS: Final = 5
US: Final = 1e6
# Symbols: trades per second of a core.
PER_CORE: Final = {100: 150_000, 1_000: 120_000}
GOALS: Final = {"floor": 0.5, "publish_async": 3.0}
RATE: Final = 50_000
PACED_S: Final = 2.0
PACED_LIMIT_US: Final = 12.0


@pytest.fixture(scope="module", params=PER_CORE)
def stand(
    request: pytest.FixtureRequest,
    around: Around,
) -> Iterator[Stand]:
    with standing(request.param, around) as made:
        yield made


def test_saturated(benchmark: BenchmarkFixture, stand: Stand, is_smoke: bool) -> None:
    trades = TRADES_SMOKE if is_smoke else TRADES
    with (
        stand.reader("floor", trades) as floor,
        stand.reader("peer", trades) as peer,
    ):
        race(
            benchmark,
            stage=f"ingest, {stand.symbols:,} symbols",
            work=trades,
            ours=stand.ours(trades),
            floor=floor,
            peers={"publish_async": peer},
            goals=GOALS,
            limit_us=US / PER_CORE[stand.symbols],
            has_own_clock=True,
            rounds=ROUNDS,
        )


@pytest.mark.parametrize("stand", [100], indirect=True)
def test_paced(benchmark: BenchmarkFixture, stand: Stand, is_smoke: bool) -> None:
    trades = TRADES_SMOKE if is_smoke else int(RATE * PACED_S)
    took_s: list[float] = []
    with stand.reader("floor", trades, RATE) as floor:
        race(
            benchmark,
            stage="",
            work=trades,
            ours=stand.ours(trades, RATE, took_s.append),
            floor=floor,
            limit_us=PACED_LIMIT_US,
            has_own_clock=True,
            rounds=ROUNDS,
        )
    reached = round(trades / median(took_s), -3)  # the rate that was kept, not the one wished for
    note(benchmark, stage=f"ingest, {stand.symbols:,} symbols, {reached:,.0f} trades/s")
