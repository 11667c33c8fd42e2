from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.cases import several_case
from gradcheck.checks import proof
from gradcheck.formats import FLOAT64
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.records import Case, Evidence, Verdict
from tests.formulas.points import points

NAMES = ("relu", "sigmoid", "tanh", "softplus", "gelu", "mish", "elu")
X = points(FLOAT64, seed=1, count=15)


def case_of(*arrays):
    return Case("plain", FLOAT64, tuple(np.asarray(a, dtype=np.float64) for a in arrays), seed=4)


def several(formula):
    rng, sizes = np.random.default_rng(2), itertools.count(2)
    lengths: dict[str, int] = {}
    arrays = []
    for axes in formula.axes:
        shape = [lengths.setdefault(name, length) for name, length in zip(axes, sizes, strict=False)]
        arrays.append(rng.normal(size=shape))
    return case_of(*arrays)


@pytest.mark.parametrize("name", NAMES)
def test_right_texts_are_proven(name):
    evidence = proof(get_formula(name), case_of(X))
    assert evidence.verdict is Verdict.ACCURATE
    assert evidence.compared >= X.size and evidence.undecided == 0
    assert evidence.resolution < 1e-15


def scaled(text, by):
    return lambda x, **options: by * text(x, **options)


def off_far_away(text):
    return lambda x, **options: text(x, **options) + np.where(x > 30, 1e-30 + 0 * x, 0 * x)


SPOILS = {
    "a relative 2^-50": lambda text: scaled(text, 1 + 2.0**-50),
    "an absolute 1e-25": lambda text: lambda x, **options: text(x, **options) + 1e-25,
    "one minus it": lambda text: lambda x, **options: 1 - text(x, **options),
    "1e-30 beyond 30": off_far_away,
}
# The second derivative of ReLU is zero everywhere, so a factor does not spoil it.
HARMLESS = {("relu", "second", "a relative 2^-50")}
SPOILED = [key for key in itertools.product(NAMES, ("derivative", "second"), SPOILS) if key not in HARMLESS]


@pytest.mark.parametrize(("name", "part", "spoil"), SPOILED)
def test_a_wrong_text_is_refuted(name, part, spoil):
    formula = get_formula(name)
    spoiled = replace(formula, **{part: SPOILS[spoil](getattr(formula, part))})
    evidence = proof(spoiled, case_of(X))
    assert evidence.verdict is Verdict.WRONG
    assert evidence.breaches["proof"] >= 1
    assert evidence.worst.context == f"derivative of order {1 if part == 'derivative' else 2}"


def test_the_resolution_is_what_is_granted():
    formula = get_formula("sigmoid")
    seen = proof(formula, case_of(X)).resolution
    largest = 0.25
    for share, verdict in ((0.5, Verdict.ACCURATE), (1.5, Verdict.WRONG)):
        off = share * seen * largest
        spoiled = replace(formula, derivative=lambda x, off=off: formula.derivative(x) + off, second=None)
        assert proof(spoiled, case_of([0.0])).verdict is verdict


def test_a_wrong_slope_on_one_side_is_refuted():
    formula = get_formula("relu")
    wrong = replace(formula, derivative=lambda x: np.where(x > -1e-3, 1 + 0 * x, 0 * x))
    assert proof(wrong, case_of([-1.0, 2.0])).verdict is Verdict.ACCURATE
    assert proof(wrong, case_of([-1.0, -1e-4, 2.0])).worst.input == (-1e-4,)


def test_kinks_are_not_compared():
    formula = replace(get_formula("relu"), derivative=lambda x: np.where(x > 0, 1 + 0 * x, 0 * x))
    evidence = proof(formula, case_of([0.0, 1.0]))
    assert evidence.verdict is Verdict.ACCURATE and evidence.compared == 2


def test_nothing_but_kinks_is_vacuous():
    assert proof(get_formula("relu"), case_of([0.0, -0.0])).verdict is Verdict.VACUOUS


SEVERAL = [formula for formula in CATALOGUE if formula.axes and not formula.kinds]
ARRANGED = [formula for formula in CATALOGUE if formula.arrange is not None and formula.vjp is not None]


@pytest.mark.parametrize("formula", SEVERAL, ids=lambda formula: formula.name)
def test_a_right_vjp_is_proven(formula):
    evidence = proof(formula, several(formula))
    assert evidence.verdict is Verdict.ACCURATE
    assert evidence.compared == sum(array.size for array in several(formula).inputs)


@pytest.mark.parametrize("entry", [0, -1])
@pytest.mark.parametrize(
    ("formula", "place"),
    [(formula, place) for formula in SEVERAL for place in range(len(formula.inputs))],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_one_wrong_entry_of_a_vjp_is_refuted(formula, place, entry):
    def vjp(inputs, cotangent, **options):
        gradients = list(formula.vjp(inputs, cotangent, **options))
        off = np.zeros(inputs[place].shape)
        off.ravel()[entry] = 1e-20
        gradients[place] = gradients[place] + off
        return tuple(gradients)

    evidence = proof(replace(formula, vjp=vjp), several(formula))
    assert evidence.breaches == {"proof": 1}
    assert evidence.worst.context == f"gradient of {formula.inputs[place]}"
    assert evidence.worst.index == range(several(formula).inputs[place].size)[entry]


@pytest.mark.parametrize("formula", ARRANGED, ids=lambda formula: formula.name)
def test_a_right_vjp_of_an_arranged_formula_is_proven(formula):
    total = Evidence()
    for seed in range(3):
        total = total.merge(proof(formula, several_case(formula, FLOAT64, 3, seed)))
    assert total.verdict is Verdict.ACCURATE and total.compared > 0


@pytest.mark.parametrize("formula", ARRANGED, ids=lambda formula: formula.name)
def test_a_slightly_wrong_vjp_of_an_arranged_formula_is_refuted(formula):
    place = formula.differentiated[0]

    def vjp(inputs, cotangent, **options):
        gradients = list(formula.vjp(inputs, cotangent, **options))
        gradients[place] = gradients[place] + np.full(inputs[place].shape, 1e-20)
        return tuple(gradients)

    spoilt = replace(formula, vjp=vjp)
    seen = [proof(spoilt, several_case(formula, FLOAT64, 3, seed)).verdict for seed in range(6)]
    assert Verdict.WRONG in seen
