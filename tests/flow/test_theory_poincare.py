"""The Gaussian Poincaré inequality: E φ'² >= Var φ over N(0, 1), so batch norm never shrinks gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.flow.activations import Activation, activation_formulas, get_activation
from gradcheck.flow.batch_norm import wide_factor
from gradcheck.flow.moments import moments

COEFFICIENT = st.floats(-3.0, 3.0).map(lambda c: round(c, 3))
FREQUENCY = st.floats(0.1, 3.0).map(lambda c: round(c, 3))
TERM = st.tuples(
    st.sampled_from(["tanh", "sin", "hermite2", "hermite3"]), COEFFICIENT, FREQUENCY, COEFFICIENT
)


def smooth(terms: list[tuple[str, float, float, float]], slope: float) -> Activation:
    def value(x: np.ndarray) -> np.ndarray:
        return sum((c * _value(kind, a * x + b) for kind, c, a, b in terms), slope * x)

    def first(x: np.ndarray) -> np.ndarray:
        return sum((c * a * _slope(kind, a * x + b) for kind, c, a, b in terms), slope + 0 * x)

    return Activation("drawn", value, first)


def _value(kind: str, x: np.ndarray) -> np.ndarray:
    forms: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "tanh": np.tanh, "sin": np.sin, "hermite2": lambda t: t**2 - 1, "hermite3": lambda t: t**3 - 3 * t,
    }  # fmt: skip
    return forms[kind](x)


def _slope(kind: str, x: np.ndarray) -> np.ndarray:
    forms: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "tanh": lambda t: 1 / np.cosh(np.clip(t, -300, 300)) ** 2, "sin": np.cos,
        "hermite2": lambda t: 2 * t, "hermite3": lambda t: 3 * t**2 - 3,
    }  # fmt: skip
    return forms[kind](x)


@settings(deadline=None, max_examples=60)
@given(terms=st.lists(TERM, min_size=1, max_size=4), slope=COEFFICIENT, q=st.floats(0.05, 4.0))
def test_the_slope_outweighs_the_variance(
    terms: list[tuple[str, float, float, float]], slope: float, q: float
) -> None:
    at = moments(smooth(terms, slope), q)
    off = q * at.errors["slope_square"] + at.errors["square"] + 2 * np.abs(at.mean) * at.errors["mean"]
    assert q * at.slope_square + off + 1e-15 * at.square >= at.variance


@settings(deadline=None, max_examples=30)
@given(slope=st.floats(0.01, 100.0), shift=st.floats(-10.0, 10.0), q=st.floats(0.05, 4.0))
def test_linear_functions_have_equality(slope: float, shift: float, q: float) -> None:
    line = Activation("line", lambda x: slope * x + shift, lambda x: slope + 0 * x)
    at = moments(line, q)
    off = q * at.errors["slope_square"] + at.errors["square"] + 2 * np.abs(at.mean) * at.errors["mean"]
    assert abs(q * at.slope_square - at.variance) <= off


@settings(deadline=None, max_examples=30)
@given(curve=st.floats(0.05, 3.0), slope=st.floats(-3.0, 3.0))
def test_a_curved_function_has_none(curve: float, slope: float) -> None:
    # By Hermite coefficients a_n: E φ'² - Var φ = Σ (n - 1) a_n²; a parabola has a_2² = 2c².
    at = moments(smooth([("hermite2", curve, 1.0, 0.0)], slope), 1.0)
    assert float(at.slope_square - at.variance) == pytest.approx(2 * curve**2, rel=1e-9)


@pytest.mark.parametrize("name", sorted(activation_formulas()))
def test_batch_norm_never_shrinks_the_gradient_of_many_inputs(name: str) -> None:
    factor, error = wide_factor(get_activation(name))
    assert factor > 1 + error


def test_the_wrong_inequality_is_refuted() -> None:
    at = moments(get_activation("relu"), 1.0)
    assert float(at.slope_square) < float(at.square) + float(at.mean) ** 2
