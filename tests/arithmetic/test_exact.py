"""Exact constants become the nearest number of whatever they meet."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.arithmetic.exact import PI, exact, exact_option
from gradcheck.errors import Undecided, Unsupported

ROOT = np.sqrt(2 / PI)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_beside_an_array_a_constant_takes_its_format(dtype):
    x = np.ones(3, dtype)
    for result in (ROOT * x, x * ROOT, x - ROOT, np.where(x > 0, x, ROOT), np.maximum(x, ROOT)):
        assert result.dtype == x.dtype
    assert (x * ROOT)[0] == np.asarray(0.7978845608028654).astype(dtype)


@given(st.fractions(), st.fractions(min_value=Fraction(1, 10**6)))
def test_arithmetic_of_rationals_is_exact(a, b):
    assert (exact(a) + exact(b)).rational == a + b
    assert (exact(a) / exact(b)).rational == a / b
    assert (exact(a) < exact(b)) == (a < b)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_kept_bit_for_bit(x):
    assert float(exact(x)) == x


def test_decimal_text_is_that_decimal():
    assert exact("0.1").rational == Fraction(1, 10) != exact(0.1).rational


def test_a_power_that_double_would_lose_is_kept():
    b, t = exact(0.9999999), 3
    assert float(1 - b**t) == pytest.approx(float(1 - Fraction(0.9999999) ** 3), rel=1e-15)


def test_what_cannot_be_told_apart_is_said():
    with pytest.raises(Undecided):
        bool(np.square(np.sqrt(exact(2))) < exact(2))


def test_an_unknown_function_of_constants_is_refused():
    with pytest.raises(Unsupported):
        np.arctan(PI)


def test_options_become_exact_only_where_they_are_finite_numbers():
    assert exact_option(float("inf")) == float("inf")
    assert exact_option(True) is True and exact_option("none") == "none"
    assert exact_option(0.25).rational == Fraction(1, 4)


def test_infinity_is_no_exact_number():
    with pytest.raises(ValueError, match="finite"):
        exact(float("inf"))
