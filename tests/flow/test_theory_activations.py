"""Activations that a user brings: how they are differentiated, where they have kinks, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from gradcheck.errors import UsageError
from gradcheck.flow.activations import activation_formulas, get_activation
from gradcheck.flow.moments import moments


def _without_complex(x: np.ndarray) -> np.ndarray:
    return np.array([math.tanh(v) for v in np.ravel(x)]).reshape(np.shape(x))


@pytest.mark.parametrize(
    ("function", "method"),
    [(np.tanh, "complex step"), (np.abs, "duals"), (_without_complex, "differences")],
)
def test_every_way_to_a_derivative_is_taken_where_it_is_right(function: Callable, method: str) -> None:
    assert get_activation(function).method == method


@pytest.mark.parametrize("name", sorted(activation_formulas()))
def test_a_callable_has_the_moments_of_the_formula_that_it_is(name: str) -> None:
    formula = activation_formulas()[name]
    known = get_activation(name)

    def same(x: np.ndarray) -> np.ndarray:
        return np.asarray(formula.value(x, **formula.complete({})))

    given_ = get_activation(same)
    for q in (0.3, 2.0):
        a, b = moments(known, q), moments(given_, q)
        for word in ("square", "slope_square", "square_rate"):
            gap = abs(float(getattr(a, word)) - float(getattr(b, word)))
            assert gap <= a.errors[word] + b.errors[word], word


def test_differences_say_what_they_are_off() -> None:
    a, b = moments(get_activation("tanh"), 1.0), moments(get_activation(_without_complex), 1.0)
    gap = abs(float(a.slope_square) - float(b.slope_square))
    assert gap <= b.errors["slope_square"]
    assert b.errors["slope_square"] > a.errors["slope_square"]


@given(
    kinks=st.lists(st.integers(-300, 300), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**16),
)
def test_kinks_are_found_where_they_are(kinks: list[int], seed: int) -> None:
    places = np.sort(np.array(kinks)) / 16 + 1 / 53
    jumps = np.random.default_rng(seed).uniform(0.25, 2.0, len(places))

    def bent(x: np.ndarray) -> np.ndarray:
        return sum((np.maximum(x - k, 0) * j for k, j in zip(places, jumps, strict=True)), 0.3 * x)

    found = np.array(get_activation(bent).kinks)
    assert found.shape == places.shape
    np.testing.assert_allclose(found, places, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "function", [np.tanh, np.sin, special.erf, lambda x: np.tanh(20 * x), lambda x: x**3]
)
def test_smooth_functions_have_no_kinks(function: Callable) -> None:
    known = get_activation(function)
    assert known.kinks == () and known.jumps == ()


def test_a_jump_is_no_kink() -> None:
    known = get_activation(np.sign)
    assert known.jumps == (0.0,) and known.kinks == ()
    assert float(moments(known, 1.0).slope_square) == 0


def test_functions_linear_on_both_sides_of_zero_are_known_by_their_values() -> None:
    assert get_activation("relu").slopes == (0.0, 1.0)
    assert get_activation(np.abs).slopes == (-1.0, 1.0)
    assert get_activation("leaky_relu", negative_slope=0.25).slopes == (0.25, 1.0)
    assert get_activation(lambda x: np.where(x > 1, x, 0.5 * x)).slopes is None
    assert get_activation("gelu").slopes is None
    assert (
        get_activation(np.exp).slopes is None and get_activation(lambda x: np.exp(x * x / 3)).slopes is None
    )


def test_the_closest_names_are_offered() -> None:
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        get_activation("rleu")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (3.0, "expected a name or a callable"),
        (lambda x: x.sum(), "array of its input's shape"),
        (lambda x: np.log(x), "must be finite; at -4.0"),
        (lambda x: x - x.mean(), "every element by itself"),
        (lambda x, y: x, "it raised TypeError"),
        (math.tanh, "it raised TypeError"),
    ],
)
def test_what_is_no_activation_is_refused(wrong: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        get_activation(wrong)  # type: ignore[arg-type]


def test_options_reach_the_activation() -> None:
    with pytest.raises(UsageError, match="no option 'slope'"):
        get_activation("leaky_relu", slope=0.1)
