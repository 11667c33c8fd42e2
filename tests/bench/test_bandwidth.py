from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.bench import bandwidth, memory
from gradcheck.bench.document import BACKWARD, FORWARD, Bandwidth
from gradcheck.bench.problems import problem, traffic
from gradcheck.bench.timing import Settings, estimate
from gradcheck.formats import FLOAT32, FLOAT64
from gradcheck.formulas import CATALOGUE, get_formula


def copy_of(size: int, seconds: float, threads: int = 1) -> Bandwidth:
    return Bandwidth("cpu", threads, size, estimate([seconds] * 7))


def test_a_copy_reads_and_writes() -> None:
    found = bandwidth.measure(bandwidth.numpy_copy, Settings(1e-5, 7, 7, 0.0), sizes=(1 << 12,))
    assert [each.bytes for each in found] == [2 << 12]
    assert found[0].rate > 0


def test_the_limit_is_read_off_the_copies() -> None:
    copies = (copy_of(1_000, 1e-6), copy_of(100_000, 1e-3))
    # 1 GB/s up to 1,000 bytes, 0.1 GB/s from 100,000 on, 0.55 GB/s in the middle of their logarithms. They go
    # through logarithms and divisions, so that the last digits are not those of the literal.
    assert bandwidth.limit(10, copies, 1, "cpu") == pytest.approx(1e-8)
    assert bandwidth.limit(10_000, copies, 1, "cpu") == pytest.approx(10_000 / 0.55e9)
    assert bandwidth.limit(10**6, copies, 1, "cpu") == pytest.approx(1e-2)


def test_there_is_no_limit_without_a_copy() -> None:
    assert math.isnan(bandwidth.limit(100, (copy_of(1_000, 1.0),), 2, "cpu"))
    assert math.isnan(bandwidth.limit(100, (copy_of(1_000, 1.0),), 1, "cuda"))
    assert math.isnan(bandwidth.limit(0, (copy_of(1_000, 1.0),), 1, "cpu"))


def test_an_elementwise_formula_reads_one_array_and_writes_one() -> None:
    given = problem(get_formula("relu"), FLOAT32, 1000, FORWARD)
    assert traffic(given, (given.inputs[0],)) == 2 * 4 * 1000


def test_a_gradient_reads_the_cotangent_as_well() -> None:
    given = problem(get_formula("relu"), FLOAT64, 1000, BACKWARD)
    assert traffic(given, (given.inputs[0],)) == 3 * 8 * 1000


def test_what_an_optimizer_does_not_touch_does_not_count() -> None:
    given = problem(get_formula("adam"), FLOAT32, 1000, FORWARD)
    # Weight, gradient and two moments in, weight and two moments out.
    outputs = (given.inputs[0], *given.inputs[2:])
    assert traffic(given, outputs) == 7 * 4 * 1000


@pytest.mark.parametrize("formula", CATALOGUE, ids=lambda f: f.name)
def test_every_formula_has_a_problem_of_about_the_size(formula: object) -> None:
    given = problem(formula, FLOAT32, 1000, FORWARD)  # type: ignore[arg-type]
    names = {name for name in given.formula.inputs}
    assert len(given.inputs) == len(names)
    assert given.elements <= 1000
    if given.formula.family != "schedules" and not given.formula.name.endswith("_lr"):
        assert given.elements >= 300 or given.formula.name in ("cosine_warm_restarts", "warm_up_chain")


def test_the_largest_batch_norm_is_4096_by_1024() -> None:
    from gradcheck.bench.problems import arrangement

    assert arrangement(get_formula("batch_norm"), 10_000_000).shapes[0] == (4096, 1024)


def test_the_memory_of_numpy_is_exact() -> None:
    x = np.ones(100_000)

    def call() -> np.ndarray:
        first = x + 1
        return first * 2

    peak = memory.traced(call)
    assert peak >= 2 * x.nbytes
    assert peak < 2 * x.nbytes + 20_000


def test_the_resident_size_grows_with_what_is_held() -> None:
    with memory.sampled() as sizes:
        held = np.ones(8 << 20)
    assert max(sizes) - sizes[0] > held.nbytes // 2
