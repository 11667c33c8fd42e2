"""Gates: x times something between 0 and 1 (SiLU, Mish, GELU in its two forms).

A product x·g(x) is written so that a vanishing g meets a large x one factor at a time: 0·x·x is 0 where
0·x² would be NaN once x² overflows. A text that multiplies by the cotangent (and, for a second derivative,
by the direction) early, where that can overflow or underflow, takes them as arguments.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from gradcheck.arithmetic.exact import PI, exact
from gradcheck.formulas.parts import (
    NORMAL_DENSITY_AT_ZERO,
    ROOT_HALF,
    ROOT_TWO_OVER_PI,
    accepted,
    at_infinity,
    logistic,
    logistic_slope,
    magnitude,
    printed_logistic,
    stable,
    unstable,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula

INF = math.inf
TWO_OVER_ROOT_PI = 2 / np.sqrt(PI)
# Beyond these σ(x) and tanh(softplus(x)) round to 1 in every format, and x(1 - σ) and xσ(1 - t²) are 0. The
# texts that rely on it are cut there: an interval around σ would be multiplied by x all the same.
SIGMOID_IS_ONE, TANH_IS_ONE = 40, 20


def _silu(x: Any) -> Any:
    """Value y = xσ(x); y' = σ(1 + x(1 - σ)); y'' = σ'(2 - x tanh(x/2))."""
    e = np.exp(-magnitude(x))
    return x * np.where(x >= 0, 1, e) / (1 + e)


def _silu_derivative(x: Any) -> Any:
    e = np.exp(-magnitude(x))
    return np.where(x >= 0, 1 + e + x * e, e * (1 + e + x)) / np.square(1 + e)


def _silu_second(x: Any) -> Any:
    return logistic_slope(x) * (2 - x * np.tanh(0.5 * x))


def _silu_printed(x: Any) -> Any:
    return x / (1 + np.exp(-x))


def _silu_product(x: Any) -> Any:
    return x * logistic(x)


def _silu_derivative_product(x: Any, *, cotangent: Any = 1) -> Any:
    s = logistic(x)
    product = cotangent * s * (1 + x * (1 - s))
    return np.where(x > SIGMOID_IS_ONE, cotangent * _silu_derivative(x), product)


def _silu_derivative_printed(x: Any, *, cotangent: Any = 1) -> Any:
    s = printed_logistic(x)
    return cotangent * s * (1 + x * (1 - s))


def _silu_derivative_of_result(x: Any) -> Any:
    y, s = _silu_printed(x), printed_logistic(x)
    return y + s * (1 - y)


def _silu_derivative_product_rule(x: Any) -> Any:
    s = printed_logistic(x)
    return s + x * ((1 - s) * s)


def _silu_second_composed(x: Any, *, cotangent: Any = 1, direction: Any = 1) -> Any:
    s = printed_logistic(x)
    t = direction * (cotangent * s)
    return t * (1 - s) + (direction * (1 + x * (1 - s)) * cotangent - t * x) * (1 - s) * s


def _silu_second_printed(x: Any) -> Any:
    s = printed_logistic(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


SILU = Formula(
    name="silu",
    title="SiLU (swish)",
    equation="x / (1 + e^-x)",
    source="Hendrycks & Gimpel, arXiv:1606.08415, 2016; Elfwing, Uchibe & Doya, Neural Networks 107, 2018",
    value=_silu,
    derivative=_silu_derivative,
    second=_silu_second,
    variants=(
        stable(VALUE, "xσ(x)", _silu_product),
        unstable(VALUE, "x/(1 + e^-x)", _silu_printed),
        accepted(DERIVATIVE, "σ(1 + x(1 - σ))", _silu_derivative_product),
        unstable(DERIVATIVE, "σ(1 + x(1 - σ)), σ = 1/(1 + e^-x)", _silu_derivative_printed),
        unstable(DERIVATIVE, "y + σ(1 - y)", _silu_derivative_of_result),
        unstable(DERIVATIVE, "σ + xσ(1 - σ)", _silu_derivative_product_rule),
        unstable(SECOND, "σ(1 + x(1 - σ)) differentiated", _silu_second_composed),
        unstable(SECOND, "σ(1 - σ)(2 + x(1 - 2σ))", _silu_second_printed),
    ),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    textbook=_silu_printed,
    hazards=(
        "e^-x overflows where xσ(x) is still a normal number",
        "1 - σ is 0 once σ rounds to 1, where the second derivative is a normal number",
    ),
)


def _mish(x: Any) -> Any:
    """Value y = xt, t = tanh(log(1 + e^x)): (1 + 2n)/(1 + 2n + 2n²) or n(n + 2)/(n² + 2n + 2), n = e^-|x|."""
    n = np.exp(-magnitude(x))
    right, left = 1 + 2 * n, n * (n + 2)
    return x * np.where(x >= 0, right, left) / np.where(x >= 0, 1 + 2 * n * (1 + n), 2 + left)


def _mish_derivative(x: Any) -> Any:
    """Derivative y' = t + xt', t' = 4n²(1 + n)/d² or 4n(1 + n)/d² with the denominator d of t."""
    n = np.exp(-magnitude(x))
    w, m = x * n, 1 + n
    d = np.where(x >= 0, 1 + 2 * n * m, 2 + n * (n + 2))
    t = np.where(x >= 0, 1 + 2 * n, n * (n + 2))
    return (t * d + 4 * np.where(x >= 0, w * n, w) * m) / np.square(d)


