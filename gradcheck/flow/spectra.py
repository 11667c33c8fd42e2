"""Singular values of deep random networks' Jacobians, and bounds that hold for every network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from gradcheck.errors import UsageError
from gradcheck.flow.activations import Activation, get_activation

PENNINGTON = "Pennington, Schoenholz & Ganguli, arXiv:1711.04735, 2017"


@dataclass(frozen=True)
class Spectrum:
    """Squared singular values of a product: mean and variance over the spectrum, and the largest.

    At a finite width the largest one is not known (NaN). `mean` and `variance` are E tr M/N and
    E tr M²/N - (E tr M/N)², M = J Jᵀ.
    """

    mean: float
    variance: float
    largest: float


def gaussian_spectrum(depth: int, width: int | None = None, weight_variance: float = 1.0) -> Spectrum:
    """Return the spectrum of a product of `depth` square Gaussian matrices, σ_w² = width · Var w.

    Wide: mean σ_w^(2L), variance L σ_w^(4L), largest σ_w^(2L) (L+1)^(L+1)/L^L. At width N the moments follow
    E tr M'² = (1 + 1/N) tr M² + (tr M)²/N and E (tr M')² = (tr M)² + (2/N) tr M² for M' = W M Wᵀ.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise UsageError(f"depth: expected a whole number of at least 1, got {depth!r}")
    scale = weight_variance**depth
    if width is None:
        largest = math.exp((depth + 1) * math.log(depth + 1) - depth * math.log(depth))
        return Spectrum(scale, depth * scale**2, largest * scale)
    # Per N: the trace of the square over N, and the square of the trace over N².
    square, traces = 1.0, 1.0
    for _ in range(depth):
        square, traces = (1 + 1 / width) * square + traces, traces + 2 * square / width**2
    return Spectrum(scale, (square - 1) * scale**2, math.nan)


def orthogonal_relu_ratio(width: int) -> float:
    """Return E R²/(E R)² = 1 + 3/(N + 2), R = ‖D Wᵀg‖²/‖g‖², W orthogonal, D a fair mask."""
    return 1 + 3 / (width + 2)


def largest_slope(activation: str | Activation | Any) -> float:
    """Return sup |φ'|: the largest on a grid, beside every kink and far out, refined around it."""
    known = get_activation(activation)
    near = [np.nextafter(k, side) for k in known.breaks for side in (-math.inf, math.inf)]
    x = np.concatenate([np.linspace(-64.0, 64.0, 2**15 + 1), [-1e8, 1e8], near])
    slopes = np.abs(known.derivative(x))
    place = float(x[np.argmax(slopes)])
    found = optimize.minimize_scalar(
        lambda z: -float(np.abs(known.derivative(np.array([z])))[0]),
        bounds=(place - 1 / 128, place + 1 / 128),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return max(float(np.max(slopes)), -float(found.fun))


def jacobian_bound(activation: str | Activation | Any, norms: Iterable[float]) -> float:
    """Return ∏ sup|φ'| σ_max(W_l), above ‖∂z_L/∂z_1‖ whatever the weights: sigmoid (‖W‖/4)^L.

    Source: Hochreiter, diploma thesis, 1991; Pascanu, Mikolov & Bengio, arXiv:1211.5063, 2013.
    """
    slope = largest_slope(activation)
    return math.prod(slope * norm for norm in norms)
