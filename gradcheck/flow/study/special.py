"""Rows that are no ratio of gradients' norms: Jacobians, the variance map, Adam's step, clipping."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck import formulas
from gradcheck.flow.activations import get_activation
from gradcheck.flow.drawing import Drawn, source
from gradcheck.flow.network import Network
from gradcheck.flow.steps import adam_worst_gradients
from gradcheck.flow.study.readings import Reading, mean_of

Array = NDArray[Any]
# What the matrices of one chunk may take.
CHUNK_BYTES = 1 << 26
# The relative half-width of the differences by which the variance map is differentiated: their error is of
# the order of its square.
SPREAD = 1e-3


def jacobians(
    network: Network, count: int, seed: int, *, with_norms: bool = False
) -> Iterator[tuple[Array, Array]]:
    """Yield ∂z_L/∂z_1 (S, n, n), some networks at a time, and if asked the norms of W_2 … W_L (S, L - 1)."""
    origin = source(network, seed, whole=True, store=lambda x: x)
    activation = get_activation(network.activation)
    at_once = max(1, CHUNK_BYTES // (8 * network.width**2))
    for start in range(0, count, at_once):
        x = origin.normal("input", 0, min(at_once, count - start))
        slope = np.ones_like(x)
        product: Array = np.broadcast_to(np.eye(network.width), (len(x), network.width, network.width))
        norms = []
        for place in range(network.depth):
            maps = origin.maps("weight", place, x)
            assert isinstance(maps, Drawn)
            if place:
                norms.append(
                    np.linalg.norm(maps.weight, ord=2, axis=(1, 2)) if with_norms else slope[:, 0, 0]
                )
                product = (maps.weight * slope) @ product if place > 1 else maps.weight * slope
            z = maps.forward(x)
            slope, x = activation.derivative(z), activation.value(z)
        yield product, np.stack(norms, axis=1)


def spectrum_variance(network: Network, count: int, seed: int) -> Reading:
    """Return E tr M²/N - (E tr M/N)², M = J Jᵀ; the error is that of its linear part."""
    traces, squares = [], []
    for product, _ in jacobians(network, count, seed):
        m = product @ np.swapaxes(product, 1, 2)
        traces.append(np.trace(m, axis1=1, axis2=2) / network.width)
        squares.append(np.sum(np.square(m), axis=(1, 2)) / network.width)
    one, two = np.concatenate(traces), np.concatenate(squares)
    mean = float(np.mean(one))
    return Reading(float(np.mean(two)) - mean**2, mean_of(two - 2 * mean * one).error, count)


def largest_singular(network: Network, count: int, seed: int) -> Reading:
    """Return E of the largest singular value of ∂z_L/∂z_1."""
    found = []
    for product, _ in jacobians(network, count, seed):
        m = product @ np.swapaxes(product, 1, 2)
        found.append(np.sqrt(np.linalg.eigvalsh(m)[:, -1]))
    return mean_of(np.concatenate(found))


def bound_ratios(network: Network, count: int, seed: int, slope: float) -> Array:
    """Return ‖∂z_L/∂z_1‖ over ∏ sup|φ'| σ_max(W_l), network by network."""
    found = []
    for product, norms in jacobians(network, count, seed, with_norms=True):
        found.append(np.linalg.norm(product, ord=2, axis=(1, 2)) / np.prod(slope * norms, axis=1))
    return np.concatenate(found)


def map_slope(activation: str, weight_variance: float, q: float, samples: int, seed: int) -> Reading:
    """Return dq'/dq of the variance map, from differences of σ_w² φ²(√q z) over the same normal numbers z."""
    z = np.random.default_rng(seed).standard_normal((200, samples // 200))
    low, high = (math.sqrt(q * (1 + side * SPREAD)) for side in (-1, 1))
    value = get_activation(activation).value
    rise = np.mean(np.square(value(high * z)) - np.square(value(low * z)), axis=1)
    return mean_of(weight_variance * rise / (2 * SPREAD * q))


def adam_step(gradients: Array, beta1: float, beta2: float) -> float:
    """Return the size of the last step of Adam, in learning rates, for gradients (steps, …) and ε = 0."""
    zero = np.zeros_like(gradients[0])
    state = (zero,) * 4
    before = zero
    for t, gradient in enumerate(gradients, start=1):
        before = state[0]
        state = formulas.adam(before, gradient, *state[1:], t=t, lr=1.0, beta1=beta1, beta2=beta2, eps=0.0)
    return float(np.max(np.abs(state[0] - before)))


def worst_adam_step(beta1: float, beta2: float, step: int) -> float:
    """Return Adam's last step for the gradients that make it largest."""
    return adam_step(adam_worst_gradients(beta1, beta2, step)[:, None], beta1, beta2)


def clipped_ratio(first: float, last: float, largest: float, total: float) -> float:
    """Return by how much clipping by the global norm changes the ratio of two layers' norms."""
    rest = math.sqrt(max(0.0, total**2 - first**2 - last**2))
    clipped = formulas.clip_by_global_norm(
        np.array([first]), np.array([last]), np.array([rest]), max_norm=largest
    )
    return float(clipped[0][0] / clipped[1][0]) / (first / last)
