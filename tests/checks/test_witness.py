from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck.cases import several_case
from gradcheck.checks import witness
from gradcheck.checks.witness import step_series
from gradcheck.formats import FLOAT64
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.records import Case, Verdict

X = np.concatenate([np.random.default_rng(3).uniform(-8, 8, 150), [0.0, 1.0, -1.0, 3.0, 6.0]])
ELEMENTWISE = [formula for formula in CATALOGUE if formula.elementwise]
SEVERAL = [formula for formula in CATALOGUE if formula.axes and not formula.kinds]
ARRANGED = [formula for formula in CATALOGUE if formula.arrange is not None and formula.vjp is not None]


def case_of(*arrays, seed=1):
    return Case("plain", FLOAT64, tuple(np.asarray(a, dtype=np.float64) for a in arrays), seed=seed)


def several(formula, seed):
    rng = np.random.default_rng(seed)
    names = sorted({name for axes in formula.axes for name in axes})
    lengths = {name: 2 + k for k, name in enumerate(names)}
    return case_of(*(rng.normal(size=[lengths[name] for name in axes]) for axes in formula.axes), seed=seed)


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
def test_the_witnesses_agree_with_a_right_derivative(formula):
    evidence = witness(formula, case_of(X))
    assert evidence.verdict is Verdict.ACCURATE, evidence.worst
    assert evidence.compared >= 1.5 * X.size


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda slope: lambda x, **options: slope(x, **options) * (1 + 1e-4) + 1e-4,
        lambda slope: lambda x, **options: slope(x, **options) + np.where(x > 5, 0.01 + 0 * x, 0 * x),
        lambda slope: lambda x, **options: -slope(x, **options) - 0.5,
    ],
    ids=["off by 1e-4", "off beyond 5", "of the other sign"],
)
def test_a_wrong_derivative_is_told(formula, spoil):
    wrong = replace(formula, derivative=spoil(formula.derivative))
    evidence = witness(wrong, case_of(X))
    assert evidence.verdict is Verdict.WRONG
    assert evidence.breaches["witness"] >= 1


def test_one_wrong_point_is_told():
    formula = get_formula("tanh")
    at = X[7]
    wrong = replace(
        formula, derivative=lambda x: formula.derivative(x) + np.where(np.equal(x, at), 0.001 + 0 * x, 0 * x)
    )
    assert witness(wrong, case_of(X)).worst.input == (at,)


def test_a_kink_is_asked_from_both_sides():
    evidence = witness(get_formula("relu"), case_of([0.0]))
    assert evidence.compared == 2 and evidence.verdict is Verdict.ACCURATE
    # A formula that claims a smooth point for a kink has one slope there, which no side contradicts.
    never = replace(get_formula("relu"), value=lambda x: np.maximum(2 * x, 0))
    assert witness(never, case_of([1.0])).verdict is Verdict.WRONG


def test_points_out_of_reach_are_not_asked():
    for x in ([np.nan, np.inf], [1e300, 1e-200], []):
        assert witness(get_formula("tanh"), case_of(x)).verdict is Verdict.VACUOUS


@pytest.mark.parametrize("formula", SEVERAL, ids=lambda formula: formula.name)
def test_a_directional_difference_agrees_with_a_right_vjp(formula):
    for seed in range(5):
        evidence = witness(formula, several(formula, seed))
        assert evidence.verdict is Verdict.ACCURATE and evidence.compared == 1


@pytest.mark.parametrize("formula", SEVERAL, ids=lambda formula: formula.name)
def test_a_directional_difference_tells_a_wrong_vjp(formula):
    def vjp(inputs, cotangent, **options):
        first, *rest = formula.vjp(inputs, cotangent, **options)
        off = np.zeros(inputs[0].shape)
        off.ravel()[0] = 1e-3
        return (first + off, *rest)

    for seed in range(5):
        assert witness(replace(formula, vjp=vjp), several(formula, seed)).verdict is Verdict.WRONG


def test_the_series_of_steps_stays_below_its_estimates():
    series = step_series(get_formula("tanh"), 0.75)
    assert {"central", "richardson"} <= set(series["series"])
    for name in ("central", "richardson"):
        rows = series["series"][name]
        assert len(rows) > 10 and all(error <= estimate for _, error, estimate in rows)


@pytest.mark.parametrize("formula", ARRANGED, ids=lambda formula: formula.name)
def test_a_directional_difference_agrees_on_arranged_cases_too(formula):
    verdicts = {witness(formula, several_case(formula, FLOAT64, 3, seed)).verdict for seed in range(4)}
    assert Verdict.ACCURATE in verdicts and Verdict.WRONG not in verdicts
