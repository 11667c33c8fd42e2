"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.records import Formula


def _dense(x: Any, weight: Any, bias: Any) -> Any:
    """Y = XWᵀ + b for X (N, n), W (m, n), b (m,)."""
    return np.matmul(x, np.swapaxes(weight, 0, 1)) + bias


def _dense_vjp(inputs: tuple[Any, Any, Any], cotangent: Any) -> tuple[Any, Any, Any]:
    """Gradients dX = dY W; dW = dYᵀ X; db = Σ dY over the batch."""
    x, weight, _ = inputs
    return np.matmul(cotangent, weight), np.matmul(np.swapaxes(cotangent, 0, 1), x), np.sum(cotangent, axis=0)


DENSE = Formula(
    name="dense",
    title="Fully connected layer",
    equation="Y = XWᵀ + b",
    source="Rumelhart, Hinton & Williams, Nature 323, 1986",
    value=_dense,
    vjp=_dense_vjp,
    inputs=("x", "weight", "bias"),
    axes=(("N", "n"), ("m", "n"), ("m",)),
    hazards=("sums of terms of both signs cancel",),
    article="F03",
)

FORMULAS = (DENSE,)
