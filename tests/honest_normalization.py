"""Good normalisations: the mean is subtracted twice, so that its own rounding leaves nothing behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.honest import Many

Shape = tuple[int, ...]


def centred(x: Any, axes: Shape) -> Any:
    """Return x minus its mean over the axes."""
    x = x - x.mean(axis=axes, keepdims=True)
    return x - x.mean(axis=axes, keepdims=True)


def normalized(x: Any, axes: Shape, eps: float) -> tuple[Any, Any]:
    """Return (x - m) r and r = 1/√(v + ε)."""
    d = centred(x, axes)
    r = 1.0 / np.sqrt((d * d).mean(axis=axes, keepdims=True) + eps)
    return d * r, r


def pulled(g: Any, y: Any, r: Any, axes: Shape) -> Any:
    """Return r (g - mean g - y mean(g y)): the gradient of the normalised y."""
    return r * (g - g.mean(axis=axes, keepdims=True) - y * (g * y).mean(axis=axes, keepdims=True))


def over_channel(array: Any, x: Any) -> Any:
    """Return one number per channel in the shape of x."""
    return array.reshape(1, -1, *(1 for _ in x.shape[2:]))


def others(x: Any) -> Shape:
    """Return all axes but that of the channels."""
    return (0, *range(2, x.ndim))


def batch_norm(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5, affine: bool = True) -> Any:
    """Normalised per channel, over the batch and all places."""
    y, _ = normalized(x, others(x), eps)
    return y * over_channel(weight, x) + over_channel(bias, x) if affine else y


def batch_norm_vjp(inputs: Sequence[Any], c: Any, *, eps: float = 1e-5, affine: bool = True) -> Any:
    """Gradients of x, weight, bias."""
    x, weight, bias = inputs
    y, r = normalized(x, others(x), eps)
    g = c * over_channel(weight, x) if affine else c
    if not affine:
        return pulled(g, y, r, others(x)), np.zeros_like(weight), np.zeros_like(bias)
    return pulled(g, y, r, others(x)), (c * y).sum(axis=others(x)), c.sum(axis=others(x))


def batch_norm_eval(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *, eps: float = 1e-5, affine: bool = True
) -> Any:
    """Normalised by statistics that are given."""
    y = (x - over_channel(mean, x)) / np.sqrt(over_channel(variance, x) + eps)
    return y * over_channel(weight, x) + over_channel(bias, x) if affine else y


def batch_norm_eval_vjp(inputs: Sequence[Any], c: Any, *, eps: float = 1e-5, affine: bool = True) -> Any:
    """Gradients of x, weight, bias; none of the statistics."""
    x, weight, bias, mean, variance = inputs
    r = 1.0 / np.sqrt(over_channel(variance, x) + eps)
    if not affine:
        return c * r, np.zeros_like(weight), np.zeros_like(bias), None, None
    y = (x - over_channel(mean, x)) * r
    return (
        c * r * over_channel(weight, x),
        (c * y).sum(axis=others(x)),
        c.sum(axis=others(x)),
        None,
        None,
    )


def batch_norm_running(
    x: Any,
    mean: Any,
    variance: Any,
    *,
    momentum: float = 0.1,
    cumulative: bool = False,
    count: int = 0,
    momentum_of: str = "batch",
) -> tuple[Any, Any]:
    """The averages after one batch."""
    share = momentum if momentum_of == "batch" else 1.0 - momentum
    if cumulative:
        share = 1.0 / (count + 1.0)
    n = x.size // x.shape[1]
    d = centred(x, others(x))
    unbiased = (d * d).sum(axis=others(x)) / max(n - 1, 1)
    m = x.mean(axis=others(x))
    return (1.0 - share) * mean + share * m, (1.0 - share) * variance + share * unbiased


def trailing(x: Any, axes: int) -> Shape:
    """Return the last axes."""
    return tuple(range(x.ndim - axes, x.ndim))


def leading(x: Any, axes: int) -> Shape:
    """Return all axes but the last ones."""
    return tuple(range(x.ndim - axes))


def layer_norm(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5, axes: int = 1) -> Any:
    """Normalised over the trailing axes."""
    return normalized(x, trailing(x, axes), eps)[0] * weight + bias


def layer_norm_vjp(inputs: Sequence[Any], c: Any, *, eps: float = 1e-5, axes: int = 1) -> Any:
    """Gradients of x, weight, bias."""
    x, weight, _ = inputs
    y, r = normalized(x, trailing(x, axes), eps)
    dx = pulled(c * weight, y, r, trailing(x, axes))
    return dx, (c * y).sum(axis=leading(x, axes)), c.sum(axis=leading(x, axes))


def root_mean_square(x: Any, axes: int, eps: float) -> Any:
    """Return √(mean x² + ε)."""
    return np.sqrt((x * x).mean(axis=trailing(x, axes), keepdims=True) + eps)


def rms_norm(x: Any, weight: Any, *, eps: float = 1e-5, axes: int = 1) -> Any:
    """Divided by the root of the mean square."""
    return x / root_mean_square(x, axes, eps) * weight


def rms_norm_vjp(inputs: Sequence[Any], c: Any, *, eps: float = 1e-5, axes: int = 1) -> Any:
    """Gradients of x and weight."""
    x, weight = inputs
    r = 1.0 / root_mean_square(x, axes, eps)
    y, g = x * r, c * weight
    dx = r * (g - y * (g * y).mean(axis=trailing(x, axes), keepdims=True))
    return dx, (c * y).sum(axis=leading(x, axes))


def grouped(x: Any, groups: int) -> Any:
    """Return x as (N, groups, channels of a group, places...)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def group_norm(x: Any, weight: Any, bias: Any, *, groups: int = 1, eps: float = 1e-5) -> Any:
    """Normalised per sample and group."""
    z = grouped(x, groups)
    y = normalized(z, tuple(range(2, z.ndim)), eps)[0].reshape(x.shape)
    return y * over_channel(weight, x) + over_channel(bias, x)


