"""The derivative texts are claims; the value text differentiated over balls is the truth."""

from __future__ import annotations

from typing import Any

import flint
import numpy as np
import pytest

from gradcheck import formulas
from gradcheck.arithmetic.ball import balls, precision
from gradcheck.arithmetic.dual import Dual
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, FORMATS, Format
from gradcheck.formulas import neurons
from gradcheck.records import DERIVATIVE, SECOND, Formula
from tests.formulas.points import ELEMENTWISE, off_kinks, points, settings

BITS = 4096
# Further out every format has long rounded to the limit, and balls of a vanishing tail are wide.
NEAR = 600.0


def slope(formula: Formula, order: int, x: Any, side: float, options: dict[str, float]) -> Any:
    """Return the derivative of the value text at x, approached from the given side, as balls."""
    complete = formula.complete(options)
    ones = balls(np.full(x.shape, side))
    if order == DERIVATIVE:
        return side * tangent(formula.value(Dual(balls(x), ones), **complete), x)
    inner = formula.value(Dual(Dual(balls(x), ones), Dual(ones)), **complete).tangent
    return tangent(inner, x)


def tangent(dual: Any, x: Any) -> Any:
    found = dual.tangent if isinstance(dual, Dual) else None
    return balls(np.zeros(x.shape)) if found is None else found


def overlap(left: Any, right: Any) -> tuple[Any, Any]:
    """Return where two arrays of balls overlap, and how far apart they can be, relative to their size."""
    pairs = list(zip(left.data.ravel().tolist(), right.data.ravel().tolist(), strict=True))
    meets = np.array([a.overlaps(b) for a, b in pairs])
    return meets, np.array([_spread(a, b) for a, b in pairs])


