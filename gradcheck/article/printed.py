"""Formulas exactly as the article prints them, as texts; whether they are right is measured, not assumed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from gradcheck.arithmetic.dual import Dual


def printed_preactivation(x: Any, w: Any, b: Any) -> Any:
    """Value z = w1 x1 + w2 x2 + ... + wN x(N-1) + b: the last weight meets the last input but one.

    Shapes (N,), (N,), ().
    """
    return np.sum(w[:-1] * x[:-1]) + w[-1] * x[-2] + b


def printed_neuron_slope(x: Any, w: Any, b: Any) -> Any:
    """df/dz = Σ σ'(z) wᵢxᵢ at z = Σ wᵢxᵢ + b. Shapes (N,)."""
    z = np.sum(w * x) + b
    slope = special.expit(z) * special.expit(-z)
    return np.sum(slope * w * x)


def printed_relu(x: Any) -> Any:
    """Value g = max(0, x)."""
    return np.maximum(0, x)


def printed_sigmoid(x: Any) -> Any:
    """Value y = 1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def printed_sigmoid_slope(x: Any) -> Any:
    """Value y (1 - y) with y = 1 / (1 + e^-x): the derivative rebuilt from the printed value."""
    y = printed_sigmoid(x)
    return y * (1 - y)


def printed_leaky_relu(x: Any, alpha: Any) -> Any:
    """Value y = max(αx, max(0, x))."""
    return np.maximum(alpha * x, np.maximum(0, x))


def printed_sgd(weight: Any, gradient: Any, lr: Any) -> Any:
    """Value θ - η g: a step along the negative gradient, its length proportional to it."""
    return weight - lr * gradient


def printed_weight_decay(x: Any, y: Any, w1: Any, w2: Any) -> Any:
    """Value L_w = Σ_l ‖∂J/∂W^l‖₂², the "weight decay" of two layers, J = mean (W₂ tanh(W₁x) - y)².

    Shapes x (N, n), y (N, m), w1 (h, n), w2 (m, h). The gradients are those of the chain rule, by hand.
    """
    hidden = np.tanh(np.matmul(x, np.swapaxes(w1, 0, 1)))
    error = (np.matmul(hidden, np.swapaxes(w2, 0, 1)) - y) * 2 / math.prod(y.shape)
    of_w2 = np.matmul(np.swapaxes(error, 0, 1), hidden)
    of_w1 = np.matmul(np.swapaxes(np.matmul(error, w2) * (1 - hidden * hidden), 0, 1), x)
    return np.sum(of_w1 * of_w1) + np.sum(of_w2 * of_w2)


def printed_weight_decay_slope(x: Any, y: Any, w1: Any, w2: Any) -> tuple[Any, Any]:
    """The gradients of L_w in W₁ and W₂, element by element, by unit tangents."""
    return _gradient(lambda w: printed_weight_decay(x, y, w, w2), w1), _gradient(
        lambda w: printed_weight_decay(x, y, w1, w), w2
    )


def printed_regularizer(w: Any, decay: Any) -> Any:
    """Value λ Σ_l Σ_i Σ_j |∂w^l_ij / ∂w^(k)_ij|, differentiated as it stands, for the layer k = l.

    The weights of any other layer do not depend on those of layer k, so every other term is 0.
    """
    own = Dual(w, np.ones_like(w))
    return decay * np.sum(np.abs(own.tangent))


def printed_regularizer_slope(w: Any, decay: Any) -> Any:
    """The gradient of the regularisation term in the weights, element by element, by unit tangents."""
    return _gradient(lambda weights: printed_regularizer(weights, decay), w)


def _gradient(text: Any, w: Any) -> Any:
    """Return the gradient of a scalar text: one unit tangent after another."""
    slopes = []
    for index in np.ndindex(w.shape):
        seed = np.zeros(w.shape)
        seed[index] = 1
        result = text(Dual(w, w * 0 + seed))
        tangent = getattr(result, "tangent", None)
        slopes.append(np.zeros_like(w[index]) if tangent is None else tangent)
    return np.reshape(np.stack(slopes), w.shape)


def printed_batch_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
    """Value γ (x - μ_B) / √(σ²_B + ε) + β over the batch, x (N, C)."""
    mean = np.mean(x, axis=0, keepdims=True)
    variance = np.mean(np.square(x - mean), axis=0, keepdims=True)
    return weight * ((x - mean) / np.sqrt(variance + eps)) + bias


def printed_clip(g: Any, threshold: Any) -> Any:
    """Value clip(G, -c, c)."""
    return np.minimum(np.maximum(g, -threshold), threshold)


def printed_cut(g: Any, threshold: Any) -> Any:
    """Value min(G, c): "if the gradient is greater than the threshold, it is cut to the threshold"."""
    return np.minimum(g, threshold)


def printed_moments(gradient: Any, mean: Any, square: Any, beta1: Any, beta2: Any) -> tuple[Any, Any]:
    """Values m = β₁ m + (1 - β₁) G and v = β₂ v + (1 - β₂) G²."""
    return beta1 * mean + (1 - beta1) * gradient, beta2 * square + (1 - beta2) * np.square(gradient)


def printed_adam_step(
    weight: Any, gradient: Any, mean: Any, square: Any, lr: Any, beta1: Any, beta2: Any, rho: Any, eps: Any
) -> Any:
    """Value θ - η / (√(v/ρ) + ε) · m with the printed moments."""
    m, v = printed_moments(gradient, mean, square, beta1, beta2)
    return weight - lr / (np.sqrt(v / rho) + eps) * m
