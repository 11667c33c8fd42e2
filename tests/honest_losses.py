"""Good losses: each gives every element's loss, and the reduction follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.honest import Many, logistic, logistic_slope
from tests.honest_normalization import stable_log_softmax, stable_softmax


def reduce(losses: Any, reduction: str, over: Any = None) -> Any:
    """Return the losses, their sum, or their sum over their number (or over another total)."""
    if reduction == "none":
        return losses
    return losses.sum() / ((losses.size if over is None else over) if reduction == "mean" else 1.0)


def shared(c: Any, like: Any, reduction: str, over: Any = None) -> Any:
    """Return the cotangent of every element's loss."""
    size = like.size if over is None else over
    return (c / size if reduction == "mean" else c) * np.ones(like.shape)


def pairwise(loss: Callable[..., Any], slope: Callable[..., Any], bend: Any = None) -> Many:
    """Return the loss of the difference d = x - t of two arrays."""

    def value(x: Any, target: Any, *, reduction: str = "mean", **options: Any) -> Any:
        return reduce(loss(x - target, **options), reduction)

    def vjp(inputs: Sequence[Any], c: Any, *, reduction: str = "mean", **options: Any) -> Any:
        d = inputs[0] - inputs[1]
        g = shared(c, d, reduction) * slope(d, **options)
        return g, -g

    def second(
        inputs: Sequence[Any], c: Any, along: Sequence[Any], *, reduction: str = "mean", **options: Any
    ) -> Any:
        d = inputs[0] - inputs[1]
        h = shared(c, d, reduction) * bend(d, **options) * (along[0] - along[1])
        return h, -h

    return Many(value, vjp, second)


def _huber(d: Any, delta: float = 1.0) -> Any:
    a = np.abs(d)
    return np.where(a < delta, 0.5 * a * a, delta * (a - 0.5 * delta))


def _smooth(d: Any, beta: float = 1.0) -> Any:
    a = np.abs(d)
    return np.where(a < beta, 0.5 * a * a / (beta or 1.0), a - 0.5 * beta)


def picked(x: Any, target: Any, axis: int) -> Any:
    """Return 1 at the target's class along the axis of x, 0 elsewhere."""
    index = np.expand_dims(target.astype(np.int64), axis)
    classes = np.arange(x.shape[axis]).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return (classes == index).astype(np.float64)


def class_axis(x: Any) -> int:
    """Return the axis of the classes."""
    return 0 if x.ndim == 1 else 1


def over_classes(weight: Any, x: Any) -> Any:
    """Return one number per class in the shape of x."""
    return weight.reshape([-1 if i == class_axis(x) else 1 for i in range(x.ndim)])


def indexed(
    x: Any, target: Any, weight: Any, ignore_index: int, smoothing: float
) -> tuple[Any, Any, Any, Any]:
    """Return, of index targets: coefficients of -log p, total weight, which count, and the axis."""
    axis = class_axis(x)
    counts = (target != ignore_index).astype(np.float64)
    one = picked(x, target, axis) * np.expand_dims(counts, axis)
    w = over_classes(weight, x)
    total = (one * w).sum()
    even = np.expand_dims(counts, axis) / x.shape[axis]
    return w * ((1.0 - smoothing) * one + smoothing * even), total, counts, axis


