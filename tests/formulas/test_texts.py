"""Every text of a formula is the same function; its standing says what rounding makes of it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import flint
import numpy as np
import pytest

from gradcheck.arithmetic.ball import balls, precision
from gradcheck.arithmetic.plain import evaluate
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.formats import FLOAT32, FLOAT64, FORMATS, Format
from gradcheck.formulas import CATALOGUE
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Standing, Text, Variant
from tests.formulas.points import ELEMENTWISE, off_kinks, points, settings
from tests.truth import exact

BITS = 4096
NEAR = 600.0
ORDERS = (VALUE, DERIVATIVE, SECOND)
VARIANTS = [
    pytest.param(formula, variant, id=f"{formula.name}-{variant.order}-{variant.name}")
    for formula in ELEMENTWISE
    for variant in formula.variants
]
# A result that is right for an input some ULP away is off by so many u(|f| + |xf'|). The number is large: a
# portable erf may be 16 ULP off, GELU has x³ inside an exponential, and a width counts both sides. The texts
# that fail it exceed it by many orders of magnitude.
BACKWARD = 2048.0
# A text is as good as the reference if its interval is no wider than a few times the reference's.
FORWARD = 16.0
# Where one unit of roundoff is small enough for first-order reasoning.
FINE = (FLOAT64, FLOAT32)


def reference(formula: Formula, order: int) -> Text:
    text = (formula.value, formula.derivative, formula.second)[order]
    assert text is not None
    return text


def same(a: Any, b: Any) -> bool:
    """Whether two balls meet and leave no room between them, except for what the precision cannot hold."""
    apart = (a - b).abs_upper()
    return bool(a.overlaps(b)) and (apart < flint.arb(2) ** (-BITS // 4) or apart < abs(b) * 2.0**-100)


@pytest.mark.parametrize("formula, variant", VARIANTS)
def test_a_variant_is_the_same_function_as_the_reference(formula: Formula, variant: Variant) -> None:
    for options in settings(formula):
        x = off_kinks(formula, points(FLOAT64, seed=3, count=12), options)
        x = x[np.abs(x) <= NEAR]
        complete = formula.complete(options)
        with precision(BITS):
            expected = reference(formula, variant.order)(balls(x), **complete) + balls(np.zeros(x.shape))
            found = variant.text(balls(x), **complete) + balls(np.zeros(x.shape))
            for point, a, b in zip(x, found.data.tolist(), expected.data.tolist(), strict=True):
                assert same(a, b), (options, point, a, b)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_the_reference_agrees_with_mpmath(formula: Formula, order: int) -> None:
    for options in settings(formula):
        x = off_kinks(formula, points(FLOAT64, seed=4, count=15), options)
        x = x[np.abs(x) <= 40]
        with precision(512):
            found = reference(formula, order)(balls(x), **formula.complete(options)) + balls(
                np.zeros(x.shape)
            )
        for point, ball in zip(x, found.data.tolist(), strict=True):
            truth = exact(formula.name, order, float(point), **options)
            assert float(ball) == pytest.approx(float(truth), rel=1e-15, abs=1e-300), (options, point)


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_the_limits_are_where_the_texts_go(formula: Formula) -> None:
    assert formula.limits is not None
    for options in settings(formula):
        complete = formula.complete(options)
        for order, ends in enumerate(formula.limits(**complete)):
            for sign, end in zip((-1.0, 1.0), ends, strict=True):
                x = np.array([sign * 2.0**13])
                with precision(1024):
                    found = reference(formula, order)(balls(x), **complete) + balls(np.zeros(1))
                    further = reference(formula, order)(balls(x * 2), **complete) + balls(np.zeros(1))
                near, far = (float(value.data[0]) for value in (found, further))
                if math.isinf(end):
                    assert near * end > 0 and far == pytest.approx(2 * near, rel=1e-3), (order, sign, options)
                else:
                    # Only softsign is slower than the exponentials: its distance halves as x doubles.
                    assert abs(far - end) <= 0.5001 * abs(near - end) <= 1e-3, (order, sign, options)


@cache
def looked_at(formula: Formula, fmt: Format) -> Any:
    return np.concatenate([points(fmt, seed=seed, count=400) for seed in (5, 6)])


def interval(text: Text, formula: Formula, fmt: Format, x: Any, options: dict[str, float]) -> Rounded:
    result = text(rounded(x, Model(fmt)), **formula.complete(options)).stored()
    zeros = np.zeros(x.shape)
    nan = None if result.nan is None else np.broadcast_to(result.nan, x.shape)
    return Rounded(result.lo + zeros, result.hi + zeros, result.model, nan)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_a_plain_evaluation_lies_in_the_interval_of_its_own_text(formula: Formula, fmt: Format) -> None:
    x = looked_at(formula, fmt)
    for options in settings(formula):
        texts = [reference(formula, order) for order in ORDERS] + [v.text for v in formula.variants]
        for text in texts:
            legal = interval(text, formula, fmt, x, options)
            got = evaluate(text, fmt, x, **formula.complete(options)).astype(np.float64)
            inside = (got >= legal.lo) & (got <= legal.hi)
            inside |= np.isnan(got) & (legal.nan if legal.nan is not None else False)
            # SciPy's erfc gives 0 where float64 still has subnormal numbers: its own, known error.
            lost = (fmt is FLOAT64) & (formula.name == "gelu") & (np.abs(x + 38.0) < 0.7)
            assert (inside | lost).all(), (text.__name__, options, x[~inside][:3], got[~inside][:3])


# A factor that underflowed is off by η, and the powers of x that it meets multiply that.
POWERS = {("gelu", SECOND): 2, ("gelu_tanh", DERIVATIVE): 3, ("gelu_tanh", SECOND): 5}


def widths(text: Text, formula: Formula, fmt: Format, x: Any, options: dict[str, float]) -> Any:
    """Return the width of a text's interval; infinite where it admits NaN or infinity."""
    legal = interval(text, formula, fmt, x, options)
    with np.errstate(all="ignore"):
        width = legal.hi - legal.lo
    return np.where(np.isnan(width) | (legal.nan if legal.nan is not None else False), np.inf, width)


