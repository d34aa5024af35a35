"""Rules of the plan: the same seed breaks the same things, and in time everything is broken."""

import pytest

from tests.faults.kinds.fault import EVERYTHING
from tests.faults.plan import schedule


def test_equal_seeds_have_equal_plans() -> None:
    assert schedule(7, 3) == schedule(7, 3)
    assert schedule(7, 3) != schedule(8, 3)


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_an_episode_hurt_different_parts(seed: int) -> None:
    for episode in schedule(seed, 5):
        touched = [part for planned in episode for part in planned.fault.touches]
        assert len(touched) == len(set(touched))
        assert EVERYTHING not in touched or len(episode) == 1


def test_a_plan_may_have_one_kind_only() -> None:
    episodes = schedule(1, 3, "kill everything")
    assert {planned.fault.kind for episode in episodes for planned in episode} == {
        "kill everything"
    }
    with pytest.raises(ValueError, match="no fault is called"):
        schedule(1, 3, "kill nobody")


def test_a_long_run_has_every_kind() -> None:
    kinds = {planned.fault.kind for episode in schedule(1, 30) for planned in episode}
    roles = ("ingest", "klines", "save", "gateway", "api")
    wanted = {f"{how} {role}" for role in roles for how in ("kill", "end", "pause")}
    wanted |= {f"{how} {server}" for server in ("nats", "postgres") for how in ("kill", "pause")}
    wanted |= {"two ingest", "two klines", "two save", "kill everything", "stall ingest>nats"}
    wanted |= {"disk full", "out of connections", "statement time-outs", "tables locked"}
    wanted |= {"deadlock", "poison on the bus", "poison in the buckets", "raw stream full"}
    wanted |= {"hostile push clients"}
    wanted |= {"second demo on the folder", "venue: gap", "venue: half_open", "venue: skew"}
    assert wanted <= kinds
    assert {kind.split()[0] for kind in kinds} >= {"cut", "refuse", "stall", "slow"}