def group_norm_vjp(inputs: Sequence[Any], c: Any, *, groups: int = 1, eps: float = 1e-5) -> Any:
    """Gradients of x, weight, bias."""
    x, weight, _ = inputs
    z = grouped(x, groups)
    axes = tuple(range(2, z.ndim))
    y, r = normalized(z, axes, eps)
    dx = pulled(grouped(c * over_channel(weight, x), groups), y, r, axes).reshape(x.shape)
    return dx, (c * y.reshape(x.shape)).sum(axis=others(x)), c.sum(axis=others(x))


def _instance(function: Callable[..., Any]) -> Callable[..., Any]:
    """Every channel is a group."""

    def run(*arguments: Any, eps: float = 1e-5) -> Any:
        first = arguments[0]
        x = first[0] if isinstance(first, tuple | list) else first
        return function(*arguments, groups=x.shape[1], eps=eps)

    return run


def stable_softmax(x: Any, axis: int) -> Any:
    """Return e^x / Σ e^x, shifted."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def stable_log_softmax(x: Any, axis: int) -> Any:
    """Return x - log Σ e^x, shifted."""
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def logsumexp(x: Any, *, axis: int = -1) -> Any:
    """Return log Σ e^x, shifted where the largest is finite."""
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.squeeze(np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top, axis=axis)


def _softmax_vjp(inputs: Sequence[Any], c: Any, *, axis: int = -1) -> Any:
    y = stable_softmax(inputs[0], axis)
    return (y * (c - (c * y).sum(axis=axis, keepdims=True)),)


def _log_softmax_vjp(inputs: Sequence[Any], c: Any, *, axis: int = -1) -> Any:
    return (c - stable_softmax(inputs[0], axis) * c.sum(axis=axis, keepdims=True),)


def _logsumexp_vjp(inputs: Sequence[Any], c: Any, *, axis: int = -1) -> Any:
    return (np.expand_dims(c, axis) * stable_softmax(inputs[0], axis),)


def elements(x: Any, axes: Shape) -> int:
    """Return how many elements the axes span."""
    return math.prod(x.shape[axis] for axis in axes)


NORMALIZATIONS: dict[str, Many] = {
    "batch_norm": Many(batch_norm, batch_norm_vjp),
    "batch_norm_eval": Many(batch_norm_eval, batch_norm_eval_vjp),
    "batch_norm_running": Many(batch_norm_running, lambda inputs, c, **_: ()),
    "layer_norm": Many(layer_norm, layer_norm_vjp),
    "rms_norm": Many(rms_norm, rms_norm_vjp),
    "group_norm": Many(group_norm, group_norm_vjp),
    "instance_norm": Many(_instance(group_norm), _instance(group_norm_vjp)),
    "softmax": Many(lambda x, axis=-1: stable_softmax(x, axis), _softmax_vjp),
    "log_softmax": Many(lambda x, axis=-1: stable_log_softmax(x, axis), _log_softmax_vjp),
    "logsumexp": Many(logsumexp, _logsumexp_vjp),
}
