"""Piecewise forms: ReLU6, hard tanh, hard sigmoid and hard swish, and softsign, which has |x| in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import exact
from gradcheck.formulas.parts import accepted, at_infinity, kinks_at, magnitude, stable, unstable, zero
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Option

INF = math.inf
SIXTH, THIRD = exact(1) / 6, exact(1) / 3


def _inside(x: Any, low: Any, high: Any, inside: Any, above: Any) -> Any:
    """Return `inside` for low < x < high, 0 for x <= low, `above` for x >= high or NaN."""
    return np.where(x > low, np.where(x < high, inside, np.full_like(x, above)), np.full_like(x, 0))


def _relu6(x: Any) -> Any:
    """Value y = min(max(0, x), 6); y' = 1 inside (0, 6), 0 outside."""
    return np.minimum(np.maximum(x, 0), 6)


def _relu6_derivative(x: Any) -> Any:
    return _inside(x, 0, 6, np.full_like(x, 1), 0)


RELU6 = Formula(
    name="relu6",
    title="ReLU6",
    equation="min(max(0, x), 6)",
    source="Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010",
    value=_relu6,
    derivative=_relu6_derivative,
    second=zero,
    kinks=kinks_at(0.0, 6.0),
    limits=at_infinity((0.0, 6.0), (0.0, 0.0)),
)


def _hardtanh(x: Any, *, min_val: Any, max_val: Any) -> Any:
    """Value y = min(max(x, low), high); y' = 1 strictly between, 0 outside."""
    return np.minimum(np.maximum(x, min_val), max_val)


def _hardtanh_derivative(x: Any, *, min_val: Any, max_val: Any) -> Any:
    return _inside(x, min_val, max_val, np.full_like(x, 1), 0)


HARDTANH = Formula(
    name="hardtanh",
    title="Hard tanh",
    equation="min(max(x, low), high)",
    source="Collobert, Large scale machine learning, 2004",
    value=_hardtanh,
    derivative=_hardtanh_derivative,
    second=zero,
    options=(Option("min_val", -1.0, -4.0, -0.25), Option("max_val", 1.0, 0.25, 4.0)),
    kinks=lambda *, min_val, max_val: (float(min_val), float(max_val)),
    limits=lambda *, min_val, max_val: ((float(min_val), float(max_val)), (0.0, 0.0), (0.0, 0.0)),
)


def _hardsigmoid(x: Any) -> Any:
    """Value y = min(max(x + 3, 0), 6) / 6; y' = 1/6 inside (-3, 3), 0 outside."""
    return np.minimum(np.maximum(x + 3, 0), 6) / 6


def _hardsigmoid_derivative(x: Any) -> Any:
    return _inside(x, -3, 3, np.full_like(x, SIXTH), 0)


def _hardsigmoid_sum(x: Any) -> Any:
    return np.minimum(np.maximum(x / 6 + 0.5, 0), 1)


def _hardsigmoid_scaled(x: Any) -> Any:
    return np.minimum(np.maximum(x * SIXTH + 0.5, 0), 1)


def _hardsigmoid_times_sixth(x: Any) -> Any:
    return np.minimum(np.maximum(x + 3, 0), 6) * SIXTH


HARDSIGMOID = Formula(
    name="hardsigmoid",
    title="Hard sigmoid",
    equation="min(max(x + 3, 0), 6) / 6",
    source="Howard et al., Searching for MobileNetV3, ICCV 2019",
    value=_hardsigmoid,
    derivative=_hardsigmoid_derivative,
    second=zero,
    variants=(
        stable(VALUE, "min(max(x + 3, 0), 6)(1/6)", _hardsigmoid_times_sixth),
        accepted(VALUE, "x/6 + 1/2, clipped", _hardsigmoid_sum),
        accepted(VALUE, "(1/6)x + 1/2, clipped", _hardsigmoid_scaled),
    ),
    kinks=kinks_at(-3.0, 3.0),
    limits=at_infinity((0.0, 1.0), (0.0, 0.0)),
    hazards=("x/6 + 1/2 cancels near -3",),
)


def _hardswish(x: Any) -> Any:
    """Value y = x·min(max(x + 3, 0), 6)/6; y' = (2x + 3)/6 inside (-3, 3), 0 or 1 outside; y'' = 1/3 or 0."""
    return x * (np.minimum(np.maximum(x + 3, 0), 6) / 6)


