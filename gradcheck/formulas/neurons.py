"""One neuron: the pre-activation z = Σ wᵢxᵢ + b, its sigmoid, and every partial derivative of it.

Shapes: x (N, n) for a batch or (n,) for one sample, w (n,), b (). Source: Rumelhart, Hinton & Williams,
Learning representations by back-propagating errors, Nature 323, 1986.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.formulas.parts import (
    BIAS_FIRST,
    accepted,
    affine_bias_first,
    logistic,
    logistic_slope,
    printed_logistic,
    stable,
    unstable,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula


def _preactivation(x: Any, w: Any, b: Any) -> Any:
    """Value z = Σ wᵢxᵢ + b."""
    return np.matmul(x, w) + b


def _preactivation_vjp(inputs: tuple[Any, Any, Any], cotangent: Any) -> tuple[Any, Any, Any]:
    """Gradients dx = c w; dw = Σ c x and db = Σ c over the batch."""
    x, w, _ = inputs
    if x.ndim == 1:
        return cotangent * w, cotangent * x, cotangent
    column = np.expand_dims(cotangent, -1)
    return column * w, np.sum(column * x, axis=0), np.sum(cotangent, axis=0)


PREACTIVATION = Formula(
    name="preactivation",
    title="Pre-activation of a neuron",
    equation="z = Σ wᵢxᵢ + b",
    source="Rumelhart, Hinton & Williams, Nature 323, 1986",
    value=_preactivation,
    vjp=_preactivation_vjp,
    inputs=("x", "w", "b"),
    axes=(("N", "n"), ("n",), ()),
    variants=(stable(VALUE, BIAS_FIRST, affine_bias_first),),
    hazards=("a sum of terms of both signs cancels",),
    article="F01",
)


def _neuron(x: Any, w: Any, b: Any) -> Any:
    """Value f = σ(z), z = Σ wᵢxᵢ + b."""
    return logistic(_preactivation(x, w, b))


def _neuron_vjp(inputs: tuple[Any, Any, Any], cotangent: Any) -> tuple[Any, Any, Any]:
    """The vjp of z at the cotangent c σ'(z)."""
    return _preactivation_vjp(inputs, cotangent * logistic_slope(_preactivation(*inputs)))


def _neuron_bias_first(x: Any, w: Any, b: Any) -> Any:
    return logistic(affine_bias_first(x, w, b))


def _neuron_vjp_bias_first(inputs: tuple[Any, Any, Any], cotangent: Any) -> tuple[Any, Any, Any]:
    return _preactivation_vjp(inputs, cotangent * logistic_slope(affine_bias_first(*inputs)))


def _neuron_printed(x: Any, w: Any, b: Any) -> Any:
    return printed_logistic(_preactivation(x, w, b))


def _neuron_vjp_of_result(inputs: tuple[Any, Any, Any], cotangent: Any) -> tuple[Any, Any, Any]:
    y = _neuron_printed(*inputs)
    return _preactivation_vjp(inputs, cotangent * (1 - y) * y)


def _neuron_second_of_result(inputs: Any, cotangent: Any, directions: Any) -> tuple[Any, Any, Any]:
    """The gradient of <directions, vjp>, from y: g = c y(1 - y), h = c y(1 - y)(1 - 2y) dz."""
    (x, w, b), (dx, dw, db) = inputs, directions
    y = _neuron_printed(x, w, b)
    g = cotangent * (1 - y) * y
    h = (_preactivation(dx, w, db) + np.matmul(x, dw)) * cotangent * (1 - 2 * y) * (1 - y) * y
    along_x, along_w, along_b = _preactivation_vjp((x, w, b), h)
    cross_x, cross_w, _ = _preactivation_vjp((dx, dw, db), g)
    return along_x + cross_x, along_w + cross_w, along_b


NEURON = Formula(
    name="neuron",
    title="A sigmoid neuron",
    equation="f = σ(Σ wᵢxᵢ + b)",
    source="Rumelhart, Hinton & Williams, Nature 323, 1986",
    value=_neuron,
    vjp=_neuron_vjp,
    inputs=("x", "w", "b"),
    axes=(("N", "n"), ("n",), ()),
    variants=(
        stable(VALUE, BIAS_FIRST, _neuron_bias_first),
        stable(DERIVATIVE, BIAS_FIRST, _neuron_vjp_bias_first),
        accepted(VALUE, "1/(1 + e^-z)", _neuron_printed),
        unstable(DERIVATIVE, "y(1 - y) from the result", _neuron_vjp_of_result),
        unstable(SECOND, "y(1 - y)(1 - 2y) from the result", _neuron_second_of_result),
    ),
    textbook=_neuron_printed,
    hazards=("y(1 - y) is 0 once y rounds to 1, where σ'(z) is a normal number",),
    article="F02",
)


def slope_in_preactivation(x: Any, w: Any, b: Any) -> Any:
    """df/dz = σ'(z)."""
    return logistic_slope(_preactivation(x, w, b))


def slope_in_input(x: Any, w: Any, b: Any) -> Any:
    """∂f/∂xᵢ = σ'(z) wᵢ, for one sample."""
    return slope_in_preactivation(x, w, b) * w


def slope_in_weight(x: Any, w: Any, b: Any) -> Any:
    """∂f/∂wᵢ = σ'(z) xᵢ, for one sample."""
    return slope_in_preactivation(x, w, b) * x


def slope_in_bias(x: Any, w: Any, b: Any) -> Any:
    """∂f/∂b = σ'(z)."""
    return slope_in_preactivation(x, w, b)


def slope_along_input(x: Any, w: Any, b: Any) -> Any:
    """The derivative of f in x along x itself, Σ σ'(z) wᵢxᵢ; the derivative in w along w is the same sum."""
    return slope_in_preactivation(x, w, b) * np.matmul(x, w)


def slope_along_weight(x: Any, w: Any, b: Any) -> Any:
    """The derivative of f in x along w, Σ σ'(z) wᵢ²."""
    return slope_in_preactivation(x, w, b) * np.matmul(w, w)


FORMULAS = (PREACTIVATION, NEURON)
