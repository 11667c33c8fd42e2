"""One special number among ordinary ones: which results it may reach, and which it must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck.checks.special import special
from gradcheck.formats import FLOAT32, FLOAT64
from gradcheck.formulas import get_formula
from gradcheck.records import Case, Verdict
from gradcheck.subjects import get_subject

DENSE = get_formula("dense")


def case(fmt):
    rng = np.random.default_rng(1)
    shapes = ((3, 4), (2, 4), (2,))
    return Case("plain", fmt, tuple(rng.normal(size=shape).astype(fmt.dtype) for shape in shapes))


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("subject", ["numpy", "torch-cpu"])
@pytest.mark.parametrize("formula", ["dense", "prelu", "neuron"])
def test_correct_implementations_are_silent(formula, subject, fmt):
    known = get_formula(formula)
    shapes = {"dense": ((3, 4), (2, 4), (2,)), "prelu": ((3, 4), (4,)), "neuron": ((3, 4), (4,), ())}[formula]
    rng = np.random.default_rng(2)
    drawn = tuple(np.asarray(rng.normal(size=shape)).astype(fmt.dtype) for shape in shapes)
    found = special(get_subject(subject).implement(known, fmt), known, Case("plain", fmt, drawn))
    assert found.compared > 0 and not found.verdict.is_finding, found


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda y: np.nan_to_num(y), id="drops NaN and infinities"),
        pytest.param(lambda y: np.where(np.isnan(y).any(), np.nan, y), id="spreads NaN over every row"),
        pytest.param(lambda y: np.abs(y), id="loses the sign of an infinity"),
        pytest.param(lambda y: np.where(np.isinf(y), np.nan, y), id="NaN for infinity"),
    ],
)
def test_liars_are_caught(spoil):
    honest = get_subject("numpy").implement(DENSE, FLOAT64)
    liar = replace(honest, forward=lambda inputs, options: spoil(honest.forward(inputs, options)), vjp=None)
    assert special(liar, DENSE, case(FLOAT64)).verdict is Verdict.WRONG


def test_an_implementation_that_raises_is_a_finding():
    def refuse(inputs, options):
        raise ValueError("not finite")

    honest = get_subject("numpy").implement(DENSE, FLOAT64)
    found = special(replace(honest, forward=refuse, vjp=None), DENSE, case(FLOAT64))
    assert found.breaches["raised"] and "not finite" in found.notes[0]


def test_every_input_takes_its_turn():
    honest = get_subject("numpy").implement(DENSE, FLOAT64)
    met: set[int] = set()

    def forward(inputs, options):
        met.update(k for k, array in enumerate(inputs) if not np.isfinite(array).all())
        return honest.forward(inputs, options)

    special(replace(honest, forward=forward, vjp=None), DENSE, replace(case(FLOAT64), seed=0))
    assert met == {0, 1}
    special(replace(honest, forward=forward, vjp=None), DENSE, replace(case(FLOAT64), seed=1))
    assert met == {0, 1, 2}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_that_is_passed_over_is_caught_in_every_input(place):
    honest = get_subject("numpy").implement(DENSE, FLOAT64)

    def forward(inputs, options):
        kept = [np.nan_to_num(array) if k == place else array for k, array in enumerate(inputs)]
        return honest.forward(tuple(kept), options)

    liar = replace(honest, forward=forward, vjp=None)
    verdicts = [special(liar, DENSE, replace(case(FLOAT64), seed=seed)).verdict for seed in range(3)]
    assert Verdict.WRONG in verdicts
