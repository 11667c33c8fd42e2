"""Dropout, inverted: what is kept is scaled up in training, so that evaluation changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.records import Formula, Option


def _dropout(x: Any, mask: Any, *, p: Any) -> Any:
    """The product x · mask / (1 - p), for a mask of zeros and ones of the shape of x; zeros for p = 1.

    The mask is an input: whoever draws it keeps each element with probability 1 - p.
    """
    return x * mask * _scale(p)


def _dropout_vjp(inputs: tuple[Any, Any], cotangent: Any, *, p: Any) -> tuple[Any, None]:
    """Gradient dx = dy · mask / (1 - p), by the mask of the forward pass."""
    x, mask = inputs
    return cotangent * mask * _scale(p) * np.ones_like(x), None


def _scale(p: Any) -> Any:
    return 0 * p if p == 1 else 1 / (1 - p)


DROPOUT = Formula(
    name="dropout",
    title="Dropout",
    equation="y = x · mask / (1 - p)",
    source="Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, JMLR 15, 2014",
    value=_dropout,
    vjp=_dropout_vjp,
    inputs=("x", "mask"),
    axes=(("N", "n"), ("N", "n")),
    options=(Option("p", 0.5, low=0.0, high=1.0),),
    kinds=("real", "mask"),
    constants=("mask",),
    families=("plain", "moderate", "grid", "offset", "scaled", "subnormal"),
    hazards=("the backward pass must use the mask of the forward pass", "no scale in evaluation"),
)

FORMULAS = (DROPOUT,)
