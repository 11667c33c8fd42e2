"""Rows of the theory: orthogonal weights, spectra, bounds, borders of maps, optimizers, clipping."""

from __future__ import annotations

import math

from gradcheck.flow import laws, padding, spectra, steps
from gradcheck.flow.row import BOUND, EXACT, LIMIT, Recipe, Row, exact_rows

SAXE = "Saxe, McClelland & Ganguli, arXiv:1312.6120, 2014; Pennington et al., arXiv:1711.04735, 2017"
PASCANU = "Hochreiter, diploma thesis, 1991; Pascanu, Mikolov & Bengio, arXiv:1211.5063, 2013"
_BORDERS = "transfer operator of the kernel's offsets, derived in gradcheck.flow.padding"


def _orthogonal_relu(width: int) -> laws.LogLaw:
    return laws.orthogonal(width, (2.0, 0.0), (0.5, 0.5))


def _orthogonal_linear(width: int) -> laws.LogLaw:
    return laws.orthogonal(width, (1.0,), (1.0,))


def _spectrum_variance(depth: int, width: int | None = None) -> float:
    return spectra.gaussian_spectrum(depth, width).variance


def _largest(depth: int) -> float:
    return math.sqrt(spectra.gaussian_spectrum(depth).largest)


def _retained(size: int, kernel: int, depth: int, padding_mode: str = "zeros") -> float:
    return float(padding.retained(size, kernel, depth - 1, padding_mode)[-1])


def _clipping(first: float, last: float, largest: float, total: float) -> float:
    a, b = steps.clipped_span(first, last, largest, total)
    return (a / b) / (first / last)


def _conv(activation: str, weight_variance: float, pad: str, width: int, depth: int) -> Recipe:
    return Recipe(
        "retained",
        dict(
            kind="conv",
            activation=activation,
            weight_variance=weight_variance,
            padding=pad,
            size=4,
            kernel=3,
            width=width,
            depth=depth,
        ),
        dict(size=4, kernel=3, depth=depth, padding_mode=pad),
    )


BEYOND: tuple[Row, ...] = (
    *exact_rows(
        "orthogonal, linear",
        "every singular value 1",
        SAXE,
        _orthogonal_linear,
        dict(activation="linear", init="orthogonal", width=32, depth=20),
        dict(width=32),
    ),
    *exact_rows(
        "orthogonal, ReLU",
        "2 Beta(k/2, (N - k)/2), k ~ Binomial(N, 1/2)",
        SAXE,
        _orthogonal_relu,
        dict(
            activation="relu",
            init="orthogonal",
            weight_variance=2.0,
            distribution="orthogonal",
            width=32,
            depth=20,
        ),
        dict(width=32),
    ),
    Row(
        "orthogonal, ReLU: second moment",
        "E R²/(E R)² = 1 + 3/(N + 2)",
        SAXE,
        EXACT,
        spectra.orthogonal_relu_ratio,
        (
            Recipe(
                "second_moment",
                dict(activation="relu", weight_variance=2.0, distribution="orthogonal", width=32, depth=20),
                dict(width=32),
            ),
        ),
    ),
    Row(
        "Gaussian linear spectrum",
        "variance of the squared singular values: L, or at width N by a recursion",
        spectra.PENNINGTON,
        EXACT,
        _spectrum_variance,
        (
            Recipe(
                "spectrum",
                dict(activation="linear", weight_variance=1.0, width=32, depth=6),
                dict(depth=5, width=32),
            ),
        ),
    ),
    Row(
        "largest singular value",
        "σ_max = √((L+1)^(L+1)/L^L)",
        spectra.PENNINGTON,
        LIMIT,
        _largest,
        (
            Recipe(
                "jacobian", dict(activation="linear", weight_variance=1.0, width=128, depth=4), dict(depth=3)
            ),
        ),
    ),
    Row(
        "Jacobian's norm",
        "‖∏J‖ <= ∏ sup|φ'| σ_max(W_l); sigmoid (‖W‖/4)^L",
        PASCANU,
        BOUND,
        spectra.jacobian_bound,
        (
            Recipe(
                "jacobian",
                dict(activation="sigmoid", init="torch", width=32, depth=6),
                dict(activation="sigmoid", norms=(1.0,) * 5),
            ),
        ),
    ),
    Row(
        "zero-padded convolution",
        "(1ᵀT^L 1/m)^d, T banded with entries 1/k; circular padding 1",
        _BORDERS,
        EXACT,
        _retained,
        (_conv("linear", 1.0, "zeros", 8, 5), _conv("linear", 1.0, "circular", 8, 5)),
    ),
    Row(
        "zero-padded convolution, ReLU",
        "(1ᵀT^L 1/m)^d, T banded with entries 1/k; circular padding 1",
        _BORDERS,
        LIMIT,
        _retained,
        (_conv("relu", 2.0, "zeros", 16, 3),),
    ),
    Row(
        "Adam's largest step",
        "(1-β₁)/(1-β₁^t) √((1-β₂^t)/(1-β₂)) √Σ_{j<t}(β₁²/β₂)^j",
        steps.KINGMA_BA,
        BOUND,
        steps.adam_largest_step,
        tuple(Recipe("step", {}, dict(beta1=0.9, beta2=0.999, step=t)) for t in (1, 10, 100)),
    ),
    Row(
        "clipping by the global norm",
        "every layer times min(1, c/‖g‖): the ratio of two layers stays",
        PASCANU,
        EXACT,
        _clipping,
        (Recipe("clip", {}, dict(first=1e-6, last=1e3, largest=1.0, total=1e3)),),
    ),
)