def _hardswish_derivative(x: Any) -> Any:
    return _inside(x, -3, 3, (x + 1.5) / 3, 1)


def _hardswish_second(x: Any) -> Any:
    return _inside(x, -3, 3, np.full_like(x, THIRD), 0)


def _hardswish_printed(x: Any) -> Any:
    return x * np.minimum(np.maximum(x + 3, 0), 6) / 6


def _hardswish_times_sixth(x: Any) -> Any:
    return x * np.minimum(np.maximum(x + 3, 0), 6) * SIXTH


def _hardswish_derivative_sum(x: Any) -> Any:
    return _inside(x, -3, 3, x / 3 + 0.5, 1)


def _hardswish_derivative_product(x: Any) -> Any:
    return _inside(x, -3, 3, np.minimum(np.maximum(x + 3, 0), 6) / 6 + x / 6, 1)


HARDSWISH = Formula(
    name="hardswish",
    title="Hard swish",
    equation="x min(max(x + 3, 0), 6) / 6",
    source="Howard et al., Searching for MobileNetV3, ICCV 2019",
    value=_hardswish,
    derivative=_hardswish_derivative,
    second=_hardswish_second,
    variants=(
        unstable(VALUE, "(x·clip)/6, overflows", _hardswish_printed),
        unstable(VALUE, "(x·clip)(1/6), overflows", _hardswish_times_sixth),
        accepted(DERIVATIVE, "x/3 + 1/2", _hardswish_derivative_sum),
        accepted(DERIVATIVE, "the product rule", _hardswish_derivative_product),
    ),
    kinks=kinks_at(-3.0, 3.0),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    textbook=_hardswish_printed,
    hazards=("6x overflows where x is still finite",),
)


def _softsign(x: Any) -> Any:
    """Value y = x/(1 + |x|); y' = 1/(1 + |x|)²; y'' = -2 sign(x)/(1 + |x|)³, which jumps at 0."""
    return x / (1 + magnitude(x))


def _softsign_derivative(x: Any) -> Any:
    return np.square(1 / (1 + magnitude(x)))


def _softsign_second(x: Any) -> Any:
    r = 1 / (1 + magnitude(x))
    return np.where(x >= 0, -2 * r, 2 * r) * r * r


def _softsign_derivative_squared(x: Any) -> Any:
    return 1 / np.square(1 + np.abs(x))


def _softsign_derivative_quotient(x: Any) -> Any:
    d = 1 + np.abs(x)
    return 1 / d - ((x / d) / d) * np.sign(x)


def _softsign_derivative_power(x: Any) -> Any:
    d = 1 + np.abs(x)
    return 1 / d - x * (1 / (d * d)) * np.sign(x)


def _softsign_second_quotient(x: Any) -> Any:
    d, s = 1 + np.abs(x), np.sign(x)
    r = x / d
    return -((s / d) / d) + s * (s * ((r / d) / d) + (s / d) * ((x / d) / d) - (1 / d) / d)


def _softsign_second_cubed(x: Any) -> Any:
    d = 1 + np.abs(x)
    return -2 * np.sign(x) / (d * d * d)


SOFTSIGN = Formula(
    name="softsign",
    title="Softsign",
    equation="x / (1 + |x|)",
    source="Bergstra, Desjardins, Lamblin & Bengio, Quadratic polynomials learn better image features, 2009",
    value=_softsign,
    derivative=_softsign_derivative,
    second=_softsign_second,
    variants=(
        accepted(DERIVATIVE, "1/(1 + |x|)²", _softsign_derivative_squared),
        unstable(DERIVATIVE, "1/d - (x/d)/d sign x", _softsign_derivative_quotient),
        unstable(DERIVATIVE, "1/d - x d⁻² sign x, d² overflows", _softsign_derivative_power),
        unstable(SECOND, "the quotient rule twice", _softsign_second_quotient),
        accepted(SECOND, "-2 sign(x)/d³", _softsign_second_cubed),
    ),
    kinks=kinks_at(0.0),
    limits=at_infinity((-1.0, 1.0), (0.0, 0.0)),
    hazards=("1/d - |x|/d² cancels for large |x|",),
)

FORMULAS = (RELU6, HARDTANH, HARDSIGMOID, HARDSWISH, SOFTSIGN)
