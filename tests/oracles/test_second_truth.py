from __future__ import annotations

import mpmath
import numpy as np
import pytest

from gradcheck.errors import Unsupported
from gradcheck.formats import FLOAT64
from gradcheck.formulas import get_formula
from gradcheck.oracles.second_truth import DIGITS, Precise, derivative, value_text
from gradcheck.oracles.truth import Query, truths
from gradcheck.records import Formula
from tests.formulas.points import ELEMENTWISE

KNOWN = [
    ("sigmoid", 0, 1.0, "0.731058578630004879251159241821836274365"),
    ("sigmoid", 1, 0.0, "0.25"),
    ("sigmoid", 2, 0.0, "0"),
    ("tanh", 1, 1.0, "0.41997434161402606939449673904170144"),
    ("tanh", 2, 1.0, "-0.6397000084492245001884917693"),
    ("gelu", 1, 0.0, "0.5"),
    ("softplus", 0, -100.0, "3.7200759760208359629596958038631183e-44"),
    ("relu", 1, 0.0, "1"),
    ("elu", 2, 0.0, "0"),
]


@pytest.mark.parametrize(("name", "order", "x", "digits"), KNOWN)
def test_known_numbers(name, order, x, digits):
    got = derivative(get_formula(name), x, order, {})
    with mpmath.workdps(DIGITS):
        expected = mpmath.mpf(digits)
        allowed = mpmath.mpf(10) ** -28 * abs(expected) + (mpmath.mpf(10) ** -34 if order else 0)
        assert abs(got - expected) <= allowed


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
def test_both_truth_engines_agree(formula):
    x = np.array([-20.0, -2.5, -0.3, 1e-9, 0.7, 2.5, 30.0])
    for order in (0, 1):
        ones = np.ones_like(x) if order else None
        (truth,) = truths(Query(formula, order, FLOAT64, (x,), {}, ones))
        for k, point in enumerate(x):
            with mpmath.workdps(DIGITS):
                got = derivative(formula, float(point), order, {})
                mid = mpmath.mpf(float(truth.lower.high[k])) + mpmath.mpf(float(truth.lower.low[k]))
                assert (
                    abs(got - mid)
                    <= mpmath.mpf(float(truth.lower.radius[k])) + abs(got) * mpmath.mpf(10) ** -29
                )


def test_a_wrong_text_is_told():
    wrong = Formula("sigmoid", "", "", "", lambda x: 1 / (1 + np.exp(-x)) + 1e-20 * x)
    right = get_formula("sigmoid")
    assert abs(value_text(wrong, 1.0, {}) - value_text(right, 1.0, {})) > 1e-21


def test_digits_are_as_many_as_asked_for():
    with mpmath.workdps(200):
        third = value_text(Formula("third", "", "", "", lambda x: x / 3), 1.0, {}, digits=190)
        assert abs(3 * third - 1) < mpmath.mpf(10) ** -185


def test_unknown_calls_are_refused():
    with pytest.raises(Unsupported):
        np.arctan(Precise(mpmath.mpf(1)))
    with pytest.raises(Unsupported):
        np.concatenate([Precise(mpmath.mpf(1))])
