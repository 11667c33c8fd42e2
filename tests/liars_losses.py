"""Liars about losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.honest import logistic
from tests.honest_losses import class_axis, indexed, over_classes, picked, shared, softplus
from tests.honest_normalization import stable_softmax
from tests.lying import F16, F32, F64, Liar
from tests.lying_families import Part, gradient, ignoring, inside, instead, only, told, with_options

SHORT = (F64, F32, F16)


def _swapped(options: dict[str, Any]) -> dict[str, Any]:
    """Mix up mean and sum."""
    return {"reduction": {"mean": "sum", "sum": "mean", "none": "none"}[options["reduction"]]}


def _times(factor: float) -> Part:
    return lambda inner, *arguments, **options: inner(*arguments, **options) * factor


def _both(change: Part) -> Part:
    """Return the pair of change(d, shared cotangent, **options) and its negative."""

    def vjp(inputs: Sequence[Any], c: Any, *, reduction: str, **options: Any) -> Any:
        d = inputs[0] - inputs[1]
        g = change(d, shared(c, d, reduction), **options)
        return g, -g

    return vjp


def _by_first_axis(inner: Part, x: Any, target: Any, *, reduction: str) -> Any:
    total = inner(x, target, reduction="sum" if reduction == "mean" else reduction)
    return total / x.shape[0] if reduction == "mean" else total


def _huber(d: Any, delta: float, linear: Any) -> Any:
    return np.where(np.abs(d) < delta, 0.5 * d * d, linear)


def _of_difference(loss: Part) -> Part:
    def value(x: Any, target: Any, *, reduction: str, **options: Any) -> Any:
        losses = loss(x - target, **options)
        return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()

    return value


REGRESSION: tuple[Liar, ...] = (
    instead("mse_loss", "without-two", "the gradient misses the 2", "vjp", _both(lambda d, g: g * d)),
    told(
        "mse_loss",
        "undivided",
        "the gradient of the mean misses 1/n",
        "vjp",
        with_options(lambda o: {"reduction": "sum"} if o["reduction"] == "mean" else {}),
    ),
    told("mse_loss", "mean-for-sum", "mean and sum are mixed up", "value", with_options(_swapped)),
    gradient(
        "mse_loss", "target-sign", "the target's gradient has the sign of x's", 1, lambda i, c, g, **o: g[0]
    ),
    told("mse_loss", "first-axis", "the mean is over the first axis only", "value", _by_first_axis),
    told("mse_loss", "halved", "is half the square", "value", _times(0.5)),
    told(
        "mse_loss",
        "second-one",
        "the second derivative misses the 2",
        "second",
        lambda inner, *a, **o: tuple(g / 2 for g in inner(*a, **o)),
    ),
    told(
        "mse_loss",
        "second-without-target",
        "the second derivative forgets that the target varies",
        "second",
        lambda inner, i, c, d, **o: inner(i, c, (d[0], 0 * d[1]), **o),
    ),
    told(
        "l1_loss",
        "none-divided",
        "the gradient without a reduction is divided too",
        "vjp",
        lambda inner, i, c, *, reduction: inner(
            i, c / i[0].size if reduction == "none" else c, reduction=reduction
        ),
    ),
    instead(
        "l1_loss", "one-sided", "the gradient is 0 where x is below", "vjp", _both(lambda d, g: g * (d > 0))
    ),
    told(
        "l1_loss",
        "unsigned",
        "small differences keep their sign",
        "value",
        lambda inner, x, t, **o: np.where(
            np.max(np.abs(x - t), initial=0.0) < 1, _of_difference(lambda d: d)(x, t, **o), inner(x, t, **o)
        ),
    ),
    instead(
        "huber_loss",
        "fixed-slope",
        "the linear part has the slope 1",
        "value",
        _of_difference(lambda d, delta: _huber(d, delta, np.abs(d) - 0.5 * delta)),
    ),
    instead(
        "huber_loss",
        "jumps",
        "the linear part misses δ²/2",
        "value",
        _of_difference(lambda d, delta: _huber(d, delta, delta * np.abs(d))),
    ),
    instead(
        "huber_loss",
        "gradient-of-sign",
        "the gradient beyond δ is 1",
        "vjp",
        _both(lambda d, g, delta: g * np.where(np.abs(d) < delta, d, np.sign(d))),
    ),
    told("huber_loss", "usual-delta", "delta is 1 whatever is asked for", "value", ignoring(delta=1.0)),
    told("smooth_l1_loss", "usual-beta", "beta is 1 whatever is asked for", "value", ignoring(beta=1.0)),
    instead(
        "smooth_l1_loss",
        "zero-beta",
        "β = 0 divides by 0 where x is the target",
        "value",
        _of_difference(
            lambda d, beta: np.where(
                np.abs(d) <= beta, 0.5 * d * d / np.float64(beta), np.abs(d) - 0.5 * beta
            )
        ),
    ),
    instead(
        "smooth_l1_loss",
        "gradient-undivided",
        "the gradient inside misses 1/β",
        "vjp",
        _both(lambda d, g, beta: g * np.where(np.abs(d) < beta, d, np.sign(d))),
    ),
    told(
        "smooth_l1_loss",
        "huber",
        "is Huber's loss",
        "value",
        lambda inner, x, t, *, beta, reduction: inner(x, t, beta=beta, reduction=reduction) * (beta or 1.0),
    ),
)


def _without_weights_below(inner: Part, x: Any, target: Any, weight: Any, *, reduction: str, **o: Any) -> Any:
    """Divide the weighted sum by the number of targets that count."""
    if reduction != "mean":
        return inner(x, target, weight, reduction=reduction, **o)
    return inner(x, target, weight, reduction="sum", **o) / (target != o["ignore_index"]).sum()


def _over_everything(inner: Part, x: Any, target: Any, weight: Any, *, reduction: str, **o: Any) -> Any:
    """Count the ignored ones in the mean."""
    found = inner(x, target, weight, reduction=reduction, **o)
    share = (target != o["ignore_index"]).sum() / max(target.size, 1)
    return found * share if reduction == "mean" else found


def _others_only(inner: Part, x: Any, target: Any, weight: Any, *, label_smoothing: float, **o: Any) -> Any:
    """Spread the smoothing over the C - 1 other classes."""
    classes = x.shape[class_axis(x)]
    spread = min(label_smoothing * classes / max(classes - 1, 1), 1.0)
    return inner(x, target, weight, label_smoothing=spread, **o)


def _unweighted_pull(inputs: Sequence[Any], c: Any, g: Any, *, reduction: str, **o: Any) -> Any:
    """Forget the weight of the class in the gradient's numerator."""
    x, target, weight = inputs
    k, total, counts, axis = indexed(x, target, np.ones_like(weight), o["ignore_index"], o["label_smoothing"])
    _, total, _, _ = indexed(x, target, weight, o["ignore_index"], 0.0)
    share = np.expand_dims(shared(c, counts, reduction, total), axis)
    return share * (stable_softmax(x, axis) * k.sum(axis=axis, keepdims=True) - k)


