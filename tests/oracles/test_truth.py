from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from gradcheck.arithmetic.rounded import Model
from gradcheck.compare import judge, to_evidence
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.oracles.truth import Query, bounds, confirmed, texts, truths
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Standing, Verdict
from tests.formulas.points import ELEMENTWISE, off_kinks, points

# Thirty digits of each, from tables of the functions.
KNOWN = [
    ("sigmoid", VALUE, 1.0, "0.731058578630004879251159241822"),
    ("sigmoid", DERIVATIVE, 0.0, "0.25"),
    ("tanh", VALUE, 1.0, "0.761594155955764888119458282605"),
    ("tanh", DERIVATIVE, 1.0, "0.419974341614026069394496739042"),
    ("softplus", VALUE, 1.0, "1.313261687518222834048995494968"),
    ("gelu", VALUE, 1.0, "0.841344746068542948585232545632"),
    ("elu", SECOND, -1.0, "0.367879441171442321595523770161"),
    ("relu", VALUE, -3.0, "0"),
]


def ask(formula, order, fmt, x, *, cotangent=1.0, options=None):
    x = np.atleast_1d(np.asarray(x, dtype=np.float64))
    ones = np.ones_like(x)
    along = (ones,) if order == SECOND else ()
    return Query(formula, order, fmt, (x,), options or {}, cotangent * ones if order else None, along)


def exact(value):
    return Fraction(float(value))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(("name", "order", "x", "digits"), KNOWN)
