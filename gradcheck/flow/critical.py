"""Initial variances at which gradients neither vanish nor explode, and what frameworks take instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcheck.errors import UsageError
from gradcheck.flow.activations import Activation, activation_formulas, get_activation
from gradcheck.flow.moments import moments, pair_moments
from gradcheck.flow.prediction import Prediction, predict

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class CriticalLine:
    """Variances with χ = 1, one pair for every fixed point q; NaN where no σ_b² >= 0 has it.

    `error` bounds the numerical error of `weight_variance`, `stability` is χ∥ there.
    """

    q: Float64Array
    weight_variance: Float64Array
    bias_variance: Float64Array
    stability: Float64Array
    error: Float64Array


def critical_line(activation: str | Activation | Any, q: ArrayLike) -> CriticalLine:
    """Return σ_w² = 1/E φ'², σ_b² = q - E φ²/E φ'², E over N(0, q), for every q above 0.

    Source: Schoenholz et al., arXiv:1611.01232, 2017.
    """
    at = moments(get_activation(activation), np.atleast_1d(np.asarray(q, dtype=np.float64)))
    weight = 1 / at.slope_square
    bias = at.q - at.square * weight
    off = at.errors["square"] * weight + at.square * weight**2 * at.errors["slope_square"]
    # What is 0 to rounding is 0: the line of a homogeneous activation is one point.
    bias = np.where(np.abs(bias) <= 4 * off + 2.0**-50 * at.q, 0.0, bias)
    inside = bias >= 0
    return CriticalLine(
        q=at.q,
        weight_variance=np.where(inside, weight, np.nan),
        bias_variance=np.where(inside, bias, np.nan),
        stability=np.where(inside, weight * at.square_rate, np.nan),
        error=at.errors["slope_square"] * weight**2,
    )


@dataclass(frozen=True)
class Gains:
    """Gains of the weights' deviation over 1/√fan that keep a variance.

    `forward` keeps that of the pre-activations, 1/√E φ², `backward` that of the gradients, 1/√E φ'², both
    over N(0, q); `framework` is PyTorch's `calculate_gain`, if it has one.
    """

    forward: float
    backward: float
    framework: float | None
    error: float


def gains(
    activation: str | Activation | Any, q: float = 1.0, options: Mapping[str, Any] | None = None
) -> Gains:
    """Return the gains of an activation for pre-activations of variance `q`.

    Source: Glorot & Bengio, AISTATS 2010 (both conditions); He et al., arXiv:1502.01852, 2015.
    """
    known = get_activation(activation, **dict(options or {}))
    at = moments(known, q)
    forward, backward = (1 / math.sqrt(float(x)) for x in (at.square, at.slope_square))
    error = max(
        0.5 * forward**3 * float(at.errors["square"]), 0.5 * backward**3 * float(at.errors["slope_square"])
    )
    return Gains(forward, backward, framework_gain(known, options or {}), error)


def framework_gain(activation: Activation, options: Mapping[str, Any]) -> float | None:
    """Return what `torch.nn.init.calculate_gain` says; None for an activation that it does not know."""
    slope = float(options.get("negative_slope", 0.01))
    table = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 0.75,
    }
    return table.get(activation.name)


def framework_defaults(width: int | None = None) -> dict[str, Prediction]:
    """Return the prediction of every activation under the default initialisation of nn.Linear and nn.Conv2d.

    Var w = 1/(3 fan_in): σ_w² = 1/3, with biases of variance 1/(3 fan_in), 0 without a width.
    """
    return {
        name: predict(name, init="torch", width=width) for name in ("linear", *sorted(activation_formulas()))
    }


def correlation_map(
    activation: str | Activation | Any,
    weight_variance: float,
    bias_variance: float,
    q: float,
    correlation: ArrayLike,
) -> tuple[Float64Array, Float64Array]:
    """Return c' = (σ_w² E φ(u)φ(v) + σ_b²)/q and its error for inputs of correlation c at a fixed point q.

    Its slope at c = 1 is χ: above 1 two near inputs part (chaos), below they meet. Source: Poole et al.,
    arXiv:1606.05340, 2016.
    """
    if not q > 0:
        raise UsageError(f"q: expected the variance at a fixed point, above 0, got {q!r}")
    pair = pair_moments(get_activation(activation), q, correlation)
    return (weight_variance * pair.value + bias_variance) / q, weight_variance * pair.value_error / q