def _spread(a: Any, b: Any) -> float:
    """At a root both are zero up to the precision in force; there is no size to compare with."""
    apart = (a - b).abs_upper()
    return 0.0 if apart < flint.arb(2) ** (-BITS // 2) else float(apart / abs(b.mid()))


@pytest.mark.parametrize("order", [DERIVATIVE, SECOND])
@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_the_derivative_texts_are_the_derivatives_of_the_value_text(formula: Formula, order: int) -> None:
    text = formula.derivative if order == DERIVATIVE else formula.second
    assert text is not None
    for options in settings(formula):
        for fmt in (FLOAT64, FLOAT32, BFLOAT16):
            x = off_kinks(formula, points(fmt, seed=order, count=12), options)
            with precision(BITS):
                claim = text(balls(x), **formula.complete(options)) + balls(np.zeros(x.shape))
                for side in (-1.0, 1.0):
                    meets, widths = overlap(claim, slope(formula, order, x, side, options))
                    assert meets.all(), (formula.name, options, x[~meets])
                    assert np.max(widths[np.abs(x) <= NEAR]) < 2.0**-100, (formula.name, options)


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_every_listed_kink_is_one_and_no_other_branch_point_is(formula: Formula) -> None:
    for options in settings(formula):
        kinks = formula.kinks(**formula.complete(options)) if formula.kinks else ()
        with precision(BITS):
            for point in {*kinks, 0.0, 1.0, -1.0, 3.0, -3.0, 6.0}:
                x = np.array([point])
                jumps = []
                for order in (DERIVATIVE, SECOND):
                    left, right = (slope(formula, order, x, side, options) for side in (-1.0, 1.0))
                    jumps.append(not overlap(left, right)[0].all())
                # A leaky slope of 1 is the identity, which has no kink at all.
                expected = point in kinks and options.get("negative_slope") != 1.0
                assert any(jumps) == expected, (formula.name, point, options)


def draw(formula: Formula, fmt: Format, seed: int) -> tuple[Any, ...]:
    generator = np.random.default_rng(seed)
    shapes = {
        "prelu": ((7, 3), (3,)),
        "preactivation": ((4, 5), (5,), ()),
        "neuron": ((4, 5), (5,), ()),
        "dense": ((4, 5), (3, 5), (3,)),
    }
    return tuple(fmt.round(generator.normal(0, 2, shape)) for shape in shapes[formula.name])


SEVERAL = (formulas.prelu, formulas.preactivation, formulas.neuron, formulas.dense)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("formula", SEVERAL, ids=lambda f: f.name)
def test_the_vjp_text_is_the_transpose_of_the_jacobian(formula: Formula, fmt: Format) -> None:
    inputs = draw(formula, fmt, seed=1)
    generator = np.random.default_rng(2)
    directions = tuple(generator.normal(size=a.shape) for a in inputs)
    assert formula.vjp is not None
    with precision(BITS):
        lifted = tuple(balls(a) for a in inputs)
        forward = formula.value(*(Dual(a, balls(d)) for a, d in zip(lifted, directions, strict=True))).tangent
        cotangent = generator.normal(size=forward.shape)
        gradients = formula.vjp(lifted, balls(cotangent))
        assert [g.shape for g in gradients] == [a.shape for a in inputs]
        left = np.sum(forward * balls(cotangent))
        terms = [np.sum(g * balls(d)) for g, d in zip(gradients, directions, strict=True)]
        meets, widths = overlap(left, sum(terms[1:], terms[0]))
        assert meets.all() and widths.max() < 2.0**-100


@pytest.mark.parametrize("shape", [(4, 5), (5,)])
def test_a_neuron_takes_a_batch_or_one_sample(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(3)
    inputs = (generator.normal(size=shape), generator.normal(size=5), np.float64(0.25))
    assert formulas.neuron.vjp is not None
    value = np.asarray(formulas.neuron(*inputs))
    assert value.shape == shape[:-1]
    gradients = formulas.neuron.vjp((inputs[0], inputs[1], np.asarray(inputs[2])), np.ones(value.shape))
    assert [np.shape(g) for g in gradients] == [shape, (5,), ()]


def test_the_partial_derivatives_of_a_neuron() -> None:
    generator = np.random.default_rng(4)
    x, w, b = (balls(generator.normal(size=shape)) for shape in ((5,), (5,), ()))
    assert formulas.neuron.vjp is not None
    with precision(BITS):
        by_input, by_weight, by_bias = formulas.neuron.vjp((x, w, b), balls(1.0))
        pairs = (
            (neurons.slope_in_input, by_input),
            (neurons.slope_in_weight, by_weight),
            (neurons.slope_in_bias, by_bias),
            (neurons.slope_in_preactivation, by_bias),
            (neurons.slope_along_input, np.sum(by_input * x)),
            (neurons.slope_along_input, np.sum(by_weight * w)),
            (neurons.slope_along_weight, np.sum(by_input * w)),
        )
        for text, expected in pairs:
            meets, widths = overlap(text(x, w, b), expected)
            assert meets.all() and widths.max() < 2.0**-100, text.__name__


def test_the_double_backward_of_a_neuron_from_its_result() -> None:
    generator = np.random.default_rng(5)
    inputs = tuple(generator.normal(size=shape) for shape in ((4, 5), (5,), ()))
    directions = tuple(generator.normal(size=np.shape(a)) for a in inputs)
    (text,) = (v.text for v in formulas.neuron.variants if v.order == SECOND)
    assert formulas.neuron.vjp is not None
    with precision(BITS):
        c, d = balls(generator.normal(size=4)), tuple(balls(a) for a in directions)
        claimed = text(tuple(balls(a) for a in inputs), c, d)
        duals = tuple(Dual(balls(a), e) for a, e in zip(inputs, d, strict=True))
        for claim, truth in zip(claimed, formulas.neuron.vjp(duals, c), strict=True):
            meets, widths = overlap(claim, truth.tangent)
            assert meets.all() and widths.max() < 2.0**-100


@pytest.mark.parametrize("formula", [f for f in ELEMENTWISE if f.analytic], ids=lambda f: f.name)
def test_a_complex_step_passes_through_the_value_text(formula: Formula) -> None:
    for options in settings(formula):
        complete = formula.complete(options)
        x = off_kinks(formula, np.random.default_rng(6).uniform(-12, 12, 200), options)
        h = 2.0**-100
        assert formula.derivative is not None
        with np.errstate(all="ignore"):
            stepped = formula.value(x + 1j * h, **complete).imag / h
            expected = formula.derivative(x, **complete)
        assert np.max(np.abs(stepped - expected) / (np.abs(expected) + np.abs(x))) < 64 * FLOAT64.roundoff
