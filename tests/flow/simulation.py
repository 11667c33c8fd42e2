"""Random networks by plain code: whole matrices, explicit derivatives, one backward pass.

It shares nothing with the theory but the activations' values and derivatives, and nothing with the code
that measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.activations import Activation, get_activation

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Net:
    """What to simulate; the names are those of `Network`."""

    activation: str | Activation = "relu"
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    width: int = 32
    depth: int = 20
    law: str = "gaussian"
    norm: str | None = None
    batch: int = 1
    keep: float = 1.0
    residual: float | None = None


def matrices(rng: np.random.Generator, net: Net, count: int) -> Array:
    n = net.width
    if net.law == "uniform":
        return rng.uniform(-1, 1, (count, n, n)) * math.sqrt(3 * net.weight_variance / n)
    normal = rng.standard_normal((count, n, n))
    if net.law == "gaussian":
        return normal * math.sqrt(net.weight_variance / n)
    q, r = np.linalg.qr(normal)
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :] * math.sqrt(net.weight_variance)


def normalise(net: Net, z: Array) -> tuple[Array, Array]:
    """Return y = norm(z) and what is needed to go back: z (S, B, n)."""
    if net.norm is None:
        return z, z
    axis = 1 if net.norm == "batch" else 2
    centred = z if net.norm == "rms" else z - z.mean(axis=axis, keepdims=True)
    deviation = np.sqrt(np.mean(centred**2, axis=axis, keepdims=True))
    return centred / deviation, deviation


def normalise_back(net: Net, y: Array, deviation: Array, g: Array) -> Array:
    if net.norm is None:
        return g
    axis = 1 if net.norm == "batch" else 2
    back = g - y * np.mean(y * g, axis=axis, keepdims=True)
    if net.norm != "rms":
        back = back - g.mean(axis=axis, keepdims=True)
    return back / deviation


def simulate(net: Net, count: int, seed: int) -> tuple[Array, Array]:
    """Return ln ‖g_l‖² along pre-activations (or the stream), and their mean square; (layers, networks)."""
    rng = np.random.default_rng(seed)
    act = get_activation(net.activation)
    x = rng.standard_normal((count, net.batch, net.width))
    layers, squares = [], []
    for _ in range(net.depth):
        weight = matrices(rng, net, count)
        bias = rng.standard_normal((count, 1, net.width)) * math.sqrt(net.bias_variance)
        y, deviation = normalise(net, x @ weight.swapaxes(1, 2) + bias)
        mask = (rng.random(y.shape) < net.keep) / net.keep
        out = act.value(y) * mask
        slope = act.derivative(y) * mask
        second = matrices(rng, net, count) if net.residual is not None else None
        layers.append((weight, second, y, deviation, slope))
        x = out if second is None else x + net.residual * (out @ second.swapaxes(1, 2))
        squares.append(np.mean(y**2, axis=(1, 2)))
    g, logs, scale = rng.standard_normal(x.shape), [], np.zeros(count)
    for weight, second, y, deviation, slope in reversed(layers):
        if second is not None:
            along = normalise_back(net, y, deviation, (net.residual * (g @ second)) * slope)
            g = g + along @ weight
            logs.append(scale + log_square(g))
        else:
            g = g * slope
            logs.append(scale + log_square(g))
            g = normalise_back(net, y, deviation, g) @ weight
        size = np.max(np.abs(g), axis=(1, 2), keepdims=True)
        size = np.where(size > 0, size, 1.0)
        g, scale = g / size, scale + 2 * np.log(size[:, 0, 0])
    return np.array(logs[::-1]), np.array(squares)


def log_square(g: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(np.sum(g**2, axis=tuple(range(1, g.ndim))))


@dataclass(frozen=True)
class Seen:
    """An estimate and its standard error."""

    value: float
    error: float

    def z(self, truth: float) -> float:
        return (self.value - truth) / self.error


def steps_of(net: Net, count: int, seed: int, first: int, last: int) -> Array:
    """Return ln ‖g_l‖²/‖g_{l+1}‖² for l = first … last - 1 (from 0), (layers, networks)."""
    logs = simulate(net, count, seed)[0]
    with np.errstate(invalid="ignore"):
        return logs[first:last] - logs[first + 1 : last + 1]


def factor_seen(steps: Array) -> Seen:
    """The mean ratio; networks are independent, layers of one network need not be."""
    per_net = np.mean(np.exp(steps), axis=0)
    return Seen(float(np.mean(per_net)), float(np.std(per_net, ddof=1)) / math.sqrt(len(per_net)))


def log_mean_seen(steps: Array) -> Seen:
    per_net = np.mean(steps, axis=0)
    return Seen(float(np.mean(per_net)), float(np.std(per_net, ddof=1)) / math.sqrt(len(per_net)))


def log_variance_seen(steps: Array) -> Seen:
    """The variance of the sum over layers, per layer: what a network gains in spread."""
    total = np.sum(steps, axis=0)
    centred = np.square(total - np.mean(total)) * len(total) / (len(total) - 1)
    layers = len(steps)
    return Seen(float(np.mean(centred)) / layers, float(np.std(centred)) / math.sqrt(len(total)) / layers)


def extrapolated(narrow: Seen, wide: Seen) -> Seen:
    """Two widths N and 2N to the limit, for an error of a/N: 2 wide - narrow."""
    return Seen(2 * wide.value - narrow.value, math.hypot(2 * wide.error, narrow.error))
