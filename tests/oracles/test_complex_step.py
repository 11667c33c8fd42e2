from __future__ import annotations

import numpy as np
import pytest

from gradcheck.formats import FLOAT64
from gradcheck.formulas import CATALOGUE
from gradcheck.oracles.complex_step import STEP, complex_step
from gradcheck.oracles.truth import Query, truths
from gradcheck.records import DERIVATIVE

U = FLOAT64.roundoff
X = np.random.default_rng(8).uniform(-6, 6, 400)
ANALYTIC = [formula for formula in CATALOGUE if formula.analytic and formula.textbook and formula.elementwise]


@pytest.mark.parametrize(
    ("text", "slope"),
    [
        (np.exp, np.exp),
        (np.sin, np.cos),
        (lambda x: x**3, lambda x: 3 * x**2),
        (lambda x: x / (1 + x * x), lambda x: (1 - x * x) / (1 + x * x) ** 2),
    ],
)
def test_an_analytic_text_has_its_derivative_to_a_few_units(text, slope):
    got, expected = complex_step(text, X), slope(X)
    assert np.all(np.abs(got - expected) <= 16 * U * (np.abs(expected) + 1))


@pytest.mark.parametrize("formula", ANALYTIC, ids=lambda formula: formula.name)
def test_textbook_formulas_agree_with_the_truth(formula):
    options = {name: float(value) for name, value in formula.complete({}).items()}
    got = complex_step(lambda z: formula.textbook(z, **options), X)
    (truth,) = truths(Query(formula, DERIVATIVE, FLOAT64, (X,), {}, np.ones_like(X)))
    assert np.all(np.abs(got - truth.lower.high) <= 64 * U * (np.abs(truth.lower.high) + np.abs(X) + 1))


def test_there_are_formulas_to_ask():
    assert len(ANALYTIC) >= 4


def test_no_cancellation_at_the_smallest_step():
    assert complex_step(np.square, np.array([1e-3]), 2.0**-300)[0] == pytest.approx(2e-3, rel=1e-15)
    assert STEP < U**1.5


def test_a_text_that_takes_the_modulus_is_not_differentiated():
    # The modulus of x + ih has no imaginary part: that is why `analytic` is declared and not tried.
    assert (complex_step(np.abs, X) == 0).all()


def test_a_wrong_derivative_differs():
    got = complex_step(np.exp, X)
    assert np.all(np.abs(got - np.exp(X) * (1 + 1e-12)) > 16 * U * np.exp(X))
