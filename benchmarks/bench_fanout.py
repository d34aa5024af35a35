"""Fan-out: closed candles to a thousand, and ten thousand, WebSocket clients that subscribed them.

The floor writes the same frames, made and joined beforehand, to each transport. The peer is
`websockets.broadcast`, once per message. All three write to the same connections.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.crowd import Stand, drained, fitting
from benchmarks.race import race, timed
from market_ingestor.bus import codec
from market_ingestor.push import messages
from market_ingestor.push.ring import Ring
from tests.integration.push.harness import kline

CLIENTS: Final = (1_000, 10_000)
CLIENTS_SMOKE: Final = 50
# Messages at once, and the least ratios. One alone is one system call per client for everybody.
GOALS: Final[dict[int, dict[str, float]]] = {
    1: {"floor": 0.85, "websockets.broadcast": 1.1},
    10: {"floor": 0.75, "websockets.broadcast": 5.0},
}


@pytest.fixture(scope="module", params=CLIENTS)
def stand(request: pytest.FixtureRequest, is_smoke: bool) -> Iterator[Stand]:
    clients = CLIENTS_SMOKE if is_smoke else request.param
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = Stand(runner, fitting(clients))
        yield made
        made.close()


@pytest.mark.parametrize("count", GOALS)
def test_fan_out(benchmark: BenchmarkFixture, stand: Stand, count: int) -> None:
    klines = [
        (each, codec.encode(each)) for each in (kline(n, symbol=f"S{n}") for n in range(count))
    ]
    ring = Ring(1024 * 1024)
    made = [ring.append(*each, n, 0)[0].message("closed") for n, each in enumerate(klines, 1)]
    frames = messages.frames(made)
    texts = [each.text for each in made]
    stand.drain()
    stand.push(klines)
    assert stand.drain() == pytest.approx(len(frames) * stand.size, rel=0.05)  # positions differ

    def floor() -> None:
        stand.write(frames)

    def peer() -> None:
        stand.broadcast(texts)

    race(
        benchmark,
        stage=f"fan-out to {stand.size:,} clients, {count} at once",
        work=stand.size * count,
        ours=lambda: stand.push(klines),
        floor=drained(stand, timed(floor)),
        peers={"websockets.broadcast": drained(stand, timed(peer))},
        unit="delivery",
        goals=GOALS[count],
    )
