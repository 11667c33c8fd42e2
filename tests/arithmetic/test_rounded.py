"""The rounded arithmetic encloses the truth and every legal evaluation; nothing narrower would be a bound."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.arithmetic.exact import exact
from gradcheck.arithmetic.plain import evaluate
from gradcheck.arithmetic.rounded import Model, Rounded, lift, rounded
from gradcheck.errors import Unsupported
from gradcheck.families import FAMILIES, build
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, Format, widen
from gradcheck.formulas import CATALOGUE
from gradcheck.oracles.truth import Query, bounds, texts, truths

ELEMENTWISE = [formula for formula in CATALOGUE if formula.elementwise]
ORDERS = (0, 1, 2)
SIXTEEN = (FLOAT16, BFLOAT16)
# One function of each kind: exact, correctly rounded, elementary increasing, decreasing, composed.
FUNCTIONS = {
    "add": lambda x: x + 0.75,
    "multiply": lambda x: x * exact("0.3"),
    "divide": lambda x: 1 / (x + 3),
    "square": np.square,
    "exp": np.exp,
    "expm1": np.expm1,
    "log1p of a square": lambda x: np.log1p(np.square(x)),
    "root of a magnitude": lambda x: np.sqrt(np.abs(x)),
    "tanh": np.tanh,
    "cosh": np.cosh,
    "erf": special.erf,
    "erfc": special.erfc,
    "expit": special.expit,
    "maximum": lambda x: np.maximum(x, 0.5 * x),
    "where": lambda x: np.where(x * 3 > 1, x, -x),
    "cancelling": lambda x: (x + 1) - x,
    "third power": lambda x: x**3,
}


def finite_inputs(fmt: Format) -> np.ndarray:
    """Every finite number of a 16-bit format."""
    values = widen(fmt.all_values())
    return values[np.isfinite(values)]


def encloses(interval: Rounded, x: np.ndarray, text, fmt: Format) -> np.ndarray:
    """Where the interval contains the proven truth; a truth beyond the format must reach infinity."""
    with precision(256):
        truth = to_estimate(text(balls(x)))
    over = np.abs(truth.high) > fmt.largest
    high = np.where(over, 0.0, truth.high)
    above = (interval.hi - high) - truth.low >= -truth.radius
    below = (high - interval.lo) + truth.low >= -truth.radius
    reaches = np.where(truth.high > 0, interval.hi, -interval.lo) == np.inf
    # At a pole nothing is right, and nothing can be enclosed.
    return np.where(over, reaches, above & below | np.isnan(truth.high))


@pytest.mark.parametrize("fmt", SIXTEEN, ids=lambda f: f.name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_intervals_enclose_truth_and_computation_for_every_16_bit_input(name, fmt):
    x, text = finite_inputs(fmt), FUNCTIONS[name]
    interval = text(rounded(x, Model(fmt)))
    assert encloses(interval, x, text, fmt).all()
    got = widen(evaluate(text, fmt, x))
    stored = interval.stored()
    assert ((got >= stored.lo) & (got <= stored.hi) | np.isnan(got) & (interval.nan is not None)).all()


@pytest.mark.parametrize("order", ORDERS, ids=("value", "derivative", "second"))
@pytest.mark.parametrize("fmt", SIXTEEN, ids=lambda f: f.name)
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_every_listed_text_encloses_the_truth_for_every_16_bit_input(formula, fmt, order):
    x = finite_inputs(fmt)
    ones = np.ones_like(x)
    query = Query(formula, order, fmt, (x,), {}, ones if order else None, (ones,) if order == 2 else ())
    (truth,) = truths(query)
    (bound,) = bounds(query, Model(fmt))
    assert truth.decided.all()
    for name, interval in (("stable", bound.stable), ("accepted", bound.accepted), *bound.unstable):
        radius = np.maximum(truth.lower.radius, truth.upper.radius)
        inside = (truth.lower.high >= interval.lo - radius) & (truth.upper.high <= interval.hi + radius)
        beyond = np.abs(truth.lower.high) > fmt.largest
        legal_nan = np.zeros(x.shape, bool) if interval.nan is None else interval.nan
        outside = ~(inside | beyond | legal_nan)
        if name.startswith(("stable", "accepted")):
            assert not outside.any(), (name, x[outside][:3])
        else:
            kink = truth.lower.high != truth.upper.high
            assert not (outside & ~kink).any(), (name, x[outside & ~kink][:3])


@pytest.mark.parametrize("order", ORDERS, ids=("value", "derivative", "second"))
@pytest.mark.parametrize("fmt", (FLOAT64, FLOAT32), ids=lambda f: f.name)
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_every_listed_text_encloses_the_ball_on_random_points_and_edges(formula, fmt, order):
    x = np.concatenate([build(family, 11, 60, fmt, ()) for family in sorted(FAMILIES)])
    ones = np.ones_like(x)
    query = Query(formula, order, FLOAT64, (x,), {}, ones if order else None, (ones,) if order == 2 else ())
    (truth,) = truths(query)
    for name, _, text in texts(formula, order):
        interval = text(rounded(x, Model(fmt)), **formula.complete({}))
        lo, hi = np.broadcast_to(interval.lo, x.shape), np.broadcast_to(interval.hi, x.shape)
        legal_nan = np.zeros(x.shape, bool) if interval.nan is None else interval.nan
        smooth = truth.lower.high == truth.upper.high
        above = (hi - truth.lower.high) - truth.lower.low >= -truth.lower.radius
        below = (truth.lower.high - lo) + truth.lower.low >= -truth.lower.radius
        beyond = np.abs(truth.lower.high) > fmt.largest
        missed = smooth & ~(above & below | legal_nan | beyond)
        assert not missed.any(), (name, x[missed][:3])


@given(
    x=st.floats(-1e3, 1e3, width=32),
    y=st.floats(-1e3, 1e3, width=32),
    fused=st.booleans(),
)
def test_a_fused_multiply_add_is_a_legal_evaluation(x, y, fused):
    text = rounded(np.array([x]), Model(FLOAT32)) * y + 0.5
    product = Fraction(x) * Fraction(y)
    total = (
        product + Fraction(1, 2) if fused else Fraction(float(np.float32(x) * np.float32(y))) + Fraction(1, 2)
    )
    got = float(np.float32(float(total)))
    assert text.stored().lo[0] <= got <= text.stored().hi[0]


@given(values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_a_sum_in_any_order_stays_inside(values, seed):
    array = np.array(values)
    interval = np.sum(rounded(array, Model(FLOAT32)))
    total = np.float32(0)
    for value in np.random.default_rng(seed).permutation(array):
        total = np.float32(total + np.float32(value))
    assert interval.stored().lo <= float(total) <= interval.stored().hi
    assert interval.lo <= math.fsum(values) <= interval.hi


@given(seed=st.integers(0, 10**6), n=st.integers(1, 20))
def test_a_matrix_product_in_any_order_stays_inside(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n)).astype(np.float32), rng.normal(size=(n, 3)).astype(np.float32)
    interval = np.matmul(rounded(a, Model(FLOAT32)), rounded(b, Model(FLOAT32)))
    backwards = np.zeros((2, 3), np.float32)
    for k in reversed(range(n)):
        backwards = backwards + np.outer(a[:, k], b[k])
    assert ((interval.lo <= backwards) & (backwards <= interval.hi)).all()
    exact_product = np.matmul(a.astype(np.float64), b.astype(np.float64))
    assert ((interval.lo <= exact_product) & (exact_product <= interval.hi)).all()


def test_overflow_reaches_infinity_and_what_follows_knows_it():
    overflown = np.exp(rounded(np.array([89.0]), Model(FLOAT32)))
    assert overflown.hi[0] == np.inf
    assert (1 / (1 + overflown)).lo[0] == 0.0
    assert (overflown / overflown).nan is not None


def test_underflow_is_an_absolute_error():
    tiny = rounded(np.array([FLOAT32.least_subnormal]), Model(FLOAT32)) * exact("0.3")
    assert tiny.lo[0] <= 0.0
    assert tiny.hi[0] >= 0.3 * FLOAT32.least_subnormal


def test_a_flushing_model_allows_zero_and_the_default_one_does_not():
    x = np.array([FLOAT32.least_normal])
    assert (rounded(x, Model(FLOAT32, flush=True)) * 0.25).lo[0] == 0.0
    assert (rounded(x, Model(FLOAT32)) * 0.25).lo[0] > 0.0


def test_a_declared_tree_height_tightens_a_long_sum():
    x = np.ones(4096)
    wide = np.sum(rounded(x, Model(FLOAT32)))
    tight = np.sum(rounded(x, Model(FLOAT32, height=32)))
    assert (tight.hi - tight.lo) * 50 < wide.hi - wide.lo


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_exact_operations_add_no_width(fmt):
    x = rounded(np.array([-1.5, 0.0, 3.0]), Model(fmt))
    for result in (-x, np.abs(x), 2 * x, x + 0, np.maximum(x, 0), 0 * x):
        assert (result.lo == result.hi).all()


def test_a_division_by_an_interval_around_zero_is_unbounded():
    x = rounded(np.array([1.0]), Model(FLOAT32))
    around = (x + exact("1e-9")) - x
    assert (1 / around).hi[0] == np.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.arctan(x),
        lambda x: (x - 3) ** exact("0.5"),
        lambda x: np.add.reduce(x),
        lambda x: np.linalg.norm(x),
        lambda x: np.cumsum(x),
    ],
)
def test_what_the_arithmetic_does_not_know_it_refuses(call):
    with pytest.raises((Unsupported, TypeError)):
        call(rounded(np.ones(3), Model(FLOAT32)))


def test_a_constant_that_the_format_cannot_hold_is_an_interval():
    third = lift(exact(1) / 3, Model(FLOAT16))
    assert third.lo < 1 / 3 < third.hi
    assert third.lo <= float(np.float16(1 / 3)) <= third.hi
    half = lift(exact("0.5"), Model(FLOAT16))
    assert half.lo == half.hi == 0.5
