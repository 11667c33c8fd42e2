"""Normalisation with given statistics, the statistics themselves, and the form without a mean.

Batch normalisation in evaluation uses running statistics; in training it updates them. Shapes: x (N, C),
(N, C, L) or (N, C, H, W), all others (C); the root-mean-square form takes x of any shape and a weight of the
shape of its trailing axes. Sources: Ioffe & Szegedy, Batch Normalization, ICML 2015; Zhang & Sennrich, Root
Mean Square Layer Normalization, NeurIPS 2019.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.arithmetic.affine import affine as scaled_and_shifted
from gradcheck.formulas.centred import (
    Inverse,
    bare_inverse_deviation,
    by_channel,
    inverse_deviation,
    one_pass,
)
from gradcheck.formulas.normalization import (
    AFFINE,
    AXES,
    EPS,
    EPSILONS,
    FAMILIES,
    batch_shape,
    layer_shapes,
    layer_view,
)
from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.records import DERIVATIVE, VALUE, Arrangement, Choose, Formula, Option, Text


def _others(x: Any) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _eval(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *, eps: Any, affine: bool) -> Any:
    """Value y = γ(x - μ)/√(σ² + ε) + β."""
    w, b, m, v = (np.reshape(array, by_channel(x.shape)) for array in (weight, bias, mean, variance))
    y = (x - m) / np.sqrt(v + eps)
    return y * w + b if affine else y


def _eval_vjp(inputs: tuple[Any, ...], cotangent: Any, *, eps: Any, affine: bool) -> tuple[Any, ...]:
    """Gradients dx = cγ/√(σ² + ε), dγ = Σ c y, dβ = Σ c; μ and σ² are constants."""
    x, weight, bias, mean, variance = inputs
    w, m, v = (np.reshape(array, by_channel(x.shape)) for array in (weight, mean, variance))
    r = 1 / np.sqrt(v + eps)
    if not affine:
        return cotangent * r, np.zeros_like(weight), np.zeros_like(bias), None, None
    slope = np.sum(cotangent * ((x - m) * r), axis=_others(x))
    return cotangent * (r * w), slope, np.sum(cotangent, axis=_others(x)), None, None


def _eval_vjp_scaled_last(
    inputs: tuple[Any, ...], cotangent: Any, *, eps: Any, affine: bool
) -> tuple[Any, ...]:
    """Gradients with dγ = (Σ c(x - μ))/√(σ² + ε): one factor per sum."""
    x, weight, bias, mean, variance = inputs
    w, m, v = (np.reshape(array, by_channel(x.shape)) for array in (weight, mean, variance))
    r = 1 / np.sqrt(v + eps)
    if not affine:
        return cotangent * r, np.zeros_like(weight), np.zeros_like(bias), None, None
    slope = np.sum(cotangent * (x - m), axis=_others(x)) * np.reshape(r, mean.shape)
    return cotangent * (r * w), slope, np.sum(cotangent, axis=_others(x)), None, None


def _eval_affine(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *, eps: Any, affine: bool) -> Any:
    w, b, m, v = (np.reshape(array, by_channel(x.shape)) for array in (weight, bias, mean, variance))
    r = 1 / np.sqrt(v + eps)
    return scaled_and_shifted(x, m, r * w, b) if affine else scaled_and_shifted(x, m, r)


def _arrange_eval(choose: Choose) -> Arrangement:
    shape = batch_shape(choose)
    options = {"affine": choose.choice((True, False)), "eps": choose.choice(EPSILONS)}
    return Arrangement((shape, *((shape[1],) for _ in range(4))), options)


BATCH_NORM_EVAL = Formula(
    name="batch_norm_eval",
    title="Batch normalisation, evaluation",
    equation="γ(x - μ)/√(σ² + ε) + β, μ and σ² given",
    source="Ioffe & Szegedy, Batch Normalization, ICML 2015",
    value=_eval,
    vjp=_eval_vjp,
    inputs=("x", "weight", "bias", "mean", "variance"),
    kinds=("real", "parameter", "parameter", "parameter", "positive"),
    constants=("mean", "variance"),
    options=(EPS, AFFINE),
    arrange=_arrange_eval,
    families=FAMILIES,
    variants=(
        stable(VALUE, "x·a + b", _eval_affine),
        stable(DERIVATIVE, "Σ c(x - μ), then 1/√(σ² + ε)", _eval_vjp_scaled_last),
    ),
    hazards=("σ² = 0 with ε = 0 divides by zero",),
    article="F12",
)


def _share(momentum: Any, cumulative: bool, count: Any, momentum_of: str) -> Any:
    """The weight of the batch: 1/(count + 1) for the cumulative average, else as the convention says."""
    if cumulative:
        return 1 / (count + 1)
    return momentum if momentum_of == "batch" else 1 - momentum


def _unbiased(v: Any, x: Any) -> Any:
    """The estimate v n/(n - 1) from n elements; a single one says nothing, which counts as 0."""
    n = math.prod(x.shape[axis] for axis in _others(x))
    return v * n / max(n - 1, 1)


def _running(x: Any, mean: Any, variance: Any, **options: Any) -> tuple[Any, Any]:
    """Value μ' = (1 - p)μ + p m and σ²' = (1 - p)σ² + p v n/(n - 1).

    p is `momentum`, the weight of the batch; with `momentum_of` "running", as in Keras, Flax and TensorFlow,
    momentum weighs what was there before. `cumulative` averages over `count` batches before and this one.
    """
    p, axes = _share(**options), _others(x)
    unbiased = _unbiased(np.var(x, axis=axes), x)
    return (1 - p) * mean + p * np.mean(x, axis=axes), (1 - p) * variance + p * unbiased


def _running_moved(x: Any, mean: Any, variance: Any, **options: Any) -> tuple[Any, Any]:
    p, axes = _share(**options), _others(x)
    unbiased = _unbiased(np.var(x, axis=axes), x)
    return mean + p * (np.mean(x, axis=axes) - mean), variance + p * (unbiased - variance)


def _running_one_pass(x: Any, mean: Any, variance: Any, **options: Any) -> tuple[Any, Any]:
    p, axes = _share(**options), _others(x)
    m, v = one_pass(x, axes)
    unbiased = _unbiased(np.reshape(v, mean.shape), x)
    return (1 - p) * mean + p * np.reshape(m, mean.shape), (1 - p) * variance + p * unbiased


def _arrange_running(choose: Choose) -> Arrangement:
    shape = batch_shape(choose)
    options = {
        "momentum": choose.choice((0.1, 0.5, 0.01, 0.9, 0.0, 1.0)),
        "cumulative": choose.choice((False, False, True)),
        "count": choose.choice((0, 1, 2, 7, 100, 1000)),
        "momentum_of": choose.choice(("batch", "running")),
    }
    return Arrangement((shape, (shape[1],), (shape[1],)), options)


BATCH_NORM_RUNNING = Formula(
    name="batch_norm_running",
    title="Batch normalisation, running statistics",
    equation="μ' = (1 - p)μ + p m, σ²' = (1 - p)σ² + p v n/(n - 1)",
    source="Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 2",
    value=_running,
    inputs=("x", "mean", "variance"),
    outputs=("running mean", "running variance"),
    kinds=("real", "parameter", "positive"),
    options=(
        Option("momentum", 0.1, 0.0, 1.0),
        Option("cumulative", False, choices=(False, True), structural=True),
        Option("count", 0, 0, 2**53),
        Option("momentum_of", "batch", choices=("batch", "running"), structural=True),
    ),
    arrange=_arrange_running,
    families=FAMILIES,
    variants=(
        accepted(VALUE, "μ + p(m - μ)", _running_moved),
        unstable(VALUE, "E[x²] - E[x]²", _running_one_pass),
    ),
    hazards=("one element has no variance: n/(n - 1) is 1/0",),
    article="F12",
)


def _square_mean(x: Any, axes: tuple[int, ...]) -> Any:
    return np.mean(np.square(x), axis=axes, keepdims=True)


def _rms(x: Any, weight: Any, *, eps: Any, axes: int) -> Any:
    """Value y = γ x/√(mean(x²) + ε)."""
    r = inverse_deviation(_square_mean(x, layer_view(x.shape, axes).axes), eps)
    return x * r * weight


def _rms_bare(x: Any, weight: Any, *, eps: Any, axes: int) -> Any:
    return x * bare_inverse_deviation(_square_mean(x, layer_view(x.shape, axes).axes), eps) * weight


def _rms_vjp_with(inverse: Inverse) -> Text:
    def vjp(inputs: tuple[Any, Any], cotangent: Any, *, eps: Any, axes: int) -> tuple[Any, Any]:
        """Gradients dx = r(g - y mean(g y)), g = cγ, y = x r; dγ = Σ c y."""
        x, weight = inputs
        view = layer_view(x.shape, axes)
        r = inverse(_square_mean(x, view.axes), eps)
        y, g = x * r, cotangent * weight
        dx = r * (g - y * np.mean(g * y, axis=view.axes, keepdims=True))
        return dx, np.sum(cotangent * y, axis=view.summed) if view.summed else cotangent * y

    return vjp


RMS_NORM = Formula(
    name="rms_norm",
    title="Root-mean-square normalisation",
    equation="γ x/√(mean(x²) + ε), the mean over the trailing axes",
    source="Zhang & Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019",
    value=_rms,
    vjp=_rms_vjp_with(inverse_deviation),
    inputs=("x", "weight"),
    kinds=("real", "parameter"),
    options=(EPS, AXES),
    arrange=lambda choose: layer_shapes(choose, 1),
    families=FAMILIES,
    variants=(
        accepted(VALUE, "0/0", _rms_bare),
        accepted(DERIVATIVE, "0/0", _rms_vjp_with(bare_inverse_deviation)),
    ),
    hazards=("x² over- and underflows long before x does", "with ε = 0 a row of zeros is 0/0"),
)

FORMULAS = (BATCH_NORM_EVAL, BATCH_NORM_RUNNING, RMS_NORM)
