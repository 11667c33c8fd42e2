"""Correct elementwise variants: each function in forms of its own, in float64 and rounded once."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tests import honest as good
from tests.honest import FAR, Function, Real, nan_through
from tests.variants import Correct, in_float64


def _limited(x: Real, product: Real) -> Real:
    """Return x g(x) with its limit -0 at -inf, where it would be inf times 0."""
    return np.where(x == -np.inf, -0.0, product)


def _near(x: Real) -> Real:
    return np.clip(x, -800.0, 800.0)


def _log_slope(x: Real) -> Real:
    """Return the logistic slope as the exponential of its logarithm."""
    return np.exp(-np.logaddexp(0, x) - np.logaddexp(0, -x))


def _expit_slope(x: Real) -> Real:
    return special.expit(x) * special.expit(-x)


SIGMOIDS = (
    in_float64("sigmoid", "expit", special.expit, _expit_slope, lambda x: -np.tanh(x / 2) * _expit_slope(x)),
    in_float64(
        "sigmoid",
        "logaddexp",
        lambda x: np.exp(-np.logaddexp(0, -x)),
        _log_slope,
        lambda x: -np.tanh(x / 2) * _log_slope(x),
    ),
    in_float64(
        "tanh",
        "expm1",
        lambda x: np.copysign(np.expm1(-2 * np.abs(x)) / (2 + np.expm1(-2 * np.abs(x))), x),
        lambda x: np.square(1 / np.cosh(x)),
        lambda x: -2 * np.tanh(x) * np.square(1 / np.cosh(x)),
    ),
    in_float64(
        "tanh",
        "expit",
        np.tanh,
        lambda x: 4 * _expit_slope(2 * x),
        lambda x: -8 * np.tanh(x) * _expit_slope(2 * x),
    ),
    in_float64(
        "log_sigmoid", "log_expit", special.log_expit, lambda x: special.expit(-x), lambda x: -_expit_slope(x)
    ),
    in_float64(
        "log_sigmoid",
        "logaddexp",
        lambda x: -np.logaddexp(0, -x),
        lambda x: np.exp(-np.logaddexp(0, x)),
        lambda x: -_log_slope(x),
    ),
)


def _beyond(x: Real, beta: float, threshold: float, above: Any, below: Real) -> Real:
    return np.where(beta * x > threshold, above, below)


SOFTPLUSES = (
    in_float64(
        "softplus",
        "logaddexp",
        lambda x, beta=1.0, threshold=20.0: _beyond(x, beta, threshold, x, np.logaddexp(0, beta * x) / beta),
        lambda x, beta=1.0, threshold=20.0: _beyond(x, beta, threshold, 1.0, special.expit(beta * x)),
        lambda x, beta=1.0, threshold=20.0: _beyond(x, beta, threshold, 0.0, beta * _expit_slope(beta * x)),
    ),
    in_float64(
        "softplus",
        "log_expit",
        lambda x, beta=1.0, threshold=20.0: _beyond(
            x, beta, threshold, x, -special.log_expit(-beta * x) / beta
        ),
        lambda x, beta=1.0, threshold=20.0: _beyond(
            x, beta, threshold, 1.0, np.exp(special.log_expit(beta * x))
        ),
        lambda x, beta=1.0, threshold=20.0: _beyond(x, beta, threshold, 0.0, beta * _log_slope(beta * x)),
    ),
)


def _expm1_by_sinh(x: Real) -> Real:
    return np.where(x < -1400.0, -1.0, 2 * np.exp(_near(x) / 2) * np.sinh(_near(x) / 2))


def _expm1_by_exprel(x: Real) -> Real:
    return np.where(x < -800.0, -1.0, x * special.exprel(_near(x)))


def _elu_like(formula: str, name: str, expm1: Function, exp: Function) -> Correct:
    """Return ELU, CELU or SELU from its own e^x - 1 and e^x."""

    def shape(options: dict[str, float]) -> tuple[float, float, float]:
        """Return outer scale, alpha and the divisor of x."""
        alpha = options.get("alpha", 1.0)
        return {"elu": (1.0, alpha, 1.0), "celu": (1.0, alpha, alpha)}.get(
            formula, (good.SELU_SCALE, good.SELU_ALPHA, 1.0)
        )

    def value(x: Real, **options: float) -> Real:
        scale, alpha, divisor = shape(options)
        return np.where(x > 0, scale * x, scale * (alpha * expm1(good.left(x) / divisor)))

    def derivative(x: Real, **options: float) -> Real:
        scale, alpha, divisor = shape(options)
        return nan_through(x, scale * np.where(x > 0, 1.0, alpha / divisor * exp(good.left(x) / divisor)))

    def second(x: Real, **options: float) -> Real:
        scale, alpha, divisor = shape(options)
        below = alpha / divisor * exp(good.left(x) / divisor) / divisor
        return nan_through(x, scale * np.where(x > 0, 0.0, below))

    return in_float64(formula, name, value, derivative, second)


ELUS = tuple(
    variant
    for formula in ("elu", "celu", "selu")
    for variant in (
        _elu_like(formula, "sinh", _expm1_by_sinh, lambda x: np.square(np.exp(x / 2))),
        _elu_like(formula, "exprel", _expm1_by_exprel, lambda x: np.exp2(x / np.log(2.0))),
        _elu_like(formula, "scipy", special.expm1, lambda x: np.exp2(x / np.log(2.0))),
    )
)


def _density(x: Real) -> Real:
    return good.ROOT_1_OVER_2PI * np.exp(-np.square(np.clip(x, -FAR, FAR)) / 2)


def _gelu_slope(x: Real) -> Real:
    return special.ndtr(x) + np.clip(x, -FAR, FAR) * _density(x)


def _gelu_erfcx(x: Real) -> Real:
    """Return x Phi(x), the left tail by the scaled complementary error function."""
    left = np.minimum(x, 0.0)
    tail = special.erfcx(-left * good.ROOT_HALF) * np.exp(-np.square(np.clip(left, -FAR, 0)) / 2) / 2
    return np.where(x > 0, x * special.ndtr(x), np.where(x < -FAR, -0.0, x * tail))


def _squared_density(x: Real) -> Real:
    near = np.clip(x, -FAR, FAR)
    return 2 * _density(near) - near * (near * _density(near))


def _tanh_argument(x: Real) -> Real:
    near = np.clip(x, -FAR, FAR)
    return 2 * good.ROOT_2_OVER_PI * (near + good.GELU_CUBIC * near**3)


def _tanh_slope(x: Real) -> Real:
    near = np.clip(x, -FAR, FAR)
    return 2 * good.ROOT_2_OVER_PI * (1 + 3 * good.GELU_CUBIC * near**2)


def _gelu_tanh_slope(x: Real) -> Real:
    u = _tanh_argument(x)
    return special.expit(u) * (1 + np.clip(x, -FAR, FAR) * special.expit(-u) * _tanh_slope(x))


GELUS = (
    in_float64("gelu", "ndtr", lambda x: _limited(x, x * special.ndtr(x)), _gelu_slope, _squared_density),
    in_float64("gelu", "erfcx", _gelu_erfcx, _gelu_slope, _squared_density),
    in_float64(
        "gelu",
        "log_ndtr",
        lambda x: _limited(x, x * np.exp(special.log_ndtr(x))),
        _gelu_slope,
        good.GELU.second,
    ),
    in_float64(
        "gelu_tanh",
        "expit",
        lambda x: _limited(x, x * special.expit(_tanh_argument(x))),
        _gelu_tanh_slope,
        good.GELU_TANH.second,
    ),
    in_float64(
        "gelu_tanh",
        "log_expit",
        lambda x: _limited(x, x * np.exp(special.log_expit(_tanh_argument(x)))),
        _gelu_tanh_slope,
        good.GELU_TANH.second,
    ),
)


def _mish_parts(x: Real) -> tuple[Real, Real, Real]:
    """Return t = tanh(softplus x), its slope sech^2 over sigma, and sigma."""
    s = np.logaddexp(0, x)
    return np.tanh(s), np.square(1 / np.cosh(s)), special.expit(x)


def _mish_slope(x: Real) -> Real:
    t, steep, gate = _mish_parts(_near(x))
    return nan_through(x, t + _near(x) * gate * steep)


def _mish_bend(x: Real) -> Real:
    near = _near(x)
    t, steep, gate = _mish_parts(near)
    return nan_through(x, steep * gate * (2 + near * (special.expit(-near) - 2 * t * gate)))


def _silu_slope(x: Real) -> Real:
    near = _near(x)
    return special.expit(near) + near * _expit_slope(near)


def _silu_bend(x: Real) -> Real:
    near = _near(x)
    return 2 * _log_slope(near) - near * np.tanh(near / 2) * _log_slope(near)


GATES = (
    in_float64("silu", "expit", lambda x: _limited(x, x * special.expit(x)), _silu_slope, _silu_bend),
    in_float64(
        "silu", "log_expit", lambda x: _limited(x, x * np.exp(special.log_expit(x))), _silu_slope, _silu_bend
    ),
    in_float64(
        "mish", "logaddexp", lambda x: _limited(x, x * np.tanh(np.logaddexp(0, x))), _mish_slope, _mish_bend
    ),
    in_float64(
        "mish", "expit", lambda x: _limited(x, x * np.tanh(-special.log_expit(-x))), _mish_slope, _mish_bend
    ),
)


def _zero(x: Real, **_: Any) -> Real:
    return nan_through(x, 0.0)


def _leaky(x: Real, negative_slope: float = 0.01) -> Real:
    return np.where(np.signbit(x), negative_slope * x, x)


def _sorted_clip(x: Real, low: float, high: float) -> Real:
    """Return the middle one of low, x and high; NaN sorts last and is restored."""
    stacked = np.sort(np.stack([np.broadcast_to(low, x.shape), x, np.broadcast_to(high, x.shape)]), axis=0)
    return nan_through(x, stacked[1])


def _softsign_split(x: Real) -> Real:
    big = np.maximum(np.abs(x), 1.0)
    return np.where(np.abs(x) > 1, np.copysign(1 / (1 + 1 / big), x), x / (1 + np.minimum(np.abs(x), 1.0)))


def _softsign_slope_split(x: Real) -> Real:
    return 1 / (1 + np.abs(x)) / (1 + np.abs(x))


PIECES = (
    in_float64(
        "relu", "clip", lambda x: np.clip(x, 0.0, None), lambda x: nan_through(x, np.heaviside(x, 0.0)), _zero
    ),
    in_float64(
        "relu",
        "heaviside",
        lambda x: nan_through(x, np.where(x >= 0, x, 0.0)),
        lambda x: nan_through(x, np.heaviside(x, 1.0)),
        _zero,
    ),
    in_float64("leaky_relu", "signbit", _leaky, good.LEAKY_RELU.derivative, _zero),
    in_float64(
        "leaky_relu",
        "less",
        lambda x, negative_slope=0.01: np.where(x < 0, negative_slope * x, x),
        lambda x, negative_slope=0.01: nan_through(x, np.where(x < 0, negative_slope, 1.0)),
        _zero,
    ),
    in_float64(
        "hardtanh",
        "clip",
        lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
        lambda x, min_val=-1.0, max_val=1.0: nan_through(
            x, np.where((x >= min_val) & (x <= max_val), 1.0, 0.0)
        ),
        _zero,
    ),
    in_float64(
        "hardtanh",
        "median",
        lambda x, min_val=-1.0, max_val=1.0: _sorted_clip(x, min_val, max_val),
        good.HARDTANH.derivative,
        _zero,
    ),
    in_float64(
        "relu6",
        "clip",
        lambda x: np.clip(x, 0.0, 6.0),
        lambda x: nan_through(x, np.where((x >= 0) & (x <= 6), 1.0, 0.0)),
        _zero,
    ),
    in_float64("relu6", "median", lambda x: _sorted_clip(x, 0.0, 6.0), good.RELU6.derivative, _zero),
    in_float64(
        "hardsigmoid",
        "sixth",
        lambda x: np.clip(x + 3.0, 0.0, 6.0) * (1 / 6),
        good.HARDSIGMOID.derivative,
        _zero,
    ),
    in_float64(
        "hardsigmoid",
        "inner-clip",
        lambda x: (np.clip(x, -3.0, 3.0) + 3.0) / 6.0,
        lambda x: nan_through(x, np.where(np.abs(x) <= 3, 1 / 6, 0.0)),
        _zero,
    ),
    in_float64(
        "hardswish",
        "inner-clip",
        lambda x: _limited(x, x * ((np.clip(x, -3.0, 3.0) + 3.0) / 6.0)),
        lambda x: nan_through(x, np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5))),
        good.HARDSWISH.second,
    ),
    in_float64(
        "hardswish",
        "branches",
        lambda x: np.where(x >= 3, x, np.where(x <= -3, -0.0, x * (x + 3) / 6)),
        lambda x: nan_through(x, np.where(x < -3, 0.0, np.where(x > 3, 1.0, (x + 1.5) / 3))),
        good.HARDSWISH.second,
    ),
    in_float64(
        "softsign",
        "two-sided",
        _softsign_split,
        _softsign_slope_split,
        lambda x: -2 * np.sign(x) * _softsign_slope_split(x) / (1 + np.abs(x)),
    ),
    in_float64(
        "softsign",
        "reciprocal",
        good.SOFTSIGN.value,
        lambda x: np.exp(-2 * np.log1p(np.abs(x))),
        good.SOFTSIGN.second,
    ),
)


VARIANTS: tuple[Correct, ...] = (*SIGMOIDS, *SOFTPLUSES, *ELUS, *GELUS, *GATES, *PIECES)
