"""What counts as growth over a run, and what does not."""

import random

import pytest

from benchmarks.trend import MEMORY, MIB, Tolerance, growth

EXACT = Tolerance(share=0.0, floor=0.0)


def test_a_steady_value_does_not_grow() -> None:
    assert growth("memory", [5.0] * 40, EXACT) is None


def test_a_slow_and_steady_rise_is_growth() -> None:
    found = growth("memory", [100.0 + each for each in range(40)], Tolerance(share=0.1, floor=1))
    assert found is not None
    assert (found.before, found.after) == (114.5, 134.5)
    assert str(found) == "memory grew from 114.5 to 134.5"


def test_what_fills_up_at_the_beginning_is_no_growth() -> None:
    assert growth("memory", [0.0, 50.0, 90.0, 99.0, *[100.0] * 12], EXACT) is None


def test_single_samples_do_not_matter() -> None:
    values = [1.0] * 40
    values[-1] = values[-6] = 1e9
    assert growth("latency", values, EXACT) is None


def test_what_grew_and_fell_again_is_no_growth() -> None:
    assert growth("queue", [1.0] * 10 + [9.0] * 20 + [1.0] * 10, EXACT) is None


def test_share_and_floor_are_allowed_together() -> None:
    values = [100.0] * 20 + [115.0] * 20
    assert growth("queue", values, Tolerance(share=0.1, floor=5)) is None
    assert growth("queue", values, Tolerance(share=0.1, floor=4)) is not None


def test_eight_bytes_a_trade_show_within_half_an_hour_and_noise_does_not() -> None:
    dice = random.Random(3)
    noise = [60 * MIB + dice.uniform(-4, 4) * MIB for _ in range(120)]
    leak = [value + 8 * 5_000 * 15 * number for number, value in enumerate(noise)]
    assert growth("memory of klines", noise, MEMORY) is None
    assert growth("memory of klines", leak, MEMORY) is not None


def test_too_few_samples_are_not_judged() -> None:
    with pytest.raises(ValueError, match="too few"):
        growth("memory", [1.0] * 7, EXACT)