def _mish_second(x: Any) -> Any:
    """Second derivative y'' = 2t' + xt'', t'' = 4n²(2n³ + 2n² - 3n - 2)/d³ or 4n(2 + 2n - 3n² - 2n³)/d³."""
    n = np.exp(-magnitude(x))
    w, m = x * n, 1 + n
    d = np.where(x >= 0, 1 + 2 * n * m, 2 + n * (n + 2))
    cubic = 2 + n * (2 - n * (3 + 2 * n))
    mirrored = n * (n * (2 + 2 * n) - 3) - 2
    curve = 2 * m * n * d + w * np.where(x >= 0, mirrored, cubic)
    return 4 * np.where(x >= 0, n * curve, curve) / (d * d * d)


def _mish_log1p(x: Any) -> Any:
    return x * np.tanh(np.log1p(np.exp(x)))


def _mish_printed(x: Any) -> Any:
    return x * np.tanh(np.log(1 + np.exp(x)))


def _mish_stable_softplus(x: Any) -> Any:
    return x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _mish_rational(x: Any) -> Any:
    n = np.exp(x)
    return x * ((n * n + 2 * n) / (n * n + 2 * n + 2))


def _mish_derivative_log1p(x: Any) -> Any:
    s, t = printed_logistic(x), np.tanh(np.log1p(np.exp(x)))
    return t + x * s * (1 - t * t)


def _mish_derivative_stable_parts(x: Any) -> Any:
    s, t = logistic(x), np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
    return np.where(x > TANH_IS_ONE, _mish_derivative(x), t + x * s * (1 - t * t))


def _mish_derivative_printed(x: Any) -> Any:
    e = np.exp(x)
    omega = 4 * (x + 1) + 4 * e * e + e * e * e + e * (4 * x + 6)
    delta = 2 * e + e * e + 2
    return e * omega / (delta * delta)


def _mish_second_composed(x: Any, *, cotangent: Any = 1, direction: Any = 1) -> Any:
    s, e = printed_logistic(x), np.exp(x)
    t = np.tanh(np.log1p(e))
    m = 1 - t * t
    slope = direction * cotangent
    slope_in_t = slope - 2 * (slope * (x * s) * t)
    c = slope * m
    return c * s + slope_in_t * m / (e + 1) * e + c * x * (1 - s) * s


def _mish_second_stable_parts(x: Any) -> Any:
    s, t = logistic(x), np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
    m = 1 - t * t
    return m * s + (1 - 2 * x * s * t) * m * s + m * x * (1 - s) * s


MISH = Formula(
    name="mish",
    title="Mish",
    equation="x tanh(log(1 + e^x))",
    source="Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020",
    value=_mish,
    derivative=_mish_derivative,
    second=_mish_second,
    variants=(
        stable(VALUE, "x tanh(log1p(e^x))", _mish_log1p),
        stable(VALUE, "x tanh(softplus x)", _mish_stable_softplus),
        unstable(VALUE, "x tanh(log(1 + e^x))", _mish_printed),
        unstable(VALUE, "x(n² + 2n)/(n² + 2n + 2), n = e^x", _mish_rational),
        unstable(DERIVATIVE, "t + xσ(1 - t²)", _mish_derivative_log1p),
        accepted(DERIVATIVE, "t + xσ(1 - t²), stable parts", _mish_derivative_stable_parts),
        unstable(DERIVATIVE, "e^x ω/δ²", _mish_derivative_printed),
        unstable(SECOND, "t + xσ(1 - t²) differentiated", _mish_second_composed),
        unstable(SECOND, "t + xσ(1 - t²) differentiated, stable parts", _mish_second_stable_parts),
    ),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    textbook=_mish_printed,
    hazards=(
        "e^x overflows: e^x/(1 + e^x) is NaN where the slope is 1",
        "1 - t² is 0 once t rounds to 1, where the second derivative is a normal number",
    ),
)


