"""Good implementations apart from the reference texts: the ground that liars and variants stand on.

Every elementwise function is a triple (value, derivative, second derivative) of float64 NumPy functions in
well-conditioned form. Narrower formats are computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gradcheck.formats import Format
from gradcheck.records import Array, Options
from gradcheck.subjects.implementation import Implementation

Real = NDArray[np.float64]
Function = Callable[..., Real]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
GELU_CUBIC = 0.044715
ROOT_2_OVER_PI = 0.79788456080286535587989211986876
ROOT_HALF = 0.70710678118654752440084436210485
ROOT_1_OVER_2PI = 0.39894228040143267793994605993438
FAR = 50.0  # beyond it the normal density and the logistic tail of GELU are below every format


@dataclass(frozen=True)
class Triple:
    """A function of one variable with its first two derivatives, each called as f(x, **options)."""

    value: Function
    derivative: Function
    second: Function


def wide(array: Array) -> Real:
    """Return the array as float64, without touching it."""
    with np.errstate(invalid="ignore"):  # the cast of a signalling NaN
        return np.asarray(array).astype(np.float64)


def rounded(fmt: Format, result: Any) -> Array:
    """Return a float64 result rounded once to the format."""
    with np.errstate(all="ignore"):
        return np.asarray(result).astype(fmt.dtype)


def elementwise(
    formula: str,
    fmt: Format,
    forward: Function,
    derivative: Function | None = None,
    second: Function | None = None,
) -> Implementation:
    """Return the implementation that float64 functions describe: f(x), and c f'(x), and c D f''(x)."""

    def run_forward(inputs: tuple[Array, ...], options: Options) -> Array:
        with np.errstate(all="ignore"):
            return rounded(fmt, forward(wide(inputs[0]), **options))

    def run_vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        assert derivative is not None
        with np.errstate(all="ignore"):
            return (rounded(fmt, wide(cotangent) * derivative(wide(inputs[0]), **options)),)

    def run_second(
        inputs: tuple[Array, ...], cotangent: Array, directions: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        assert second is not None
        with np.errstate(all="ignore"):
            bent = second(wide(inputs[0]), **options)
            return (rounded(fmt, wide(cotangent) * bent * wide(directions[0])),)

    return Implementation(
        formula=formula,
        subject="corpus",
        format=fmt,
        forward=run_forward,
        vjp=None if derivative is None else run_vjp,
        second=None if second is None else run_second,
    )


def nan_through(x: Real, result: Any) -> Real:
    """Return the result with NaN wherever x is NaN, which comparisons and `where` would lose."""
    return np.where(np.isnan(x), x, result)


def logistic(x: Real) -> Real:
    """Return 1/(1 + exp(-x)), accurate in both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def logistic_slope(x: Real) -> Real:
    """Return the derivative of the logistic function."""
    e = np.exp(-np.abs(x))
    return e / ((1.0 + e) * (1.0 + e))


def logistic_bend(x: Real) -> Real:
    """Return the second derivative of the logistic function."""
    return -logistic_slope(x) * np.tanh(x / 2)


def _flat(x: Real, **_: Any) -> Real:
    return nan_through(x, 0.0)


def left(x: Real) -> Real:
    """Return min(x, 0) with -0 kept, which `minimum` may turn into +0."""
    return np.where(x > 0, 0.0, x)


RELU = Triple(lambda x: np.maximum(x, 0.0), lambda x: nan_through(x, np.where(x > 0, 1.0, 0.0)), _flat)
LEAKY_RELU = Triple(
    lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
    lambda x, negative_slope=0.01: nan_through(x, np.where(x > 0, 1.0, negative_slope)),
    _flat,
)
SIGMOID = Triple(logistic, logistic_slope, logistic_bend)


def _sech2(x: Real) -> Real:
    return 4.0 * logistic_slope(2.0 * x)


TANH = Triple(np.tanh, _sech2, lambda x: -2.0 * np.tanh(x) * _sech2(x))
HARDTANH = Triple(
    lambda x, min_val=-1.0, max_val=1.0: np.minimum(np.maximum(x, min_val), max_val),
    lambda x, min_val=-1.0, max_val=1.0: nan_through(x, np.where((x > min_val) & (x < max_val), 1.0, 0.0)),
    _flat,
)
RELU6 = Triple(
    lambda x: np.minimum(np.maximum(x, 0.0), 6.0),
    lambda x: nan_through(x, np.where((x > 0) & (x < 6), 1.0, 0.0)),
    _flat,
)
ELU = Triple(
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(left(x))),
    lambda x, alpha=1.0: nan_through(x, np.where(x > 0, 1.0, alpha * np.exp(left(x)))),
    lambda x, alpha=1.0: nan_through(x, np.where(x > 0, 0.0, alpha * np.exp(left(x)))),
)
CELU = Triple(
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(left(x) / alpha)),
    lambda x, alpha=1.0: nan_through(x, np.where(x > 0, 1.0, np.exp(left(x) / alpha))),
    lambda x, alpha=1.0: nan_through(x, np.where(x > 0, 0.0, np.exp(left(x) / alpha) / alpha)),
)


def scaled_elu(scale: float = SELU_SCALE, alpha: float = SELU_ALPHA) -> Triple:
    """Return SELU with the given constants."""
    elu = ELU
    return Triple(
        lambda x: scale * elu.value(x, alpha=alpha),
        lambda x: scale * elu.derivative(x, alpha=alpha),
        lambda x: scale * elu.second(x, alpha=alpha),
    )


SELU = scaled_elu()


def exact_gelu(root_half: float = ROOT_HALF, density: float = ROOT_1_OVER_2PI) -> Triple:
    """Return x Phi(x) with the given constants; the complementary error function keeps the left tail."""

    def phi(x: Real) -> Real:
        return density * np.exp(-0.5 * np.square(np.clip(x, -FAR, FAR)))

    def cumulative(x: Real) -> Real:
        return 0.5 * special.erfc(-x * root_half)

    def value(x: Real) -> Real:
        return np.where(x < -FAR, -0.0, x * cumulative(x))

    def derivative(x: Real) -> Real:
        return cumulative(x) + np.clip(x, -FAR, FAR) * phi(x)

    def second(x: Real) -> Real:
        near = np.clip(x, -FAR, FAR)
        return phi(near) * (2.0 - near * near)

    return Triple(value, derivative, second)


GELU = exact_gelu()


def tanh_gelu(cubic: float = GELU_CUBIC, root: float = ROOT_2_OVER_PI) -> Triple:
    """Return GELU in its tanh form with the given constants, as x logistic(2 r (x + c x^3))."""

    def inner(x: Real) -> tuple[Real, Real, Real, Real]:
        near = np.clip(x, -FAR, FAR)
        square = near * near
        argument = 2.0 * root * near * (1.0 + cubic * square)
        return near, argument, 2.0 * root * (1.0 + 3.0 * cubic * square), 12.0 * root * cubic * near

    def value(x: Real) -> Real:
        return np.where(x < -FAR, -0.0, x * logistic(inner(x)[1]))

    def derivative(x: Real) -> Real:
        near, argument, slope, _ = inner(x)
        return logistic(argument) + near * logistic_slope(argument) * slope

    def second(x: Real) -> Real:
        near, argument, slope, bend = inner(x)
        steep = logistic_slope(argument)
        return 2.0 * steep * slope + near * (logistic_bend(argument) * slope * slope + steep * bend)

    return Triple(value, derivative, second)


GELU_TANH = tanh_gelu()


def _silu_second(x: Real) -> Real:
    near = np.clip(x, -800.0, 800.0)
    return logistic_slope(near) * (2.0 - near * np.tanh(near / 2))


def _silu_derivative(x: Real) -> Real:
    near = np.clip(x, -800.0, 800.0)
    return logistic(near) * (1.0 + near * logistic(-near))


SILU = Triple(lambda x: np.where(x < -800.0, -0.0, x * logistic(x)), _silu_derivative, _silu_second)


def _softplus(x: Real, beta: float = 1.0, threshold: float = 20.0) -> Real:
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))) / beta)


SOFTPLUS = Triple(
    _softplus,
    lambda x, beta=1.0, threshold=20.0: np.where(beta * x > threshold, 1.0, logistic(beta * x)),
    lambda x, beta=1.0, threshold=20.0: np.where(beta * x > threshold, 0.0, beta * logistic_slope(beta * x)),
)
LOG_SIGMOID = Triple(
    lambda x: np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x))),
    lambda x: logistic(-x),
    lambda x: -logistic_slope(x),
)


def mish_weights(x: Real) -> tuple[Real, Real, Real]:
    """Return w = tanh(log(1 + e^x)) and its first two derivatives, rational in e = exp(-|x|)."""
    e = np.exp(-np.abs(x))
    left, right = e * (e + 2.0) + 2.0, 1.0 + 2.0 * e * (1.0 + e)
    weight = np.where(x < 0, e * (e + 2.0) / left, (1.0 + 2.0 * e) / right)
    slope = np.where(x < 0, 4.0 * e * (1.0 + e) / left**2, 4.0 * e * e * (1.0 + e) / right**2)
    bend = np.where(
        x < 0,
        4.0 * e * (2.0 + e * (2.0 - e * (3.0 + 2.0 * e))) / left**3,
        -4.0 * e * e * (2.0 + e * (3.0 - e * (2.0 + 2.0 * e))) / right**3,
    )
    return weight, slope, bend


def _mish_derivative(x: Real) -> Real:
    weight, slope, _ = mish_weights(x)
    return weight + np.clip(x, -800.0, 800.0) * slope


def _mish_second(x: Real) -> Real:
    _, slope, bend = mish_weights(x)
    return 2.0 * slope + np.clip(x, -800.0, 800.0) * bend


MISH = Triple(lambda x: np.where(x < -800.0, -0.0, x * mish_weights(x)[0]), _mish_derivative, _mish_second)
HARDSIGMOID = Triple(
    lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    lambda x: nan_through(x, np.where(np.abs(x) < 3.0, 1.0 / 6.0, 0.0)),
    _flat,
)
HARDSWISH = Triple(
    lambda x: np.where(x < -3.0, -0.0, x * (np.clip(x + 3.0, 0.0, 6.0) / 6.0)),
    lambda x: nan_through(x, np.where(x < -3.0, 0.0, np.where(x > 3.0, 1.0, (2.0 * x + 3.0) / 6.0))),
    lambda x: nan_through(x, np.where(np.abs(x) < 3.0, 1.0 / 3.0, 0.0)),
)


def _shrink(x: Real) -> Real:
    return 1.0 / (1.0 + np.abs(x))


SOFTSIGN = Triple(
    lambda x: np.where(np.isinf(x), np.sign(x), x / (1.0 + np.abs(x))),
    lambda x: _shrink(x) ** 2,
    lambda x: -2.0 * np.sign(x) * _shrink(x) * _shrink(x) * _shrink(x),
)

ELEMENTWISE: dict[str, Triple] = {
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "hardtanh": HARDTANH,
    "relu6": RELU6,
    "elu": ELU,
    "celu": CELU,
    "selu": SELU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "silu": SILU,
    "softplus": SOFTPLUS,
    "log_sigmoid": LOG_SIGMOID,
    "mish": MISH,
    "hardsigmoid": HARDSIGMOID,
    "hardswish": HARDSWISH,
    "softsign": SOFTSIGN,
}


@dataclass(frozen=True)
class Many:
    """A function of several arrays: value, vector-Jacobian product, and the product's own gradient."""

    value: Callable[..., Real]
    vjp: Callable[..., Sequence[Real]]
    second: Callable[..., Sequence[Real]] | None = None


def several(formula: str, fmt: Format, many: Many) -> Implementation:
    """Return the implementation of a function of several arrays, rounded once to the format."""

    def run_forward(inputs: tuple[Array, ...], options: Options) -> Array:
        with np.errstate(all="ignore"):
            return rounded(fmt, many.value(*map(wide, inputs), **options))

    def run_vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        with np.errstate(all="ignore"):
            gradients = many.vjp(tuple(map(wide, inputs)), wide(cotangent), **options)
        return tuple(rounded(fmt, gradient) for gradient in gradients)

    def run_second(
        inputs: tuple[Array, ...], cotangent: Array, directions: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        assert many.second is not None
        arguments = tuple(map(wide, inputs)), wide(cotangent), tuple(map(wide, directions))
        with np.errstate(all="ignore"):
            return tuple(rounded(fmt, gradient) for gradient in many.second(*arguments, **options))

    return Implementation(
        formula=formula,
        subject="corpus",
        format=fmt,
        forward=run_forward,
        vjp=run_vjp,
        second=None if many.second is None else run_second,
    )


def _to_weight(weight: Real, per_element: Real) -> Real:
    """Sum a gradient over everything but the channels that the weight has."""
    return (
        per_element.sum()
        if np.ndim(weight) == 0
        else per_element.sum(axis=tuple(range(per_element.ndim - 1)))
    )


def _prelu_vjp(inputs: Sequence[Real], c: Real) -> Sequence[Real]:
    x, weight = inputs
    slope = nan_through(x, np.where(x > 0, 1.0, weight))
    return c * slope, _to_weight(weight, c * np.minimum(x, 0.0))


def _prelu_second(inputs: Sequence[Real], c: Real, directions: Sequence[Real]) -> Sequence[Real]:
    x, weight = inputs
    negative = nan_through(x, np.where(x > 0, 0.0, 1.0))
    return directions[1] * c * negative, _to_weight(weight, directions[0] * c * negative)


PRELU = Many(lambda x, weight: np.where(x > 0, x, weight * x), _prelu_vjp, _prelu_second)


def _affine(x: Real, w: Real, b: Real) -> Real:
    return x @ w + b


def _affine_vjp(inputs: Sequence[Real], c: Real) -> Sequence[Real]:
    x, w, _ = inputs
    return c[:, None] * w, c @ x, np.sum(c)


def _neuron_vjp(inputs: Sequence[Real], c: Real) -> Sequence[Real]:
    return _affine_vjp(inputs, c * logistic_slope(_affine(*inputs)))


def _dense_vjp(inputs: Sequence[Real], c: Real) -> Sequence[Real]:
    x, weight, _ = inputs
    return c @ weight, c.T @ x, c.sum(axis=0)


SEVERAL: dict[str, Many] = {
    "prelu": PRELU,
    "preactivation": Many(_affine, _affine_vjp),
    "neuron": Many(lambda x, w, b: logistic(_affine(x, w, b)), _neuron_vjp),
    "dense": Many(lambda x, weight, bias: x @ weight.T + bias, _dense_vjp),
}


def honest(formula: str, fmt: Format) -> Implementation:
    """Return the good implementation of a formula in a format."""
    if formula in SEVERAL:
        return several(formula, fmt, SEVERAL[formula])
    triple = ELEMENTWISE[formula]
    return elementwise(formula, fmt, triple.value, triple.derivative, triple.second)