def _without_softmax(inputs: Sequence[Any], c: Any, g: Any, *, reduction: str, **o: Any) -> Any:
    x, target, weight = inputs
    k, total, counts, axis = indexed(x, target, weight, o["ignore_index"], o["label_smoothing"])
    return -np.expand_dims(shared(c, counts, reduction, total), axis) * k


def _last_axis(inner: Part, x: Any, target: Any, weight: Any, **o: Any) -> Any:
    """Take the logarithms over the last axis instead of the classes'."""
    if x.ndim < 3:
        return inner(x, target, weight, **o)
    off = np.log(np.exp(x).sum(axis=-1, keepdims=True)) - np.log(np.exp(x).sum(axis=1, keepdims=True))
    one = picked(x, target, 1) * over_classes(weight, x) * np.expand_dims(target != o["ignore_index"], 1)
    extra = (one * off).sum(axis=1)
    total = one.sum() if o["reduction"] == "mean" else 1.0
    return inner(x, target, weight, **o) + (extra if o["reduction"] == "none" else extra.sum() / total)


CLASSES: tuple[Liar, ...] = (
    told("cross_entropy", "ignores-none", "ignore_index is ignored", "value", ignoring(ignore_index=-1)),
    told("cross_entropy", "unsmoothed", "label smoothing is ignored", "value", ignoring(label_smoothing=0.0)),
    told(
        "cross_entropy",
        "by-number",
        "the mean divides by the number, not the weights",
        "value",
        _without_weights_below,
    ),
    told("cross_entropy", "over-everything", "the mean counts ignored targets", "value", _over_everything),
    told("cross_entropy", "others-only", "smoothing spares the target", "value", _others_only),
    gradient("cross_entropy", "pull-unweighted", "the gradient misses the class weight", 0, _unweighted_pull),
    gradient(
        "cross_entropy", "without-softmax", "the gradient is that of -x at the target", 0, _without_softmax
    ),
    told("cross_entropy", "last-axis", "the softmax is over the last axis", "value", _last_axis),
    told("cross_entropy", "mean-for-sum", "mean and sum are mixed up", "vjp", with_options(_swapped)),
    told(
        "cross_entropy",
        "gradient-of-ignored",
        "ignored targets pull too",
        "vjp",
        ignoring(ignore_index=-1),
    ),
    told(
        "cross_entropy_probabilities",
        "unsmoothed",
        "label smoothing is ignored",
        "value",
        ignoring(label_smoothing=0.0),
    ),
    told(
        "cross_entropy_probabilities",
        "over-classes",
        "the mean is over the classes too",
        "value",
        lambda inner, x, t, w, *, reduction, **o: (
            inner(x, t, w, reduction=reduction, **o) / (x.shape[class_axis(x)] if reduction == "mean" else 1)
        ),
    ),
    gradient(
        "cross_entropy_probabilities",
        "target-unsmoothed",
        "the target's gradient misses 1-ε",
        1,
        lambda i, c, g, label_smoothing, **o: (
            g[1] / (1 - label_smoothing) if label_smoothing < 1 else g[1] + 1.0
        ),
    ),
    gradient(
        "cross_entropy_probabilities",
        "targets-sum-to-one",
        "the gradient takes for granted that weighted targets sum to 1",
        0,
        lambda i, c, g, *, label_smoothing, reduction: _soft_pull(i, c, label_smoothing, reduction),
    ),
    told("nll_loss", "sign", "the sign is lost", "value", _times(-1.0)),
    told(
        "nll_loss",
        "by-number",
        "the mean divides by the number, not the weights",
        "value",
        _without_weights_below,
    ),
    told("nll_loss", "usual-index", "ignore_index is always -100", "value", ignoring(ignore_index=-100)),
    told(
        "nll_loss",
        "gradient-over-everything",
        "the mean's gradient counts ignored targets",
        "vjp",
        lambda inner, i, c, **o: tuple(
            None
            if g is None
            else g
            * ((i[1] != o["ignore_index"]).sum() / max(i[1].size, 1) if o["reduction"] == "mean" else 1.0)
            for g in inner(i, c, **o)
        ),
    ),
)