def _cross_entropy(
    x: Any,
    target: Any,
    weight: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    k, total, _, axis = indexed(x, target, weight, ignore_index, label_smoothing)
    terms = np.where(k == 0, 0.0, -k * stable_log_softmax(x, axis))
    return reduce(terms.sum(axis=axis), reduction, total)


def _cross_entropy_vjp(
    inputs: Sequence[Any],
    c: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    x, target, weight = inputs
    k, total, counts, axis = indexed(x, target, weight, ignore_index, label_smoothing)
    g = np.expand_dims(shared(c, counts, reduction, total), axis)
    return g * (stable_softmax(x, axis) * k.sum(axis=axis, keepdims=True) - k), None, None


def _soft_target(x: Any, target: Any, smoothing: float) -> Any:
    return target * (1.0 - smoothing) + smoothing / x.shape[class_axis(x)]


def _soft_size(x: Any) -> int:
    return int(x.size // x.shape[class_axis(x)])


def _soft(x: Any, target: Any, weight: Any, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Any:
    k = over_classes(weight, x) * _soft_target(x, target, label_smoothing)
    terms = np.where(k == 0, 0.0, -k * stable_log_softmax(x, class_axis(x)))
    return reduce(terms.sum(axis=class_axis(x)), reduction)


def _soft_vjp(inputs: Sequence[Any], c: Any, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Any:
    x, target, weight = inputs
    axis = class_axis(x)
    k = over_classes(weight, x) * _soft_target(x, target, label_smoothing)
    share = c / _soft_size(x) if reduction == "mean" else c
    g = np.expand_dims(share * np.ones(x.shape[:axis] + x.shape[axis + 1 :]), axis)
    dx = g * (stable_softmax(x, axis) * k.sum(axis=axis, keepdims=True) - k)
    dt = -g * (1.0 - label_smoothing) * over_classes(weight, x) * stable_log_softmax(x, axis)
    return dx, dt, None


def _nll(x: Any, target: Any, weight: Any, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    k, total, _, axis = indexed(x, target, weight, ignore_index, 0.0)
    return reduce(np.where(k == 0, 0.0, -k * x).sum(axis=axis), reduction, total)


def _nll_vjp(inputs: Sequence[Any], c: Any, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    x, target, weight = inputs
    k, total, counts, axis = indexed(x, target, weight, ignore_index, 0.0)
    return -np.expand_dims(shared(c, counts, reduction, total), axis) * k, None, None


def floored_logs(x: Any, floor: float) -> tuple[Any, Any]:
    """Return log x and log(1 - x), neither below the floor."""
    return np.maximum(np.log(x), floor), np.maximum(np.log1p(-x), floor)


def _bce(x: Any, target: Any, weight: Any, *, floor: float = -100.0, reduction: str = "mean") -> Any:
    yes, no = floored_logs(x, floor)
    return reduce(-weight * (target * yes + (1.0 - target) * no), reduction)


def _bce_vjp(inputs: Sequence[Any], c: Any, *, floor: float = -100.0, reduction: str = "mean") -> Any:
    x, target, weight = inputs
    g = shared(c, x, reduction) * weight
    yes, no = floored_logs(x, floor)
    moves_yes, moves_no = np.log(x) >= floor, np.log1p(-x) >= floor
    one_side = np.where(moves_no, (1.0 - target) / (1.0 - x), 0.0) - np.where(moves_yes, target / x, 0.0)
    slope = np.where(moves_yes & moves_no, (x - target) / (x * (1.0 - x)), one_side)
    return g * slope, g * (no - yes), None


def softplus(x: Any) -> Any:
    """Return log(1 + e^x)."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _logits(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str = "mean") -> Any:
    losses = target * pos_weight * softplus(-x) + (1.0 - target) * softplus(x)
    return reduce(weight * losses, reduction)


def _logits_vjp(inputs: Sequence[Any], c: Any, *, reduction: str = "mean") -> Any:
    x, target, weight, pos_weight = inputs
    g = shared(c, x, reduction) * weight
    slope = (1.0 - target) * logistic(x) - target * pos_weight * logistic(-x)
    return g * slope, g * (pos_weight * softplus(-x) - softplus(x)), None, None


def _logits_second(inputs: Sequence[Any], c: Any, along: Sequence[Any], *, reduction: str = "mean") -> Any:
    x, target, weight, pos_weight = inputs
    g = shared(c, x, reduction) * weight
    bend = ((1.0 - target) + target * pos_weight) * logistic_slope(x)
    mixed = -(logistic(x) + pos_weight * logistic(-x))
    return g * (bend * along[0] + mixed * along[1]), g * mixed * along[0], None, None


CONSTANTS: dict[str, tuple[int, ...]] = {
    "cross_entropy": (1, 2),
    "cross_entropy_probabilities": (2,),
    "nll_loss": (1, 2),
    "binary_cross_entropy": (2,),
    "binary_cross_entropy_with_logits": (2, 3),
}
LOSSES: dict[str, Many] = {
    "mse_loss": pairwise(lambda d: d * d, lambda d: 2.0 * d, lambda d: 2.0 * np.ones_like(d)),
    "l1_loss": pairwise(np.abs, np.sign, np.zeros_like),
    "huber_loss": pairwise(
        _huber,
        lambda d, delta=1.0: np.clip(d, -delta, delta),
        lambda d, delta=1.0: np.where(np.abs(d) < delta, 1.0, 0.0),
    ),
    "smooth_l1_loss": pairwise(
        _smooth,
        lambda d, beta=1.0: np.where(np.abs(d) < beta, d / (beta or 1.0), np.sign(d)),
        lambda d, beta=1.0: np.where(np.abs(d) < beta, 1.0 / (beta or 1.0), 0.0),
    ),
    "cross_entropy": Many(_cross_entropy, _cross_entropy_vjp),
    "cross_entropy_probabilities": Many(_soft, _soft_vjp),
    "nll_loss": Many(_nll, _nll_vjp, lambda inputs, c, d, **_: (np.zeros_like(inputs[0]), None, None)),
    "binary_cross_entropy": Many(_bce, _bce_vjp),
    "binary_cross_entropy_with_logits": Many(_logits, _logits_vjp, _logits_second),
}
