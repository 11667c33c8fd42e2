"""A few steps of training, written plainly: what SGD does where gradients vanish or explode."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck import formulas
from gradcheck.flow.drawing import Drawn, source
from gradcheck.flow.network import Network
from gradcheck.flow.study.plans import seed_of

Array = NDArray[Any]
WIDTH, SAMPLES, STEPS, RATE = 64, 16, 3, 0.1
DEPTHS = (2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)


def _drawn(weight_variance: float, depth: int, seed: int) -> tuple[list[Array], Array, Array]:
    """Return the weights of a ReLU network, inputs and targets, in float32."""
    network = Network("relu", depth, WIDTH, weight_variance=weight_variance)
    origin = source(network, seed_of(seed, 7), whole=True, store=lambda x: np.asarray(x, np.float32))
    x = np.zeros((1, SAMPLES, WIDTH), np.float32)
    weights = []
    for place in range(depth):
        maps = origin.maps("weight", place, x)
        assert isinstance(maps, Drawn)
        weights.append(maps.weight[0])
    rng = np.random.default_rng(seed_of(seed, 8))
    inputs, targets = rng.standard_normal((2, SAMPLES, WIDTH)).astype(np.float32)
    return weights, inputs, targets


def loss_and_gradients(weights: list[Array], inputs: Array, targets: Array) -> tuple[float, list[Array]]:
    """Return the mean squared error of a ReLU network with a linear output, and its gradient per matrix."""
    layers, x = [inputs], inputs
    for place, weight in enumerate(weights):
        z = x @ weight.T
        x = z if place == len(weights) - 1 else np.maximum(z, 0)
        layers.append(x)
    error = x - targets
    g = 2 * error / error.size
    found = []
    for place in range(len(weights) - 1, -1, -1):
        found.append(g.T @ layers[place])
        g = (g @ weights[place]) * (layers[place] > 0)
    return float(np.mean(np.square(error))), found[::-1]


def sgd_ratio(seed: int, lr: float = RATE) -> float:
    """Return the first layer's step over its gradient and the rate, by norms, where gradients vanish."""
    weights, inputs, targets = _drawn(1 / 3, 12, seed)
    _, gradients = loss_and_gradients(weights, inputs, targets)
    weight, gradient = weights[0].astype(np.float64), gradients[0].astype(np.float64)
    zero = np.zeros_like(weight)
    moved = formulas.sgd(zero, gradient, zero, lr=lr)[0]
    return float(np.linalg.norm(moved) / np.linalg.norm(gradient)) / lr


def first_bad_depth(weight_variance: float, seed: int) -> float:
    """Return the least depth at which some of the first losses of training is no number; inf for none."""
    for depth in DEPTHS:
        weights, inputs, targets = _drawn(weight_variance, depth, seed)
        with np.errstate(all="ignore"):
            for _ in range(STEPS):
                loss, gradients = loss_and_gradients(weights, inputs, targets)
                if not math.isfinite(loss):
                    return float(depth)
                weights = [w - np.float32(RATE) * g for w, g in zip(weights, gradients, strict=True)]
    return math.inf
