"""Initial weights: the distribution that each rule draws from, as an exact law.

A weight has shape (out, in, *kernel); fan_in = in · kernel, fan_out = out · kernel. A law is uniform on an
interval, or a normal law, whole or restricted to one. Two rules are no laws of single numbers: an orthogonal
matrix, and the one that passes its input through (Dirac).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gradcheck.errors import UsageError, unknown_name
from gradcheck.records import Option

Float64Array = NDArray[np.float64]
Shape = tuple[int, ...]
# Gauss' rule with so many nodes integrates a normal density times an 8th power over 20 deviations exactly.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True)
class Law:
    """Uniform on [low, high] if `std` is None; otherwise the normal law N(mean, std²) restricted to it."""

    low: float
    high: float
    mean: float = 0.0
    std: float | None = None

    def restricted(self, reach: float) -> Law:
        """Return the law given that a normal number is no more than `reach` deviations off its mean."""
        if self.std is None:
            return self
        low, high = self.mean - reach * self.std, self.mean + reach * self.std
        return replace(self, low=max(self.low, low), high=min(self.high, high))

    def cdf(self, x: Float64Array) -> Float64Array:
        """Return P(X <= x)."""
        bounded = np.clip(x, self.low, self.high)
        if self.std is None:
            return np.asarray((bounded - self.low) / (self.high - self.low))
        below, above = (special.ndtr((end - self.mean) / self.std) for end in (self.low, self.high))
        return np.asarray((special.ndtr((bounded - self.mean) / self.std) - below) / (above - below))

    @cached_property
    def _weighted(self) -> tuple[Float64Array, Float64Array]:
        x = self.low + (self.high - self.low) * (_NODES + 1) / 2
        density = np.ones_like(x) if self.std is None else np.exp(-np.square((x - self.mean) / self.std) / 2)
        return x, _WEIGHTS * density / np.sum(_WEIGHTS * density)

    @cached_property
    def centre(self) -> float:
        """E X, for an interval that is bounded."""
        x, weights = self._weighted
        return float(np.sum(weights * x))

    def moment(self, order: int) -> float:
        """Return E (X - E X)^order, for an interval that is bounded."""
        x, weights = self._weighted
        return float(np.sum(weights * (x - self.centre) ** order))


def uniform_of_variance(variance: float) -> Law:
    """Return U(-b, b) with b = sqrt(3 variance)."""
    bound = math.sqrt(3.0 * variance)
    return Law(-bound, bound)


def normal_of_variance(variance: float) -> Law:
    """Return N(0, variance)."""
    return Law(-math.inf, math.inf, 0.0, math.sqrt(variance))


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in, *kernel)."""
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


