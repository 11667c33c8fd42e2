"""Gaussian moments of an activation: E over z ~ N(0, q), for many q at once, each with a bound of its error.

The integrals are split at the kinks, at powers of two around 0 (the scale on which activations live) and at
multiples of √q (the scale of the density). Derivatives along q come from integration by parts, so that kinks
need no second derivative: d/dq E f(z) = E[f'(z) z]/(2q) = E[f(z)(z²/q - 1)]/(2q).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcheck.errors import UsageError
from gradcheck.flow.activations import Activation
from gradcheck.flow.quadrature import ALLOWED, IntegerArray, edges_around, integrate

Float64Array = NDArray[np.float64]

NAMES = (
    "mean", "square", "slope", "slope_square", "square_rate",
    "slope_rate", "square_square", "slope_fourth", "product", "square_first", "slope_first",
)  # fmt: skip
# In deviations; the density at the end is 2e-56.
_REACH = 16.0
_DEVIATIONS = np.array([-12.0, -8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 12.0])
_LEAST_BINADE = -6
_ROWS = 256
_ALLOWED_ROUGH = 2.0**-32


@dataclass(frozen=True)
class Moments:
    """Moments at each q: arrays of the shape of `q`; `errors` holds a bound of each one's error by name.

    mean E φ, square E φ², slope E φ', slope_square E φ'², square_rate d(E φ²)/dq = E φ'² + E φφ'',
    slope_rate d(E φ'²)/dq, square_square E φ⁴, slope_fourth E φ'⁴, product E φ²φ'², square_first and
    slope_first E φ²z and E φ'²z over √q.
    """

    q: Float64Array
    mean: Float64Array
    square: Float64Array
    slope: Float64Array
    slope_square: Float64Array
    square_rate: Float64Array
    slope_rate: Float64Array
    square_square: Float64Array
    slope_fourth: Float64Array
    product: Float64Array
    square_first: Float64Array
    slope_first: Float64Array
    errors: dict[str, Float64Array]

    @property
    def variance(self) -> Float64Array:
        """Var φ = E φ² - (E φ)²."""
        return self.square - self.mean**2

    @property
    def curvature(self) -> Float64Array:
        """E φφ'', with what kinks contribute: φ times the jump of φ' times the density."""
        return self.square_rate - self.slope_square


def moments(activation: Activation, q: ArrayLike) -> Moments:
    """Return the moments of `activation` for every variance in `q`, all above 0 and finite."""
    variances = np.asarray(q, dtype=np.float64)
    if not np.all((variances > 0) & np.isfinite(variances)):
        raise UsageError("q: expected variances above 0 and finite; the limits 0 and inf have no density")
    flat = variances.reshape(-1)
    parts = [_of_rows(activation, flat[i : i + _ROWS]) for i in range(0, len(flat), _ROWS)]
    value = np.concatenate([part[0] for part in parts], axis=1).reshape(len(NAMES), *variances.shape)
    error = np.concatenate([part[1] for part in parts], axis=1).reshape(len(NAMES), *variances.shape)
    found = dict(zip(NAMES, value, strict=True))
    return Moments(q=variances, errors=dict(zip(NAMES, error, strict=True)), **found)


def _of_rows(activation: Activation, q: Float64Array) -> tuple[Float64Array, Float64Array]:
    deviation = np.sqrt(q)
    at_zero = np.array([0.0])
    # E z = 0: without its value at 0 a moment that is divided by q does not cancel for small q.
    product_at_zero = float((activation.value(at_zero) * activation.derivative(at_zero))[0])
    square_at_zero = float(activation.derivative(at_zero)[0] ** 2)

    def integrands(x: Float64Array, row: IntegerArray) -> Float64Array:
        s = deviation[row]
        z = x / s
        density = np.exp(-0.5 * z * z) / (s * math.sqrt(2 * math.pi))
        f, g = activation.value(x), activation.derivative(x)
        ff, gg = f * f, g * g
        by_parts = (f * g - product_at_zero) * z / s
        curved = (gg - square_at_zero) * (z * z - 1) / (2 * s * s)
        rows = [f, ff, g, gg, by_parts, curved, ff * ff, gg * gg, ff * gg, ff * z, gg * z]
        if activation.noise is not None:
            rows.append(np.square(activation.noise(x)))
        return np.stack(rows) * density

    cancelled = np.zeros((len(NAMES) + (activation.noise is not None), len(q)))
    cancelled[4], cancelled[5] = abs(product_at_zero) / deviation, square_at_zero / q
    edges = gaussian_edges(np.zeros_like(q), deviation, activation.breaks)
    allowed = ALLOWED
    if activation.noise is not None:
        # Differences are rough: nothing is gained by resolving them further, and E e² need not be sharp.
        allowed, cancelled[-1] = _ALLOWED_ROUGH, 1.0
    found = integrate(integrands, edges, cancelled, allowed)
    with np.errstate(all="ignore"):
        error = found.error + _of_the_derivative(activation, found.value, q)
    error = error[: len(NAMES)]
    ends = np.stack([-_REACH * deviation, _REACH * deviation], axis=1)
    with np.errstate(all="ignore"):
        tails = np.abs(integrands(ends, np.arange(len(q))[:, None]))[: len(NAMES)]
    beyond = np.sum(np.where(np.isnan(tails), np.inf, tails), axis=2) * deviation
    bound = error + beyond
    return found.value[: len(NAMES)], np.where(np.isnan(bound), np.inf, bound)


def flat_share(activation: Activation, q: float) -> float:
    """Return P(φ'(z) = 0) for z ~ N(0, q), the share of units that pass no gradient."""
    deviation = math.sqrt(q)

    def flat(x: Float64Array, row: IntegerArray) -> Float64Array:
        density = np.exp(-0.5 * np.square(x / deviation)) / (deviation * math.sqrt(2 * math.pi))
        return np.asarray((activation.derivative(x) == 0) * density)[None]

    edges = gaussian_edges(np.zeros(1), np.array([deviation]), activation.breaks)
    return min(1.0, float(integrate(flat, edges).value[0, 0]))


def gaussian_edges(mean: Float64Array, deviation: Float64Array, breaks: Sequence[float]) -> Float64Array:
    """Return edges (rows, n) for integrals over N(mean, deviation²) of functions with the given breaks."""
    top = math.ceil(math.log2(float(np.max(np.abs(mean) + _REACH * deviation)))) + 1
    binades = np.ldexp(1.0, np.arange(min(_LEAST_BINADE, top), top))
    fixed = np.concatenate([-binades, [0.0], binades, np.asarray(breaks, dtype=np.float64)])
    scaled = mean[:, None] + deviation[:, None] * _DEVIATIONS
    points = np.concatenate([scaled, np.broadcast_to(fixed, (len(mean), len(fixed)))], axis=1)
    return edges_around(mean - _REACH * deviation, mean + _REACH * deviation, points)


def _of_the_derivative(activation: Activation, value: Float64Array, q: Float64Array) -> Float64Array:
    """Bound what an error e of φ' adds, by Cauchy and Schwarz: 2√(E e² E φ'²) + E e² for E φ'², and so on."""
    square, slope = np.sqrt(value[1]), np.sqrt(value[3])
    e = activation.relative_error * slope
    if activation.noise is not None:
        e = e + np.sqrt(value[len(NAMES)])
    added = np.zeros_like(value)
    added[2] = e
    added[3] = 2 * e * slope + e * e
    added[4] = e * square / np.sqrt(q)
    added[5] = (2 * e * value[7] ** 0.25 + e * e) / q
    added[7] = 4 * e * value[7] ** 0.75 + 4 * e**4
    added[10] = 2 * e * value[7] ** 0.25 + e * e
    added[8] = 2 * e * np.sqrt(value[6]) + e * e * value[1]
    return added


@dataclass(frozen=True)
class Pair:
    """E φ(u)φ(v) and E φ'(u)φ'(v) for (u, v) Gaussian of variance q and correlation c, with their errors."""

    value: Float64Array
    slope: Float64Array
    value_error: Float64Array
    slope_error: Float64Array


def pair_moments(activation: Activation, q: float, correlation: ArrayLike) -> Pair:
    """Return E φ(u)φ(v) and E φ'(u)φ'(v), u and v of variance `q`, for every correlation in (-1, 1).

    Given u, v is N(cu, q(1 - c²)): the inner integral is taken for every node of the outer one.
    """
    c = np.atleast_1d(np.asarray(correlation, dtype=np.float64))
    if not np.all(np.abs(c) < 1):
        raise UsageError("correlation: expected numbers between -1 and 1, the ends excluded")
    rows = [_pair(activation, math.sqrt(q), float(x)) for x in c.ravel()]
    value, slope, value_error, slope_error = (
        np.array(column).reshape(np.shape(correlation)) for column in zip(*rows, strict=True)
    )
    return Pair(value, slope, value_error, slope_error)


def _pair(activation: Activation, s: float, c: float) -> tuple[float, float, float, float]:
    inner_deviation = s * math.sqrt((1 - c) * (1 + c))
    worst = np.zeros(2)

    def outer(x: Float64Array, row: IntegerArray) -> Float64Array:
        mean = c * x.ravel()
        deviation = np.full(mean.shape, inner_deviation)

        def inner(y: Float64Array, row: IntegerArray) -> Float64Array:
            z = (y - mean[row]) / inner_deviation
            density = np.exp(-0.5 * z * z) / (inner_deviation * math.sqrt(2 * math.pi))
            return np.stack([activation.value(y), activation.derivative(y)]) * density

        found = integrate(inner, gaussian_edges(mean, deviation, activation.breaks))
        density = np.exp(-0.5 * (x / s) ** 2) / (s * math.sqrt(2 * math.pi))
        own = np.stack([activation.value(x), activation.derivative(x)]) * density
        nonlocal worst
        worst = np.maximum(worst, np.max(np.abs(own) * found.error.reshape(2, *x.shape), axis=(1, 2)))
        return own * found.value.reshape(2, *x.shape)

    # Within the width of the inner density of v's kinks, u sees them smoothed.
    near = [k / c for k in activation.breaks if c] if abs(c) > 1e-3 else []
    edges = gaussian_edges(np.zeros(1), np.array([s]), (*activation.breaks, *near))
    at = moments(activation, s * s)
    size = np.array([[float(at.square)], [float(at.slope_square)]])
    found = integrate(outer, edges, size, 2.0**-46)
    error = found.error[:, 0] + worst * 2 * _REACH * s
    value, slope = (float(x) for x in found.value[:, 0])
    return value, slope, float(error[0]), float(error[1]) + 2 * activation.relative_error * abs(slope)
