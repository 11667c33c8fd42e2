"""Balls enclose: against mpmath, in every branch that a ball straddles, and when converted."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from gradcheck.arithmetic.ball import Ball, balls, precision, to_estimate
from gradcheck.arithmetic.exact import PI, exact
from gradcheck.arithmetic.mask import Mask
from gradcheck.errors import Undecided, Unsupported
from gradcheck.families import FAMILIES, build
from gradcheck.formats import FLOAT64
from gradcheck.formulas import CATALOGUE
from gradcheck.oracles import second_truth
from gradcheck.oracles.truth import Query, truths

ELEMENTWISE = [formula for formula in CATALOGUE if formula.elementwise]


def wide(middle: float, radius: float) -> Ball:
    """One ball with a radius."""
    data = np.empty(1, dtype=object)
    data[0] = arb(middle, radius)
    return Ball(data)


@pytest.mark.parametrize("order", (0, 1, 2), ids=("value", "derivative", "second"))
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_balls_agree_with_mpmath(formula, order):
    x = np.concatenate([build(family, 5, 6, FLOAT64, ()) for family in sorted(FAMILIES)])
    x = x[(np.abs(x) < 1e4) & (np.abs(x) > 1e-30)]
    kinks = [float(k) for k in formula.kinks(**formula.complete({}))] if formula.kinks else []
    x = x[~np.isin(x, kinks)]
    ones = np.ones_like(x)
    query = Query(formula, order, FLOAT64, (x,), {}, ones if order else None, (ones,) if order == 2 else ())
    (truth,) = truths(query)
    for point, high, low, radius in zip(
        x, truth.lower.high, truth.lower.low, truth.lower.radius, strict=True
    ):
        precise = second_truth.derivative(formula, float(point), order, {})
        with mpmath.workdps(60):
            difference = abs(precise - mpmath.mpf(float(high)) - mpmath.mpf(float(low)))
            assert difference <= mpmath.mpf(float(radius)) + abs(precise) * mpmath.mpf(10) ** -28 + 5e-324


def test_a_maximum_of_a_ball_that_straddles_encloses_both():
    result = np.maximum(wide(0, 1), 0.5).data[0]
    assert result.contains(0.5) and result.contains(1) and not result.contains(2)


def test_a_where_that_is_undecided_encloses_both_branches():
    x = wide(0, 1)
    result = np.where(x > 0, x + 10, x - 10).data[0]
    assert result.contains(10) and result.contains(-10)


def test_a_where_that_is_decided_takes_one_branch():
    x = balls([2.0, -2.0])
    result = to_estimate(np.where(x > 0, x, -x))
    assert (result.high == 2).all() and (result.radius == 0).all()


def test_a_branch_on_an_undecided_comparison_is_refused():
    with pytest.raises(Undecided):
        bool(wide(0, 1) > 0)


def test_comparisons_are_three_valued():
    mask = wide(0, 1) < 0
    assert isinstance(mask, Mask) and mask.maybe.all() and not mask.yes.any()
    assert (~mask).maybe.all() and (mask | (wide(0, 1) >= 0)).maybe.all()
    assert (wide(-5, 1) < 0).yes.all() and not (wide(5, 1) < 0).maybe.any()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_the_way_through_a_ball(x):
    estimate = to_estimate(balls(x))
    assert estimate.high == x and estimate.low == 0 and estimate.radius == 0


@given(st.floats(-700, 700))
def test_an_estimate_contains_its_ball(x):
    with precision(160):
        ball = np.exp(balls(x))
        estimate = to_estimate(ball)
        rest = ball.data[()] - arb(float(estimate.high)) - arb(float(estimate.low))
        assert abs(rest) <= arb(float(estimate.radius))


def test_what_lies_beyond_float64_is_infinite_and_what_is_undefined_is_nan():
    with precision(64):
        beyond = to_estimate(np.exp(balls([1e4])))
        undefined = to_estimate(np.log(balls([-1.0])))
    assert beyond.high[0] == np.inf and beyond.radius[0] == 0
    assert np.isnan(undefined.high[0]) and undefined.radius[0] == np.inf


def test_precision_is_put_back():
    import flint

    before = flint.ctx.prec
    with pytest.raises(ZeroDivisionError), precision(999):
        assert flint.ctx.prec == 999
        raise ZeroDivisionError
    assert flint.ctx.prec == before


def test_constants_are_rounded_by_each_precision_for_itself():
    with precision(300):
        third = to_estimate(balls(1.0) / 3 - exact(1) / 3 * balls(1.0))
        root = to_estimate(np.square(np.sqrt(PI) * balls(1.0)) - PI)
    assert abs(third.high) < 1e-80 and abs(root.high) < 1e-80


@pytest.mark.parametrize("call", [np.arctan, np.cumsum, np.linalg.norm, lambda x: np.add.reduce(x)])
def test_what_the_arithmetic_does_not_know_it_refuses(call):
    with pytest.raises((Unsupported, TypeError)):
        call(balls([1.0, 2.0]))


@pytest.mark.parametrize("ufunc", [special.erf, special.erfc, np.tanh, np.expm1, np.log1p, np.cosh])
def test_elementary_functions_contain_scipy_and_numpy_to_a_few_units(ufunc):
    x = np.linspace(-0.9, 4, 50)
    with precision(100):
        truth = to_estimate(ufunc(balls(x)))
    assert (np.abs(ufunc(x) - truth.high) <= 8 * np.spacing(np.abs(truth.high))).all()
