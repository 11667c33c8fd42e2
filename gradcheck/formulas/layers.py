"""The fully connected layer and the residual connection."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.formulas.parts import BIAS_FIRST, affine_bias_first, stable
from gradcheck.records import VALUE, Formula, Option


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
    variants=(stable(VALUE, BIAS_FIRST, affine_bias_first),),
    hazards=("sums of terms of both signs cancel",),
    article="F03",
)


def _residual(x: Any, branch: Any, *, scale: Any) -> Any:
    """The sum x + scale · branch of two arrays of one shape."""
    return x + scale * branch


def _residual_vjp(inputs: tuple[Any, Any], cotangent: Any, *, scale: Any) -> tuple[Any, Any]:
    """Gradients dx = dy, which passes undiminished; dbranch = scale · dy."""
    return cotangent * np.ones_like(inputs[0]), scale * cotangent


RESIDUAL = Formula(
    name="residual",
    title="Residual connection",
    equation="y = x + scale · branch",
    source="He, Zhang, Ren & Sun, CVPR 2016",
    value=_residual,
    vjp=_residual_vjp,
    inputs=("x", "branch"),
    axes=(("N", "n"), ("N", "n")),
    options=(Option("scale", 1.0, low=-4.0, high=4.0),),
    families=("plain", "moderate", "grid", "ties", "offset", "scaled", "subnormal"),
    hazards=("a branch that nearly undoes its input cancels",),
)

FORMULAS = (DENSE, RESIDUAL)
