"""How many elements a second each arithmetic evaluates on one core; `make bench` runs this, no test does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck import cases, checks
from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.arithmetic.dual import derivative
from gradcheck.arithmetic.rounded import Model, rounded
from gradcheck.checks import reference
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64
from gradcheck.formulas import get_formula
from gradcheck.oracles.truth import Query, truths
from gradcheck.subjects.numpy import NUMPY

NAMES = ("relu", "sigmoid", "tanh", "softplus", "gelu")
BITS = 128
COUNT = 10_000


def points(count: int = COUNT) -> np.ndarray:
    return 4 * np.random.default_rng(11).normal(size=count)


@pytest.fixture
def measure(benchmark) -> Callable[[Callable[[], Any], int], Any]:
    """Time a call that handles so many elements, and store its rate."""

    def timed(call: Callable[[], Any], count: int) -> Any:
        result = benchmark(call)
        benchmark.extra_info["elements_per_second"] = count / benchmark.stats.stats.min
        return result

    return timed


@pytest.mark.parametrize("order", [0, 1], ids=["value", "derivative"])
@pytest.mark.parametrize("name", NAMES)
def test_truth_of_float64_over_balls(measure, name, order):
    x = points()
    query = Query(get_formula(name), order, FLOAT64, (x,), {}, np.ones_like(x) if order else None)
    (truth,) = measure(lambda: truths(query), x.size)
    assert truth.decided.all()


@pytest.mark.parametrize("name", NAMES)
def test_dual_over_balls(measure, name):
    formula, x = get_formula(name), points()
    slope, options = derivative(formula.value), formula.complete({})

    def call() -> Any:
        with precision(BITS):
            return to_estimate(slope(balls(x), **options))

    assert np.isfinite(measure(call, x.size).radius).all()


@pytest.mark.parametrize("order", [0, 1], ids=["value", "derivative"])
@pytest.mark.parametrize("name", NAMES)
def test_rounded(measure, name, order):
    formula, x = get_formula(name), FLOAT32.round(points(200_000))
    text, options = (formula.value, formula.derivative)[order], formula.complete({})
    interval = measure(lambda: text(rounded(x, Model(FLOAT32)), **options), x.size)
    assert interval.shape == x.shape


@pytest.mark.parametrize("name", ["tanh"])
def test_judging_every_number_of_a_16_bit_format(measure, name, monkeypatch):
    formula = get_formula(name)
    implementation, case = NUMPY.implement(formula, BFLOAT16), cases.exhaustive(formula, BFLOAT16, {})

    def call() -> Any:
        # Truth and bounds are kept between calls of a run; here their time is part of what is measured.
        reference._MEMORY.clear()
        reference._LONGEST.clear()
        return checks.value(implementation, formula, case)

    evidence = measure(call, case.inputs[0].size)
    assert evidence.compared == case.inputs[0].size