def _soft_pull(inputs: Sequence[Any], c: Any, smoothing: float, reduction: str) -> Any:
    x, target, weight = inputs
    axis = class_axis(x)
    size = x.size // x.shape[axis]
    k = over_classes(weight, x) * (target * (1 - smoothing) + smoothing / x.shape[axis])
    share = c / size if reduction == "mean" else c
    g = np.expand_dims(share, axis) if np.ndim(share) else share
    return g * (stable_softmax(x, axis) - k)


def _raw_logits(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    y = 1 / (1 + np.exp(-x))
    losses = -weight * (pos_weight * target * np.log(y) + (1 - target) * np.log(1 - y))
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _logit_losses(value: Part) -> Part:
    def loss(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
        losses = weight * value(x, target, pos_weight)
        return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()

    return loss


BINARY: tuple[Liar, ...] = (
    told(
        "binary_cross_entropy",
        "single-sided",
        "the term of 1 - t is missing",
        "value",
        lambda inner, x, t, w, **o: inner(x, np.ones_like(x), w * t, **o),
    ),
    told(
        "binary_cross_entropy",
        "unweighted",
        "the weight is ignored",
        "value",
        lambda inner, x, t, w, **o: inner(x, t, np.ones_like(w), **o),
    ),
    told(
        "binary_cross_entropy",
        "without-floor",
        "logarithms fall below -100",
        "value",
        ignoring(floor=-np.inf),
        formats=(F64,),
    ),
    gradient(
        "binary_cross_entropy",
        "undivided",
        "the gradient misses x (1 - x)",
        0,
        lambda i, c, g, **o: g[0] * i[0] * (1 - i[0]),
    ),
    gradient(
        "binary_cross_entropy",
        "target-sign",
        "the target's gradient has the wrong sign",
        1,
        lambda i, c, g, **o: -g[1],
    ),
    told(
        "binary_cross_entropy", "mean-for-sum", "mean and sum are mixed up", "value", with_options(_swapped)
    ),
    told(
        "binary_cross_entropy",
        "weighted-mean",
        "the mean divides by the weights",
        "value",
        lambda inner, x, t, w, **o: inner(x, t, w, **o) / (w.mean() if o["reduction"] == "mean" else 1.0),
    ),
    instead(
        "binary_cross_entropy_with_logits",
        "negative-weight",
        "pos_weight stands with the negatives",
        "value",
        _logit_losses(lambda x, t, p: t * softplus(-x) + p * (1 - t) * softplus(x)),
    ),
    instead(
        "binary_cross_entropy_with_logits",
        "both-weighted",
        "pos_weight stands with both terms",
        "value",
        _logit_losses(lambda x, t, p: p * (t * softplus(-x) + (1 - t) * softplus(x))),
    ),
    inside(
        "binary_cross_entropy_with_logits",
        "of-sigmoid",
        "takes the logarithm of a sigmoid",
        "value",
        _raw_logits,
        formats=SHORT,
    ),
    gradient(
        "binary_cross_entropy_with_logits",
        "gradient-unweighted",
        "the gradient misses pos_weight",
        0,
        lambda i, c, g, *, reduction: shared(c, i[0], reduction) * i[2] * (logistic(i[0]) - i[1]),
    ),
    gradient(
        "binary_cross_entropy_with_logits",
        "target-of-x",
        "the target's gradient is -x, whatever pos_weight says",
        1,
        lambda i, c, g, *, reduction: -shared(c, i[0], reduction) * i[2] * i[0],
    ),
    told(
        "binary_cross_entropy_with_logits",
        "large-linear",
        "logits beyond 8 are taken as certain",
        "value",
        only(
            lambda x, *a, **o: bool(np.any(np.abs(x) > 8)),
            lambda inner, x, *a, **o: inner(np.where(np.abs(x) > 8, np.copysign(8.0, x), x), *a, **o),
        ),
    ),
)

LOSS_LIARS: tuple[Liar, ...] = (*REGRESSION, *CLASSES, *BINARY)