def losses(
    text: Text, formula: Formula, order: int, fmt: Format, options: dict[str, float]
) -> tuple[float, float]:
    """Return a text's largest width relative to the reference's, and to that of a well-conditioned result.

    Only normal results count, and those that the text makes unbounded where the reference is not; in the
    coarse formats, where a unit of roundoff is not small, only the latter.
    """
    x = off_kinks(formula, looked_at(formula, fmt), options)
    # 1 + |x| may round to infinity at the largest number itself.
    x = x[np.abs(x) < fmt.largest]
    complete = formula.complete(options)
    with np.errstate(all="ignore"):
        inside = [
            evaluate(reference(formula, order), FLOAT64, x * scale, **complete) for scale in (1, 1 - 2.0**-20)
        ]
        size = np.abs(inside[0])
        slope = np.abs(inside[1] - inside[0]) * 2.0**20
        lost = 64 * fmt.eta * (1 + np.abs(x)) ** POWERS.get((formula.name, order), 1)
        own = widths(text, formula, fmt, x, options)
        good = widths(reference(formula, order), formula, fmt, x, options)
        counted = np.isinf(own) | (size >= fmt.least_normal) & (fmt in FINE)
        counted &= np.isfinite(good) & (size < fmt.largest)
        forward = own / (FORWARD * (good + fmt.roundoff * size) + lost)
        backward = own / (BACKWARD * fmt.roundoff * (size + slope) + lost)
    largest = [
        float(np.max(np.nan_to_num(loss[counted], nan=np.inf), initial=0.0)) for loss in (forward, backward)
    ]
    return largest[0], largest[1]


def standing(text: Text, formula: Formula, order: int) -> Standing:
    """Stable: as good as the reference. Accepted: as good as a neighbouring input. Unstable: neither."""
    found = [losses(text, formula, order, fmt, options) for fmt in FORMATS for options in settings(formula)]
    if max(forward for forward, _ in found) <= 1:
        return Standing.STABLE
    return Standing.ACCEPTED if max(backward for _, backward in found) <= 1 else Standing.UNSTABLE


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_the_reference_text_is_as_good_as_a_neighbouring_input(formula: Formula, order: int) -> None:
    text = reference(formula, order)
    for options in settings(formula):
        assert max(losses(text, formula, order, fmt, options)[1] for fmt in FINE) <= 1


@pytest.mark.parametrize("formula, variant", VARIANTS)
def test_a_variant_has_the_standing_that_it_deserves(formula: Formula, variant: Variant) -> None:
    found = standing(variant.text, formula, variant.order)
    loses_subnormal_results_only = variant.standing is Standing.ACCEPTED and found is Standing.STABLE
    assert found is variant.standing or loses_subnormal_results_only


def test_several_inputs_have_variants_that_run_in_every_format() -> None:
    (neuron,) = (formula for formula in CATALOGUE if formula.name == "neuron")
    generator = np.random.default_rng(7)
    drawn = tuple(generator.normal(size=shape) for shape in ((4, 5), (5,), ()))
    texts = [variant.text for variant in neuron.variants if variant.order == VALUE]
    assert len(texts) == 2
    for fmt in FORMATS:
        inputs = tuple(fmt.round(a) for a in drawn)
        for text in texts:
            got = evaluate(text, fmt, *inputs).astype(np.float64)
            legal = text(*(rounded(a, Model(fmt)) for a in inputs)).stored()
            assert ((got >= legal.lo) & (got <= legal.hi)).all()
