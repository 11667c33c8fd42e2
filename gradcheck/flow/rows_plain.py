"""Rows of the theory: networks without normalisation, in the limit of wide layers and at a finite width."""

from __future__ import annotations

import math
from typing import Any

from gradcheck.flow import laws
from gradcheck.flow.activations import activation_formulas
from gradcheck.flow.critical import critical_line, gains
from gradcheck.flow.plain import HANIN_NICA, MEAN_FIELD, NEWMAN
from gradcheck.flow.prediction import predict
from gradcheck.flow.row import EXACT, LIMIT, Recipe, Row, exact_rows, predicted, recipe

_TANH: dict[str, Any] = dict(activation="tanh", weight_variance=2.25, bias_variance=0.05)
_WIDE: dict[str, Any] = dict(width=128)
GAINS = "Glorot & Bengio, AISTATS 2010; He et al., arXiv:1502.01852, 2015"
LU = "Lu, Shin, Su & Karniadakis, arXiv:1903.06733, 2019"


def relu_law(width: int, weight_variance: float = 2.0, keep: float = 1.0) -> laws.LogLaw:
    """Return (σ_w²/(p²N)) χ²_k, k ~ Binomial(N, p/2)."""
    scale = weight_variance / keep**2
    return laws.gaussian(width, (scale, 0.0), (keep / 2, 1 - keep / 2))


def linear_law(width: int, weight_variance: float = 1.0) -> laws.LogLaw:
    """Return (σ_w²/N) χ²_N."""
    return laws.gaussian(width, (weight_variance,), (1.0,))


def dead_probability(width: int, depth: int, keep: float = 1.0) -> float:
    """Return P(‖g_1‖ = 0) = 1 - (1 - (1 - p/2)^N)^(L-1): a layer between lets nothing through, for one input.

    With biases the layers after a dead one live again, and the gradient is 0 all the same. Several inputs die
    together less often.
    """
    shut = (1 - keep / 2) ** width
    return -math.expm1((depth - 1) * math.log1p(-shut))


def dead_pair_probability(width: int, angle: float) -> float:
    """Return P(the first layer is shut for two inputs of one angle) = ((π - θ)/(2π))^N, without biases."""
    return float(((math.pi - angle) / (2 * math.pi)) ** width)


def _dispersion(depth: int, width: int, per_layer: float) -> float:
    return (depth - 1) * per_layer / width


def _critical(activation: str, q: float) -> dict[str, Any]:
    line = critical_line(activation, q)
    return {
        "activation": activation,
        "weight_variance": float(line.weight_variance[0]),
        "bias_variance": float(line.bias_variance[0]),
    }


def _stability(**arguments: Any) -> float:
    return predict(**arguments).stability


def _shrinkage(**arguments: Any) -> float:
    return math.exp(-1 / predict(**arguments).depth_scale)


