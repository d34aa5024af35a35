"""Attempts are spaced so that no venue ever calls them a storm."""

import random

import pytest

from market_ingestor.connectors.backoff import Backoff, Turnstile


@pytest.mark.parametrize("seed", range(50))
def test_a_server_that_accepts_and_closes_sees_fewer_than_ten_connects_a_minute(seed: int) -> None:
    backoff = Backoff(max_s=60, rng=random.Random(seed))
    at, connects = 0.0, 0
    while at < 60:
        connects += 1
        at += backoff.next_s()
    assert connects < 10


def test_delays_grow_to_the_bound_and_vary() -> None:
    backoff = Backoff(max_s=60, rng=random.Random(1))
    delays = [backoff.next_s() for _ in range(40)]
    assert 0.5 <= delays[0] <= 1
    assert all(30 <= each <= 60 for each in delays[6:])
    assert len(set(delays)) == len(delays)


def test_reset_begins_anew() -> None:
    backoff = Backoff(max_s=60, rng=random.Random(1))
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1


def test_a_turnstile_spaces_passes() -> None:
    gate = Turnstile(2.0)
    assert [gate.wait_s(100.0) for _ in range(3)] == [0, 2, 4]
    assert gate.wait_s(110.0) == 0


def test_nobody_passes_while_it_is_closed() -> None:
    gate = Turnstile(1.0)
    gate.close(130.0)
    gate.close(120.0)  # an earlier end does not open it
    assert gate.wait_s(100.0) == 30
    assert gate.closed_s(125.0) == 5
    assert gate.wait_s(131.0) == 0


def test_what_follows_a_ban_is_no_burst() -> None:
    gate = Turnstile(1.0)
    gate.close(130.0)
    assert [gate.wait_s(130.0) for _ in range(3)] == [0, 1, 2]