def _gelu(x: Any) -> Any:
    """Value y = xΦ(x), Φ(x) = erfc(-x/√2)/2; y' = Φ + xφ; y'' = φ(2 - x²), φ(x) = e^(-x²/2)/√(2π)."""
    return x * (0.5 * special.erfc(-x * ROOT_HALF))


def _gelu_derivative(x: Any) -> Any:
    return 0.5 * special.erfc(-x * ROOT_HALF) + x * (NORMAL_DENSITY_AT_ZERO * np.exp(-0.5 * x * x))


def _gelu_second(x: Any) -> Any:
    density = NORMAL_DENSITY_AT_ZERO * np.exp(-0.5 * x * x)
    return 2 * density - x * density * x


def _gelu_erf(x: Any) -> Any:
    return 0.5 * x * (1 + special.erf(x * ROOT_HALF))


def _gelu_cdf(x: Any) -> Any:
    return x * (0.5 * (1 + special.erf(x * ROOT_HALF)))


def _gelu_derivative_erf(x: Any) -> Any:
    cdf = 0.5 * (1 + special.erf(x * ROOT_HALF))
    return cdf + x * (NORMAL_DENSITY_AT_ZERO * np.exp(x * x * -0.5))


def _gelu_derivative_summed(x: Any) -> Any:
    density = NORMAL_DENSITY_AT_ZERO * np.exp(x * x * -0.5)
    return (0.5 + x * density) + 0.5 * special.erf(x * ROOT_HALF)


def _gelu_second_difference(x: Any) -> Any:
    squared = x * x
    density = NORMAL_DENSITY_AT_ZERO * np.exp(-0.5 * squared)
    return 2 * density - squared * density


def _gelu_second_factored(x: Any) -> Any:
    squared = x * x
    return NORMAL_DENSITY_AT_ZERO * np.exp(-0.5 * squared) * (2 - squared)


def _gelu_derivative_scaled(x: Any) -> Any:
    z = x * ROOT_HALF
    return 0.5 * special.erfc(-z) + 0.5 * x * TWO_OVER_ROOT_PI * np.exp(-(z * z)) * ROOT_HALF


def _gelu_second_scaled(x: Any) -> Any:
    z = x * ROOT_HALF
    density = 0.5 * TWO_OVER_ROOT_PI * np.exp(-(z * z)) * ROOT_HALF
    return 2 * density - x * density * (2 * z) * ROOT_HALF


GELU = Formula(
    name="gelu",
    title="GELU",
    equation="x Φ(x)",
    source="Hendrycks & Gimpel, Gaussian error linear units, arXiv:1606.08415, 2016",
    value=_gelu,
    derivative=_gelu_derivative,
    second=_gelu_second,
    variants=(
        unstable(VALUE, "x/2 (1 + erf(x/√2))", _gelu_erf),
        unstable(VALUE, "x ((1 + erf(x/√2))/2)", _gelu_cdf),
        stable(DERIVATIVE, "erfc(-z)/2 + xφ, φ from z² = (x/√2)²", _gelu_derivative_scaled),
        unstable(DERIVATIVE, "(1 + erf)/2 + xφ", _gelu_derivative_erf),
        unstable(DERIVATIVE, "1/2 + xφ + erf/2", _gelu_derivative_summed),
        unstable(SECOND, "2φ - xφ·2z/√2, φ from z² = (x/√2)²", _gelu_second_scaled),
        unstable(SECOND, "2φ - x²φ", _gelu_second_difference),
        unstable(SECOND, "φ(2 - x²)", _gelu_second_factored),
    ),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    textbook=_gelu_erf,
    hazards=(
        "1 + erf cancels in the left tail, where the value is a normal number",
        "x² overflows: x²φ is ∞·0 where it should be 0",
    ),
)

CUBIC = exact("0.044715")
TWICE_ROOT = 2 * np.sqrt(2 / PI)


def _inner(x: Any) -> Any:
    return TWICE_ROOT * (x * (1 + CUBIC * (x * x)))


def _gelu_tanh(x: Any) -> Any:
    """Value y = xσ(v), v = 2√(2/π)(x + κx³); y' = σ + xσ'v'; y'' = 2σ'v' + x(σ''v'² + σ'v'')."""
    e = np.exp(-magnitude(_inner(x)))
    return x * np.where(x >= 0, 1, e) / (1 + e)


def _gelu_tanh_derivative(x: Any) -> Any:
    v = _inner(x)
    w = x * logistic_slope(v)
    return logistic(v) + TWICE_ROOT * (w + 3 * CUBIC * (w * x * x))


