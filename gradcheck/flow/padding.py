"""What a convolution loses at the borders of its maps.

A k × … × k kernel of variance σ_w²/(C k^d) sends back to a place p the mean over the kernel's offsets o of
‖g(p - o)‖², times σ_w² E φ'²; zero padding drops the offsets that lead out of the map. On a line of m
places that is a banded matrix T with entries 1/k, so that of L layers

    E‖g_0‖²/E‖g_L‖² = (σ_w² E φ'²)^L · (1ᵀ T^L 1/m)^d.

Circular padding makes every column of T sum to 1: it loses nothing. For k = 3 the eigenvalues of T are
(1 + 2 cos(jπ/(m + 1)))/3, j = 1 … m, and the largest one is the factor of deep layers. The law is exact
for linear networks; where φ is linear on both sides of 0 it is one of many channels, otherwise the
variance of pre-activations is smaller at the borders as well, and χ differs from place to place.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError
from gradcheck.flow.activations import Activation, get_activation
from gradcheck.flow.moments import moments
from gradcheck.flow.network import Network
from gradcheck.flow.prediction import Prediction

Float64Array = NDArray[np.float64]


def transfer(size: int, kernel: int, padding: str = "zeros") -> Float64Array:
    """Return T (size, size) of one axis: the share of ‖g‖² at place j that a layer sends back to place i."""
    for word, value in (("size", size), ("kernel", kernel)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{word}: expected a whole number of at least 1, got {value!r}")
    if kernel % 2 == 0 or (kernel > size and padding == "circular"):
        raise UsageError(f"kernel: expected an odd number, at most the size if circular, got {kernel!r}")
    if padding not in ("zeros", "circular"):
        raise UsageError(f"padding: expected 'zeros' or 'circular', got {padding!r}")
    places = np.arange(size)
    matrix = np.zeros((size, size))
    for offset in range(-(kernel // 2), kernel // 2 + 1):
        to = places + offset
        kept = (to >= 0) & (to < size) if padding == "zeros" else np.ones(size, dtype=bool)
        np.add.at(matrix, (to[kept] % size, places[kept]), 1.0 / kernel)
    return matrix


def retained(size: int, kernel: int, depth: int, padding: str = "zeros", axes: int = 2) -> Float64Array:
    """Return the shares (1ᵀ T^L 1/m)^d of ‖g‖² that L = 0 … depth layers keep, from an even cotangent."""
    matrix, state = transfer(size, kernel, padding), np.ones(size)
    shares = [1.0]
    for _ in range(depth):
        state = matrix @ state
        shares.append(float(np.mean(state)))
    return np.asarray(np.array(shares) ** axes)


def deep_retained(size: int, kernel: int, axes: int = 2) -> float:
    """Return the share that every further layer keeps, deep inside: T's largest eigenvalue to the d."""
    return float(np.max(np.linalg.eigvalsh(transfer(size, kernel)))) ** axes


def varying(
    activation: Activation,
    weight_variance: float,
    bias_variance: float,
    keep: float,
    size: int,
    kernel: int,
    depth: int,
) -> tuple[Float64Array, Float64Array]:
    """Return q (depth, size, size) and the factors of the layers 1 … depth - 1, for any φ with zero padding.

    q_{l+1} = σ_w² T E φ²(q_l)/p Tᵀ + σ_b² place by place, from inputs of mean square 1; back through layer l
    the map of ‖g‖² is multiplied by σ_w² E φ'²(q_l)/p after T.
    """
    matrix = transfer(size, kernel)
    w = weight_variance
    q = [w * matrix @ np.ones((size, size)) @ matrix.T + bias_variance]
    slopes = []
    for _ in range(depth):
        different, where = np.unique(q[-1], return_inverse=True)
        at = moments(activation, np.clip(different, 1e-24, 1e24))
        slopes.append((w / keep * at.slope_square[where]).reshape(size, size))
        square = at.square[where].reshape(size, size)
        q.append(w / keep * matrix @ square @ matrix.T + bias_variance)
    g, factors = np.ones((size, size)), []
    for slope in reversed(slopes[: depth - 1]):
        back = slope * (matrix @ g @ matrix.T)
        factors.append(float(np.sum(back) / np.sum(g)))
        g = back / np.max(back)
    return np.array(q[:depth]), np.array(factors[::-1])


def padded(found: Prediction, network: Network) -> Prediction:
    """Return the prediction of a convolutional network from that of a dense one: the mean over its depth."""
    shared = "many channels; the places of a map share their weights, and of the law only means are known"
    said = (*found.assumptions, shared)
    spread = replace(
        found,
        assumptions=said,
        log_exact=False,
        log_variance=math.nan,
        dead=0.0,
        width=network.width,
    )
    if network.padding == "circular":
        return replace(spread, exact=found.exact and _is_linear(get_activation(network.activation)))
    if network.norm is not None or network.residual is not None:
        raise UsageError("padding: the loss at the borders is known without norm and residual; take circular")
    depth = network.depth
    if found.outcome in ("stays", "grows", "vanishes") and found.exact:
        shares = retained(network.size, network.kernel, depth - 1)
        path = found.factor * shares[1:] / shares[:-1]
        path = path[::-1]
    else:
        path = varying(
            get_activation(network.activation), network.sigma_w2, network.sigma_b2, network.keep,
            network.size, network.kernel, depth,
        )[1]  # fmt: skip
    log_mean = float(np.mean(np.log(path)))
    return replace(
        spread,
        factor=math.exp(log_mean),
        log_mean=log_mean,
        exact=False,
        path=tuple(map(float, path)),
        assumptions=(*said, f"the geometric mean over {depth} layers with zero padding"),
        source="transfer operator of the kernel's offsets (module gradcheck.flow.padding)",
    )


def _is_linear(activation: Activation) -> bool:
    return activation.slopes is not None and activation.slopes[0] == activation.slopes[1]
