"""Samples are taken in turn, intervals hold what they say, noise is named: on a clock that is made up."""

from __future__ import annotations

import gc
import math
import random
import time

import pytest

from gradcheck.bench.document import NOTHING
from gradcheck.bench.timing import (
    Clock,
    Sampled,
    Settings,
    Timed,
    calibrate,
    estimate,
    interleave,
    noise,
    ratios,
)


class World:
    """A clock on which calls take what they say, and others may hold the processor meanwhile."""

    def __init__(self) -> None:
        self.wall, self.processor = 100.0, 5.0
        self.slowness, self.waiting = 1.0, 0.0
        self.log: list[str] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.processor)

    def call(self, name: str, seconds: float) -> Timed:
        def run() -> None:
            self.wall += seconds * self.slowness + self.waiting
            self.processor += seconds * self.slowness
            self.log.append(name)

        return Timed(run)


def test_calls_are_timed_in_turn() -> None:
    world = World()
    settings = Settings(sample=1e-9, rounds=3, least=3, seconds=100)
    interleave([world.call("A", 1.0), world.call("B", 2.0)], settings, world.clock)
    # A call to warm up and one to find the number of loops, each; then A B A B A B.
    assert "".join(world.log) == "AABB" + "AB" * 3


def test_the_ratio_of_two_calls_withstands_a_machine_that_slows_down() -> None:
    world = World()
    slow, fast = world.call("slow", 3.0), world.call("fast", 1.0)

    def drift() -> None:
        world.slowness *= 1.07

    settings = Settings(sample=1e-9, rounds=15, least=7, seconds=1e9)
    found = interleave([Timed(slow.call, drift), fast], settings, world.clock)
    ratio = ratios(found[0], found[1])
    assert ratio.median == pytest.approx(3.0)
    assert ratio.high - ratio.low < 1e-9
    # Each time by itself spreads far.
    assert estimate(found[0].data).high > 1.5 * estimate(found[0].data).low


def test_short_calls_are_repeated_until_the_clock_can_tell() -> None:
    world = World()
    assert calibrate(world.call("A", 1e-6), 1e-3, world.clock) >= 1000
    assert calibrate(world.call("A", 1.0), 1e-3, world.clock) == 1


def test_an_interruption_does_not_pass_for_a_long_call() -> None:
    world = World()
    timed = world.call("A", 1e-6)
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        world.waiting = 2e-3 if calls == 2 else 0.0
        timed.call()

    assert calibrate(Timed(interrupted), 1e-3, world.clock) >= 900


def test_rounds_end_with_the_time_but_not_before_the_fewest() -> None:
    world = World()
    settings = Settings(sample=1e-9, rounds=50, least=7, seconds=1.0)
    (found,) = interleave([world.call("A", 10.0)], settings, world.clock)
    assert len(found.data) == 7


def test_samples_are_seconds_of_one_call() -> None:
    world = World()
    (found,) = interleave([world.call("A", 0.25)], Settings(1.0, 7, 7, 0.0), world.clock)
    assert found.loops >= 4
    assert found.data == pytest.approx([0.25] * 7)


def test_a_device_tells_its_own_time() -> None:
    world = World()
    timed = Timed(world.call("A", 5.0).call, measure=lambda loops: 0.5 * loops)
    (found,) = interleave([timed], Settings(1.0, 7, 7, 0.0), world.clock)
    assert found.data == (0.5,) * 7


def test_garbage_is_not_collected_meanwhile_and_is_afterwards() -> None:
    seen: list[bool] = []
    interleave([Timed(lambda: seen.append(gc.isenabled()))], Settings(0.0, 3, 3, 0.0))
    assert seen[-1] is False
    assert gc.isenabled()


@pytest.mark.parametrize(("n", "k"), [(6, 1), (9, 2), (15, 4), (25, 8), (101, 41)])
def test_the_interval_is_that_of_the_sign_test(n: int, k: int) -> None:
    # Tables of the sign test: the k-th from either end, at a confidence of at least 95 %.
    found = estimate(range(1, n + 1))
    assert (found.low, found.high) == (k, n + 1 - k)
    inside = 1 - 2 * sum(math.comb(n, j) for j in range(k)) / 2**n
    assert found.coverage == pytest.approx(inside)
    assert found.coverage >= 0.95


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    drawn = random.Random(3)
    runs = [estimate([drawn.expovariate(1.0) ** 3 for _ in range(11)]) for _ in range(2000)]
    share = sum(r.low <= math.log(2) ** 3 <= r.high for r in runs) / len(runs)
    assert abs(share - runs[0].coverage) < 0.02


def test_few_samples_say_what_their_interval_is_worth() -> None:
    assert estimate([1.0, 2.0]).coverage == pytest.approx(0.5)
    assert estimate([1.0]).coverage == 0.0
    assert math.isnan(estimate([]).median)


def test_a_steady_call_is_not_noisy() -> None:
    steady = Sampled(tuple(1 + 0.001 * k for k in range(11)), 1, (0.99,) * 11)
    assert noise(steady, NOTHING) == ""


@pytest.mark.parametrize(
    ("sampled", "said"),
    [
        (Sampled((1.0, 1.0, 1.0), 1, (1.0,) * 3), "too few"),
        (Sampled(tuple(1.0 + 0.1 * k for k in range(11)), 1, (1.0,) * 11), "a factor of"),
        (Sampled((1.0,) * 11, 1, (0.4,) * 11), "40% of a processor"),
        (Sampled((math.nan,) * 11, 1, (1.0,) * 11), "a factor of"),
    ],
)
def test_noise_has_its_reason(sampled: Sampled, said: str) -> None:
    assert said in noise(sampled, NOTHING)


def test_many_threads_use_more_or_less_than_one_processor() -> None:
    assert noise(Sampled((1.0,) * 11, 1, (0.4,) * 11), NOTHING, single=False) == ""


def test_the_ratio_decides_whether_a_measurement_is_noisy() -> None:
    wide = Sampled(tuple(1.0 + 0.1 * k for k in range(11)), 1, (1.0,) * 11)
    assert noise(wide, ratios(wide, wide)) == ""


def test_the_clock_is_monotonic() -> None:
    assert Clock().wall is time.perf_counter
    assert time.get_clock_info("perf_counter").monotonic
