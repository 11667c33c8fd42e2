"""What the texts share: exact constants, the magnitude, and short ways to write a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import PI, exact
from gradcheck.records import Standing, Text, Variant

ROOT_HALF = np.sqrt(exact(1) / 2)
ROOT_TWO_OVER_PI = np.sqrt(2 / PI)
NORMAL_DENSITY_AT_ZERO = 1 / np.sqrt(2 * PI)


def magnitude(x: Any) -> Any:
    """|x|, written so that a complex step passes through it.

    The outer maximum changes no number; it keeps an interval around 0 from reaching below 0.
    """
    return np.maximum(np.maximum(x, -x), 0)


def logistic(x: Any) -> Any:
    """σ(x) = 1 / (1 + e^-x), free of overflow, exact to a few ULP down to the least subnormal number."""
    e = np.exp(-magnitude(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def logistic_slope(x: Any) -> Any:
    """σ'(x) = σ(x) σ(-x) = e / (1 + e)², e = e^-|x|."""
    e = np.exp(-magnitude(x))
    return e / np.square(1 + e)


def printed_logistic(x: Any) -> Any:
    """σ(x) as it is printed, 1 / (1 + e^-x): e^-x overflows where σ is subnormal, and gives 0."""
    return 1 / (1 + np.exp(-x))


def affine_bias_first(x: Any, weight: Any, bias: Any) -> Any:
    """Y = [1, X] [b, W]ᵀ, for x (..., n), weight (m, n) and bias (m,), or (n,) and ().

    The bias is one more term of the sum: matrix multiplications that accumulate onto it round it with every
    product, which some BLAS kernels do.
    """
    ones = np.ones_like(np.sum(x, axis=-1, keepdims=True))
    factors = np.concatenate([np.expand_dims(bias, -1), weight], axis=-1)
    return np.matmul(np.concatenate([ones, x], axis=-1), factors.T)


def zero(x: Any, **_: Any) -> Any:
    """0 everywhere."""
    return np.zeros_like(x)


BIAS_FIRST = "the bias first, then the products"


def stable(order: int, name: str, text: Text) -> Variant:
    """A text whose interval is no wider than a few times the reference's."""
    return Variant(name, order, Standing.STABLE, text)


def accepted(order: int, name: str, text: Text) -> Variant:
    """A text as good as the reference at a neighbouring input; it may lose subnormal results besides."""
    return Variant(name, order, Standing.ACCEPTED, text)


def unstable(order: int, name: str, text: Text) -> Variant:
    """A text that somewhere loses digits of a normal number: cancellation, overflow or underflow inside."""
    return Variant(name, order, Standing.UNSTABLE, text)


def kinks_at(*points: float) -> Callable[..., tuple[float, ...]]:
    """Kinks that no option moves."""
    return lambda **_: points


Ends = tuple[float, float]


def at_infinity(value: Ends, derivative: Ends, second: Ends = (0.0, 0.0)) -> Callable[..., tuple[Ends, ...]]:
    """Limits at -inf and +inf that no option changes."""
    return lambda **_: (value, derivative, second)