@dataclass(frozen=True)
class Initializer:
    """One rule for initial weights. `law(shape, **options)` is the law of every number of such a weight.

    `kind` is "law", "orthogonal" or "dirac"; the last two have no law. `axes` says how many axes a weight
    has, least and most; `target` which array of a layer the rule fills.
    """

    name: str
    title: str
    equation: str
    source: str
    law: Callable[..., Law] | None = None
    options: tuple[Option, ...] = ()
    kind: str = "law"
    axes: tuple[int, int] = (2, 4)
    target: str = "weight"
    article: str = "F18"

    def complete(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return all options, the given ones over the defaults; an unknown one is a `UsageError`."""
        known = {option.name: option.default for option in self.options}
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise UsageError(f"{self.name} has no option {unknown[0]!r}; it has {sorted(known) or 'none'}")
        return {**known, **options}


_GAIN = Option("gain", 1.0, low=0.125, high=4.0)
_SLOPE = Option("slope", 0.0, low=0.0, high=2.0)
_MODE = Option("mode", "fan_in", choices=("fan_in", "fan_out"), structural=True)
_GLOROT = "Glorot & Bengio, AISTATS 2010"
_HE = "He, Zhang, Ren & Sun, arXiv:1502.01852, 2015"
_LECUN = "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998; Klambauer et al., arXiv:1706.02515, 2017"


def _glorot(shape: Shape, gain: float) -> float:
    return 2.0 * gain**2 / sum(fans(shape))


def _he(shape: Shape, slope: float, mode: str) -> float:
    return 2.0 / ((1.0 + slope**2) * fans(shape)[("fan_in", "fan_out").index(mode)])


def _of_layer(shape: Shape) -> Law:
    """U(-b, b) with b = 1/sqrt(fan_in), so that the variance is 1/(3 fan_in)."""
    return uniform_of_variance(1.0 / (3.0 * fans(shape)[0]))


INITIALIZERS: tuple[Initializer, ...] = (
    Initializer(
        "uniform",
        "Uniform",
        "U(low, high)",
        "Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions, 1995",
        lambda shape, *, low, high: Law(low, high),
        (Option("low", -1.0, low=-4.0, high=0.0), Option("high", 1.0, low=0.125, high=4.0)),
    ),
    Initializer(
        "normal",
        "Normal",
        "N(mean, std²)",
        "Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions, 1994",
        lambda shape, *, mean, std: Law(-math.inf, math.inf, mean, std),
        (Option("mean", 0.0, low=-2.0, high=2.0), Option("std", 1.0, low=0.125, high=4.0)),
    ),
    Initializer(
        "trunc_normal",
        "Truncated normal",
        "N(mean, std²) restricted to [low, high]",
        "Robert, Statistics and Computing 5, 1995",
        lambda shape, *, mean, std, low, high: Law(low, high, mean, std),
        (
            Option("mean", 0.0, low=-1.0, high=1.0),
            Option("std", 1.0, low=0.25, high=4.0),
            Option("low", -2.0, low=-4.0, high=-1.0),
            Option("high", 2.0, low=1.0, high=4.0),
        ),
    ),
    Initializer(
        "glorot_uniform",
        "Glorot uniform",
        "U(-b, b), b = gain sqrt(6/(fan_in + fan_out))",
        _GLOROT,
        lambda shape, *, gain: uniform_of_variance(_glorot(shape, gain)),
        (_GAIN,),
    ),
    Initializer(
        "glorot_normal",
        "Glorot normal",
        "N(0, 2 gain²/(fan_in + fan_out))",
        _GLOROT,
        lambda shape, *, gain: normal_of_variance(_glorot(shape, gain)),
        (_GAIN,),
    ),
    Initializer(
        "he_uniform",
        "He uniform",
        "U(-b, b), b = sqrt(6/((1 + a²) fan))",
        _HE,
        lambda shape, *, slope, mode: uniform_of_variance(_he(shape, slope, mode)),
        (_SLOPE, _MODE),
    ),
    Initializer(
        "he_normal",
        "He normal",
        "N(0, 2/((1 + a²) fan))",
        _HE,
        lambda shape, *, slope, mode: normal_of_variance(_he(shape, slope, mode)),
        (_SLOPE, _MODE),
    ),
    Initializer(
        "lecun_uniform",
        "LeCun uniform",
        "U(-b, b), b = sqrt(3/fan_in)",
        _LECUN,
        lambda shape: uniform_of_variance(1.0 / fans(shape)[0]),
    ),
    Initializer(
        "lecun_normal",
        "LeCun normal",
        "N(0, 1/fan_in)",
        _LECUN,
        lambda shape: normal_of_variance(1.0 / fans(shape)[0]),
    ),
    Initializer(
        "linear_weight",
        "The weight of a fully connected layer, by default",
        "U(-b, b), b = 1/sqrt(fan_in): Var w = 1/(3 fan_in)",
        "He uniform with slope sqrt(5), He et al., arXiv:1502.01852, 2015",
        _of_layer,
        axes=(2, 2),
    ),
    Initializer(
        "linear_bias",
        "The bias of a fully connected layer, by default",
        "U(-b, b), b = 1/sqrt(fan_in)",
        "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
        _of_layer,
        axes=(2, 2),
        target="bias",
    ),
    Initializer(
        "conv2d_weight",
        "The weight of a convolution, by default",
        "U(-b, b), b = 1/sqrt(fan_in): Var w = 1/(3 fan_in)",
        "He uniform with slope sqrt(5), He et al., arXiv:1502.01852, 2015",
        _of_layer,
        axes=(4, 4),
    ),
    Initializer(
        "conv2d_bias",
        "The bias of a convolution, by default",
        "U(-b, b), b = 1/sqrt(fan_in)",
        "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
        _of_layer,
        axes=(4, 4),
        target="bias",
    ),
    Initializer(
        "orthogonal",
        "Orthogonal",
        "gain Q, QᵀQ = 1 or QQᵀ = 1, Q uniform among these (Haar)",
        "Saxe, McClelland & Ganguli, arXiv:1312.6120, 2014; Mezzadri, Notices of the AMS 54, 2007",
        options=(_GAIN,),
        kind="orthogonal",
    ),
    Initializer(
        "dirac",
        "Dirac",
        "w[i, i, middle] = 1 in every group, 0 elsewhere",
        "Zagoruyko & Komodakis, arXiv:1706.00388, 2017",
        options=(Option("groups", 1, choices=(1, 2, 3), structural=True),),
        kind="dirac",
        axes=(3, 5),
    ),
)


def get_initializer(name: str) -> Initializer:
    """Return the rule called `name`; an unknown name is a `UsageError` that offers the closest ones."""
    for initializer in INITIALIZERS:
        if initializer.name == name:
            return initializer
    raise unknown_name("initializer", name, (initializer.name for initializer in INITIALIZERS))


def dirac(shape: Shape, groups: int) -> Float64Array:
    """Return the weight (out, in, *kernel) that passes the first channels of every group through."""
    weight = np.zeros(shape)
    per_group = shape[0] // groups
    middle = tuple(size // 2 for size in shape[2:])
    for group in range(groups):
        for channel in range(min(per_group, shape[1])):
            weight[(group * per_group + channel, channel, *middle)] = 1.0
    return weight