def test_the_truth_encloses_a_known_number(name, order, x, digits, fmt):
    (truth,) = truths(ask(get_formula(name), order, fmt, x))
    end = truth.lower
    distance = abs(exact(end.high[0]) + exact(end.low[0]) - Fraction(digits))
    assert truth.decided.all()
    assert distance <= exact(end.radius[0]) + Fraction(1, 10**29)
    assert end.radius[0] <= 2.0**-10 * fmt.ulp(end.high[0])


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(
    ("name", "order", "x", "low", "high"),
    [
        ("relu", DERIVATIVE, 0.0, 0.0, 1.0),
        ("hardtanh", DERIVATIVE, 1.0, 0.0, 1.0),
        ("hardtanh", DERIVATIVE, -1.0, 0.0, 1.0),
        ("relu6", DERIVATIVE, 6.0, 0.0, 1.0),
        ("relu6", DERIVATIVE, 0.0, 0.0, 1.0),
        ("elu", SECOND, 0.0, 0.0, 1.0),
        ("elu", DERIVATIVE, 0.0, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("cotangent", [1.0, -2.0])
def test_at_a_kink_every_number_between_both_slopes_is_right(name, order, x, low, high, cotangent, fmt):
    (truth,) = truths(ask(get_formula(name), order, fmt, x, cotangent=cotangent))
    ends = sorted((low * cotangent, high * cotangent))
    assert [truth.lower.high[0], truth.upper.high[0]] == ends
    assert truth.decided.all()


def test_beside_a_kink_there_is_one_slope():
    x = np.array([np.nextafter(0, -1), np.nextafter(0, 1)])
    (truth,) = truths(ask(get_formula("relu"), DERIVATIVE, FLOAT64, x))
    assert truth.lower.high.tolist() == truth.upper.high.tolist() == [0.0, 1.0]


def step_at_root(x):
    """Whether √x² >= x: always true, and never decided by an enclosure of a root that is no float."""
    return np.where(np.square(np.sqrt(x)) >= x, np.ones_like(x), np.zeros_like(x))


UNDECIDABLE = Formula("step", "step", "", "", step_at_root)


def test_what_is_undecided_is_never_compared():
    query = ask(UNDECIDABLE, VALUE, FLOAT64, [2.0, 3.0])
    (truth,), (bound,) = truths(query), bounds(query, Model(FLOAT64))
    assert not truth.decided.any()
    for got in (np.array([1.0, 1.0]), np.array([7.0, np.nan])):
        evidence = to_evidence(judge(got, truth, bound, FLOAT64), got, query.inputs, "")
        assert (evidence.compared, evidence.undecided, evidence.worst) == (0, 2, None)
        assert evidence.verdict is Verdict.VACUOUS


def test_one_undecided_element_keeps_the_others():
    formula = Formula("step", "", "", "", step_at_root, derivative=lambda x: x)
    query = ask(formula, VALUE, FLOAT64, [2.0, 4.0])
    (truth,) = truths(query)
    assert truth.decided.tolist() == [False, True]


@pytest.mark.parametrize("order", [VALUE, DERIVATIVE, SECOND])
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
def test_the_derivative_of_the_value_text_is_what_the_derivative_text_says(formula, order):
    if texts_of(formula)[order] is None:
        pytest.skip("the formula has no text of this order")
    x = off_kinks(formula, points(FLOAT32, seed=3, count=12), {})
    query = ask(formula, order, FLOAT64, x)
    (truth,), known = truths(query), confirmed(query)
    difference = (truth.lower.high - known.high) + (truth.lower.low - known.low)
    allowed = truth.lower.radius + known.radius + 2.0**-100 * np.abs(known.high)
    assert truth.decided.all()
    assert np.all(np.abs(difference) <= allowed)


def texts_of(formula):
    return formula.value, formula.derivative, formula.second


def test_a_confirmation_does_not_use_the_text_of_the_derivative():
    wrong = Formula("square", "", "", "", np.square, derivative=lambda x: 3 * x)
    query = ask(wrong, DERIVATIVE, FLOAT64, [0.5])
    assert truths(query)[0].lower.high[0] == 1.5
    assert confirmed(query).high[0] == 1.0


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
def test_the_interval_of_every_listed_text_encloses_the_truth(formula, fmt):
    for order in (VALUE, DERIVATIVE):
        query = ask(formula, order, fmt, points(fmt, seed=4, count=15))
        (truth,), (bound,) = truths(query), bounds(query, Model(fmt))
        outcome = judge(fmt.round(truth.lower.high), truth, bound, fmt)
        assert not outcome.reference_fault.any()


def test_a_text_of_another_function_does_not_enclose_the_truth():
    formula = Formula("square", "", "", "", np.square, derivative=lambda x: 2 * x)
    query = ask(formula, VALUE, FLOAT32, [3.0])
    other = Formula("cube", "", "", "", lambda x: x * x * x, derivative=lambda x: 2 * x)
    (truth,), (bound,) = truths(query), bounds(ask(other, VALUE, FLOAT32, [3.0]), Model(FLOAT32))
    assert judge(np.array([9.0]), truth, bound, FLOAT32).reference_fault.all()


def bent(x):
    return np.where(x > 1, np.exp(x), 3 * x)


def bent_slope(x):
    return np.where(x > 1, np.exp(x), 3 / (1 + 0 * x))


BENT = Formula("bent", "", "", "", bent, derivative=bent_slope, kinks=lambda: (1.0,))


def test_what_is_right_for_a_neighbouring_input_is_accepted():
    x = np.array([-30.0, 4.0, 30.0])
    (bound,) = bounds(ask(get_formula("tanh"), VALUE, FLOAT32, x / 64), Model(FLOAT32))
    assert np.all(bound.accepted.hi - bound.accepted.lo >= bound.stable.hi - bound.stable.lo)
    (steep,) = bounds(ask(BENT, VALUE, FLOAT32, [30.0]), Model(FLOAT32))
    # exp turns a relative change of the input into one that is x times as large: here 30 times 2^-22.
    wider = (steep.accepted.hi - steep.accepted.lo) / (steep.stable.hi - steep.stable.lo)
    assert wider[0] > 10


def test_neighbours_do_not_count_where_the_reference_is_exact():
    x = np.array([-2.0, 3.0, 2.0**99])
    (bound,) = bounds(ask(get_formula("relu"), VALUE, FLOAT32, x), Model(FLOAT32))
    assert (bound.accepted.lo == np.maximum(x, 0)).all()
    assert (bound.accepted.lo == bound.accepted.hi).all()


def test_neighbours_do_not_count_near_a_kink():
    near = 1 + FLOAT32.ulp(1.0) * np.array([-16.0, -1.0, 1.0, 16.0])
    (bound,) = bounds(ask(BENT, VALUE, FLOAT32, near), Model(FLOAT32))
    assert (bound.accepted.lo == bound.stable.lo).all() and (bound.accepted.hi == bound.stable.hi).all()
    (away,) = bounds(ask(BENT, VALUE, FLOAT32, [1 + 40 * float(FLOAT32.ulp(1.0))]), Model(FLOAT32))
    assert away.accepted.hi > away.stable.hi


def test_at_a_kink_the_bound_holds_both_slopes():
    (bound,) = bounds(ask(get_formula("relu"), DERIVATIVE, FLOAT16, [0.0]), Model(FLOAT16))
    assert bound.stable.lo[0] <= 0.0 and bound.stable.hi[0] >= 1.0


def test_every_formula_begins_its_texts_with_the_reference():
    for formula in CATALOGUE:
        for order in (VALUE, DERIVATIVE) if formula.differentiable else (VALUE,):
            name, standing, _ = next(iter(texts(formula, order)))
            assert (name, standing) == ("reference", Standing.STABLE)


def onto_the_bias(x, weight, bias):
    total = Fraction(bias)
    for k in range(len(x)):
        total = Fraction(float(total + Fraction(x[k]) * Fraction(weight[k])))
    return float(total)


def test_products_may_be_added_to_the_bias():
    # Matrix multiplications that start from the bias round it with every product.
    rng = np.random.default_rng(3)
    x, weight, bias = rng.normal(size=(20, 25)), rng.normal(size=(3, 25)) * 1e-3, 1 + rng.random(3)
    x, weight = x * 1e-3, weight * 1e-3
    computed = np.array([[onto_the_bias(row, w, b) for w, b in zip(weight, bias, strict=True)] for row in x])
    dense = get_formula("dense")
    outside = []
    for formula in (dense, replace(dense, variants=())):
        (bound,) = bounds(Query(formula, VALUE, FLOAT64, (x, weight, bias), {}), Model(FLOAT64))
        outside.append(((computed < bound.stable.lo) | (computed > bound.stable.hi)).any())
    assert outside == [False, True]


@pytest.mark.parametrize("name", ["preactivation", "neuron", "dense"])
def test_a_sum_of_no_products_is_the_bias(name):
    formula = get_formula(name)
    weight = (np.zeros((2, 0)), np.ones(2)) if name == "dense" else (np.zeros(0), np.ones(()))
    (bound,) = bounds(Query(formula, VALUE, FLOAT64, (np.zeros((3, 0)), *weight), {}), Model(FLOAT64))
    expected = 1.0 if name != "neuron" else 1 / (1 + np.exp(-1.0))
    assert (bound.stable.lo <= expected).all() and (expected <= bound.stable.hi).all()
