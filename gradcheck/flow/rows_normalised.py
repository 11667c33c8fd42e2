"""Rows of the theory: batch, layer and RMS normalisation, and residual blocks."""

from __future__ import annotations

import math
from typing import Any

from gradcheck.flow import batch_norm, laws
from gradcheck.flow.activations import get_activation
from gradcheck.flow.normalised import OF_FEATURES, YANG
from gradcheck.flow.row import LIMIT, Recipe, Row, exact_rows, predicted, recipe
from gradcheck.flow.streams import SOURCE

_FINITE_NORM = "derived in gradcheck.flow.laws"
_WIDE: dict[str, Any] = dict(width=128)


def _batch(activation: str, batch: int) -> float:
    return batch_norm.factor(get_activation(activation), batch)[0]


def _wide_batch(activation: str) -> float:
    return batch_norm.wide_factor(get_activation(activation))[0]


def _block_law(width: int, weight_variance: float, residual: float) -> laws.LogLaw:
    strength = (residual * weight_variance) ** 2 / 2
    return laws.residual_block(width, width, strength, 0.5)


def _whole_stream(depth: int) -> float:
    """(1 + 1/L)^L for s₁²s₂² = 2 and scale 1/√L, over L - 1 blocks."""
    return (1 + 1 / depth) ** (depth - 1)


def _of_blocks(depth: int, **arguments: Any) -> float:
    return predicted("factor")(depth=depth, **arguments)


def _batch_recipe(value: dict[str, Any], **network: Any) -> Recipe:
    return Recipe("factor", {**network, "norm": "batch", "depth": 20, **_WIDE}, value)


NORMALISED: tuple[Row, ...] = (
    Row(
        "batch norm, linear",
        "(B - 2)/(B - 3)",
        YANG,
        LIMIT,
        batch_norm.linear_factor,
        tuple(_batch_recipe(dict(batch=b), activation="linear", batch=b) for b in (8, 16)),
    ),
    Row(
        "batch norm, ReLU",
        "[B - 2 + J'(ρ) + J(ρ)]/[(B - 3)(1 - J(ρ))], ρ = -1/(B - 1)",
        YANG,
        LIMIT,
        batch_norm.rectified_factor,
        tuple(_batch_recipe(dict(batch=b), activation="relu", batch=b) for b in (8, 32)),
    ),
    Row(
        "batch norm, any activation",
        "[(B - 1)S + T - Y + X]/[(B - 3)(E φ₁² - E φ₁φ₂)] over the sphere of a batch",
        "derived in gradcheck.flow.batch_norm, after " + YANG,
        LIMIT,
        _batch,
        tuple(
            _batch_recipe(dict(activation=a, batch=b), activation=a, batch=b)
            for a, b in (("tanh", 8), ("gelu", 16), ("sigmoid", 16))
        ),
    ),
    Row(
        "batch norm, many inputs",
        "E φ'²/Var φ >= 1 for B → ∞, 1 for linear φ alone (Gaussian Poincaré inequality)",
        YANG,
        LIMIT,
        _wide_batch,
        tuple(Recipe("inequality", {}, dict(activation=a)) for a in ("tanh", "relu")),
    ),
    Row(
        "layer norm and RMS norm",
        "σ_w² E φ'²/(σ_w² E φ² + σ_b²) over N(0, 1)",
        OF_FEATURES,
        LIMIT,
        predicted("factor"),
        tuple(
            recipe("factor", 20, norm=norm, activation=a, bias_variance=b, **_WIDE)
            for norm, a, b in (
                ("layer", "tanh", 0.0),
                ("rms", "tanh", 0.0),
                ("rms", "gelu", 0.5),
                ("layer", "relu", 0.0),
            )
        ),
    ),
    *exact_rows(
        "RMS norm, linear",
        "χ²_(N-1)/χ²_N",
        _FINITE_NORM,
        laws.linear_rms_norm,
        dict(activation="linear", norm="rms", width=32, depth=20),
        dict(width=32),
    ),
    *exact_rows(
        "layer norm, linear",
        "χ²_(N-2)/χ²_(N-1)",
        _FINITE_NORM,
        laws.linear_layer_norm,
        dict(activation="linear", norm="layer", width=32, depth=20),
        dict(width=32),
    ),
    *exact_rows(
        "RMS norm, ReLU",
        "χ²_(k-1)/χ²_k, k ~ Binomial(N, 1/2)",
        _FINITE_NORM,
        laws.rectified_rms_norm,
        dict(activation="relu", norm="rms", width=32, depth=20),
        dict(width=32),
        ("log_mean", "log_variance"),
    ),
    *exact_rows(
        "residual block",
        "1 + s²s₁²s₂²/2 on average; ‖g + W₁ᵀDW₂ᵀg‖² is noncentral χ² given D W₂ᵀg",
        SOURCE,
        _block_law,
        dict(activation="relu", residual=0.5, weight_variance=2.0, width=32, depth=20),
        dict(residual=0.5, weight_variance=2.0, width=32),
    ),
    Row(
        "residual network of depth L",
        "(1 + 1/L)^L for s₁²s₂² = 2 and branches scaled by 1/√L",
        SOURCE,
        "exact",
        _whole_stream,
        (
            Recipe(
                "retained",
                dict(
                    activation="relu", residual="1/sqrt(L)", weight_variance=math.sqrt(2), width=32, depth=20
                ),
                dict(depth=20),
            ),
        ),
    ),
    Row(
        "residual network, any activation",
        "1 + s²σ_w⁴ E φ'²(q_l) block by block, q_l of a growing stream",
        SOURCE,
        LIMIT,
        _of_blocks,
        tuple(
            Recipe(
                "factor",
                dict(activation=a, residual=0.5, weight_variance=1.0, depth=20, **_WIDE),
                dict(activation=a, residual=0.5, weight_variance=1.0, depth=20),
            )
            for a in ("tanh", "gelu")
        ),
    ),
)
