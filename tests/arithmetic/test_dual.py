"""Duals: derivatives of texts over every arithmetic, one-sided at kinks, nested for second order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck import derivative, formulas
from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.arithmetic.dual import Dual
from gradcheck.arithmetic.exact import exact
from gradcheck.arithmetic.rounded import Model, rounded
from gradcheck.errors import Unsupported
from gradcheck.formats import FLOAT32, FLOAT64

ONE = np.ones(1)


def slope(text, x: float, side: float = 1.0) -> float:
    """The one-sided derivative of a text, over balls."""
    with precision(200):
        result = text(Dual(balls(np.array([x])), balls(side * ONE)))
        return side * float(to_estimate(result.tangent).high.ravel()[0])


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        (lambda x: x * x * x, 2.0, 12.0),
        (lambda x: x**3, 2.0, 12.0),
        (lambda x: 1 / x, 2.0, -0.25),
        (lambda x: (x + 1) / (x - 1), 2.0, -2.0),
        (lambda x: np.sqrt(x), 4.0, 0.25),
        (lambda x: np.exp(-np.square(x)), 0.0, 0.0),
        (lambda x: np.log(x) + np.log1p(x), 1.0, 1.5),
        (lambda x: np.where(x > 1, 3 * x, 5 * x), 2.0, 3.0),
        (lambda x: np.sum(np.clip(x, -1, 1) * x), 0.5, 1.0),
        (lambda x: exact(3) * x - x, 1.0, 2.0),
        (lambda x: np.concatenate([x, 2 * x])[1:], 1.0, 2.0),
    ],
)
def test_rules_of_differentiation(text, x, expected):
    assert slope(text, x) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "left", "right"),
    [
        (lambda x: np.maximum(0, x), 0.0, 1.0),
        (np.abs, -1.0, 1.0),
        (lambda x: np.minimum(x, 0), 1.0, 0.0),
        (lambda x: np.where(x > 0, x, exact("0.25") * x), 0.25, 1.0),
        (lambda x: np.clip(x, 0, 1), 0.0, 1.0),
    ],
)
def test_a_kink_gives_the_slope_of_the_side_that_the_tangent_points_to(text, left, right):
    assert (slope(text, 0.0, -1.0), slope(text, 0.0, 1.0)) == (left, right)


@pytest.mark.parametrize("side", (-1.0, 1.0))
@pytest.mark.parametrize(("name", "expected"), [("sigmoid", 0.25), ("softplus", 0.5), ("silu", 0.5)])
def test_an_artificial_kink_in_a_smooth_text_gives_the_one_slope(name, expected, side):
    assert slope(formulas.get_formula(name), 0.0, side) == expected


@pytest.mark.parametrize("side", (-1.0, 1.0))
def test_nested_duals_give_second_derivatives(side):
    with precision(200):
        x = balls(np.array([1.5]))
        seed = balls(side * ONE)
        result = formulas.tanh(Dual(Dual(x, seed), Dual(seed)))
        second = float(to_estimate(result.tangent.tangent).high[0])
    t = np.tanh(1.5)
    assert second == pytest.approx(-2 * t * (1 - t * t), rel=1e-14)


@given(st.floats(-30, 30))
def test_the_dual_over_rounded_encloses_the_derivative(x):
    point = np.array([x])
    interval = derivative(formulas.sigmoid)(rounded(point, Model(FLOAT64)))
    with precision(200):
        truth = to_estimate(derivative(formulas.sigmoid)(balls(point)))
    assert interval.lo[0] <= truth.high[0] <= interval.hi[0]


def test_the_public_derivative_works_on_plain_arrays():
    x = np.array([-1.0, 0.5])
    assert derivative(formulas.relu)(x).tolist() == [0.0, 1.0]
    assert derivative(lambda x: np.full_like(x, 3))(x).tolist() == [0.0, 0.0]


def test_a_constant_has_no_tangent():
    assert (exact(2) * Dual(rounded(ONE, Model(FLOAT32)))).tangent is None


def test_what_duals_do_not_know_they_refuse():
    with pytest.raises(Unsupported):
        np.arctan(Dual(ONE, ONE))
    with pytest.raises(Unsupported):
        np.cumsum(Dual(ONE, ONE))
