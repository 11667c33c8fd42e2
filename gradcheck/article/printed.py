"""Formulas exactly as the article prints them, as texts; whether they are right is measured, not assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special


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