WIDE: tuple[Row, ...] = (
    Row(
        "variance map",
        "q' = σ_w² E φ² + σ_b² settles at q*",
        MEAN_FIELD,
        LIMIT,
        predicted("q"),
        (
            recipe("forward", **_TANH, **_WIDE),
            recipe("forward", activation="gelu", weight_variance=1.5, bias_variance=0.1, **_WIDE),
        ),
    ),
    Row(
        "gradient factor",
        "χ = σ_w² E φ'² at q*",
        MEAN_FIELD,
        LIMIT,
        predicted("factor"),
        tuple(
            recipe("factor", **kw, **_WIDE)
            for kw in (
                _TANH,
                dict(activation="tanh", weight_variance=25 / 9),
                dict(activation="gelu", weight_variance=1.5, bias_variance=0.1),
                dict(activation="sigmoid", weight_variance=1.0),
                dict(activation="silu", weight_variance=1.5, bias_variance=0.1),
                dict(activation="hardtanh", weight_variance=2.0, bias_variance=0.1),
            )
        ),
    ),
    Row(
        "depth scale",
        "ξ = 1/|ln χ|: e^(-1/ξ) per layer in an ordered network",
        MEAN_FIELD,
        LIMIT,
        _shrinkage,
        (recipe("factor", activation="tanh", weight_variance=0.8, bias_variance=0.1, **_WIDE),),
    ),
    Row(
        "stability of the variance",
        "χ∥ = σ_w²(E φ'² + E φφ'')",
        MEAN_FIELD,
        LIMIT,
        _stability,
        (recipe("map", **_TANH), recipe("map", activation="relu6", weight_variance=2.0, bias_variance=1.0)),
    ),
    Row(
        "critical line",
        "σ_w² = 1/E φ'², σ_b² = q - E φ²/E φ'²",
        MEAN_FIELD,
        LIMIT,
        predicted("factor"),
        tuple(recipe("factor", **_critical(a, q), **_WIDE) for a, q in (("tanh", 0.5), ("hardtanh", 0.5))),
    ),
    Row(
        "gains",
        "1/√E φ'² keeps the gradient, 1/√E φ² the signal; ReLU √2 both",
        GAINS,
        EXACT,
        predicted("factor"),
        tuple(
            recipe("factor", activation=a, weight_variance=1.0, gain=gains(a).backward, **_WIDE)
            for a in ("relu", "leaky_relu")
        ),
    ),
    Row(
        "framework default",
        "σ_w² = 1/3, σ_b² = 1/(3n)",
        "nn.Linear and nn.Conv2d of PyTorch",
        LIMIT,
        predicted("factor"),
        tuple(
            # The bias of n = 128 stays when the width is varied: it is what the fixed point hangs on.
            recipe("factor", 24, activation=a, init="torch", bias_variance=1 / (3 * 128), **_WIDE)
            for a in ("linear", *sorted(activation_formulas()))
        ),
    ),
)

FINITE: tuple[Row, ...] = (
    *exact_rows(
        "linear",
        "(σ_w²/N) χ²_N: E ln = ln(2σ_w²/N) + ψ(N/2), Var ln = ψ'(N/2)",
        NEWMAN,
        linear_law,
        dict(activation="linear", weight_variance=1.0, width=32, depth=20),
        dict(width=32),
    ),
    *exact_rows(
        "ReLU",
        "(σ_w²/N) χ²_k, k ~ Binomial(N, 1/2)",
        HANIN_NICA,
        relu_law,
        dict(activation="relu", weight_variance=2.0, width=32, depth=20),
        dict(width=32),
    ),
    *exact_rows(
        "ReLU with biases",
        "the same law, whatever the variance of the biases",
        HANIN_NICA,
        relu_law,
        dict(activation="relu", weight_variance=2.0, bias_variance=0.5, width=32, depth=20),
        dict(width=32),
    ),
    *exact_rows(
        "ReLU with dropout",
        "(σ_w²/(p²N)) χ²_k, k ~ Binomial(N, p/2)",
        HANIN_NICA,
        relu_law,
        dict(activation="relu", weight_variance=2.0, width=32, keep=0.8, depth=20),
        dict(width=32, keep=0.8),
    ),
    Row(
        "log-normal",
        "β = Σ 5/n_l (ReLU), Σ 2/n_l (linear)",
        HANIN_NICA,
        LIMIT,
        _dispersion,
        (
            Recipe(
                "dispersion",
                dict(activation="relu", width=128, depth=30),
                dict(depth=30, width=128, per_layer=5.0),
            ),
            Recipe(
                "dispersion",
                dict(activation="linear", weight_variance=1.0, width=128, depth=30),
                dict(depth=30, width=128, per_layer=2.0),
            ),
        ),
    ),
    Row(
        "dead network",
        "P = 1 - (1 - 2^-N)^(L-1), one input, with or without biases",
        LU,
        EXACT,
        dead_probability,
        (
            Recipe("dead", dict(activation="relu", width=4, depth=13), dict(width=4, depth=13)),
            Recipe(
                "dead", dict(activation="relu", width=4, depth=13, bias_variance=0.5), dict(width=4, depth=13)
            ),
            Recipe(
                "dead",
                dict(activation="relu", width=8, depth=20, keep=0.5),
                dict(width=8, depth=20, keep=0.5),
            ),
        ),
    ),
    Row(
        "dropout against criticality",
        "q' = (σ_w²/p) E φ² + σ_b², χ = (σ_w²/p) E φ'²",
        MEAN_FIELD,
        LIMIT,
        predicted("factor"),
        (recipe("factor", **_TANH, keep=0.8, **_WIDE),),
    ),
)