def _gelu_tanh_second(x: Any) -> Any:
    v = _inner(x)
    g = logistic_slope(v)
    w = x * g
    q = w * x
    curve = w + 6 * CUBIC * (q * x) + 9 * CUBIC * CUBIC * (q * x * x * x)
    return TWICE_ROOT * (2 * g + 12 * CUBIC * q) - TWICE_ROOT * TWICE_ROOT * np.tanh(0.5 * v) * curve


def _gelu_tanh_printed(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x))))


def _gelu_tanh_by_logistic(x: Any) -> Any:
    return x * printed_logistic(2 * ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x)))


def _gelu_tanh_derivative_printed(x: Any) -> Any:
    squared = x * x
    t = np.tanh(ROOT_TWO_OVER_PI * (x + CUBIC * (squared * x)))
    slope = ROOT_TWO_OVER_PI * (1 + 3 * CUBIC * squared)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope


def _gelu_tanh_derivative_power(x: Any) -> Any:
    t = np.tanh(ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x)))
    w = 0.5 * x * (1 + t) * (1 - t) * ROOT_TWO_OVER_PI
    return 0.5 * (1 + t) + (w + w * CUBIC * (3 * (x * x)))


def _gelu_tanh_derivative_inside(x: Any) -> Any:
    # Where 1 + t does not cancel and t has not yet rounded to 1; the reference elsewhere.
    inside = np.where(x < 8, _gelu_tanh_derivative_printed(x), _gelu_tanh_derivative(x))
    return np.where(x > -1, inside, _gelu_tanh_derivative(x))


def _gelu_tanh_second_printed(x: Any) -> Any:
    inner = ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x))
    t, sech = np.tanh(inner), 1 / np.cosh(inner)
    f, g = 0.5 * x, 1 - t * t
    h = ROOT_TWO_OVER_PI * (1 + 3 * CUBIC * x * x)
    g_slope = 2 * sech * (-sech * t) * h
    h_slope = 6 * CUBIC * x * ROOT_TWO_OVER_PI
    return 2 * (0.5 * g * h) + f * h * g_slope + f * g * h_slope


def _gelu_tanh_second_power(x: Any, *, cotangent: Any = 1, direction: Any = 1) -> Any:
    """The gradient by 3x² differentiated backwards, step by step; `over_` is the derivative by a step."""
    cubed, t = 3 * (x * x), np.tanh(ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x)))
    g = 0.5 * (x * cotangent)
    p = g * (1 - t)
    u = CUBIC * (ROOT_TWO_OVER_PI * (p + p * t))
    over_r = ROOT_TWO_OVER_PI * (direction + CUBIC * (direction * cubed))
    over_p = over_r + over_r * t
    over_t = 0.5 * (cotangent * direction) + over_r * p - over_p * g
    z = over_t * (1 - t)
    over_x = ROOT_TWO_OVER_PI * (z + z * t)
    return (
        3 * (direction * u) * (2 * x) + 0.5 * (over_p * (1 - t)) * cotangent + over_x + CUBIC * over_x * cubed
    )


GELU_TANH = Formula(
    name="gelu_tanh",
    title="GELU, tanh form",
    equation="x (1 + tanh(√(2/π)(x + 0.044715 x³))) / 2",
    source="Hendrycks & Gimpel, Gaussian error linear units, arXiv:1606.08415, 2016",
    value=_gelu_tanh,
    derivative=_gelu_tanh_derivative,
    second=_gelu_tanh_second,
    variants=(
        unstable(VALUE, "x/2 (1 + tanh u)", _gelu_tanh_printed),
        unstable(VALUE, "xσ(2u), σ = 1/(1 + e^-2u)", _gelu_tanh_by_logistic),
        accepted(DERIVATIVE, "(1 + t)/2 + x/2 (1 - t²)u' within (-1, 8)", _gelu_tanh_derivative_inside),
        unstable(DERIVATIVE, "(1 + t)/2 + x/2 (1 - t²)u'", _gelu_tanh_derivative_printed),
        unstable(DERIVATIVE, "(1 + t)/2 + x/2 (1 + t)(1 - t)u', u' from 3x²", _gelu_tanh_derivative_power),
        unstable(SECOND, "the three terms of the product rule", _gelu_tanh_second_printed),
        unstable(SECOND, "x/2 (1 + t)(1 - t)u', u' from 3x², differentiated", _gelu_tanh_second_power),
    ),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    textbook=_gelu_tanh_printed,
    hazards=(
        "1 + tanh u cancels in the left tail, where the value is a normal number",
        "x² overflows: (1 - t²)u' is 0·∞ where it should be 0",
    ),
)

FORMULAS = (GELU, GELU_TANH, SILU, MISH)
