"""Rules of the plan: the same seed breaks the same things, and in time everything is broken."""

from itertools import islice

import pytest

from tests.faults.kinds.fault import EVERYTHING
from tests.faults.plan import Episode, schedule


def first(count: int, seed: int, minutes: float, only: str = "") -> list[Episode]:
    return list(islice(schedule(seed, minutes, only), count))


def test_equal_seeds_have_equal_plans() -> None:
    assert first(20, 7, 3) == first(20, 7, 3)
    assert first(20, 7, 3) != first(20, 8, 3)


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_an_episode_hurt_different_parts(seed: int) -> None:
    for episode in first(100, seed, 5):
        touched = [part for planned in episode for part in planned.fault.touches]
        assert len(touched) == len(set(touched))
        assert EVERYTHING not in touched or len(episode) == 1


def test_a_plan_may_have_one_kind_only() -> None:
    episodes = first(20, 1, 3, "kill everything")
    assert {planned.fault.kind for episode in episodes for planned in episode} == {
        "kill everything"
    }
    with pytest.raises(ValueError, match="no fault is called"):
        first(1, 1, 3, "kill nobody")


def test_a_long_run_has_every_kind() -> None:
    kinds = {planned.fault.kind for episode in first(150, 1, 30) for planned in episode}
    roles = ("ingest", "klines", "save", "gateway", "api")
    wanted = {f"{how} {role}" for role in roles for how in ("kill", "end", "pause")}
    wanted |= {f"{how} {server}" for server in ("nats", "postgres") for how in ("kill", "pause")}
    wanted |= {"two ingest", "two klines", "two save", "kill everything", "stall ingest>nats"}
    wanted |= {"disk full", "out of connections", "statement time-outs", "tables locked"}
    wanted |= {"deadlock", "poison on the bus", "poison in the buckets", "raw stream full"}
    wanted |= {"hostile push clients", "forget durables"}
    wanted |= {"second demo on the folder", "venue: gap", "venue: half_open", "venue: skew"}
    assert wanted <= kinds
    assert {kind.split()[0] for kind in kinds} >= {"cut", "refuse", "stall", "slow"}
