"""Losses of a classifier whose target is a class: cross-entropy and negative log-likelihood.

Shapes: x (C,), (N, C) or (N, C, d), an index target without the axis C, weight (C,). Source: Bishop, Pattern
Recognition and Machine Learning, 2006, section 4.3.4; label smoothing: Szegedy et al., CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import exact
from gradcheck.errors import UsageError
from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.formulas.reductions import REDUCTION, class_axis, column, reduced, scores_shape, total
from gradcheck.formulas.softmax import (
    log_softmax_by_logsumexp,
    log_softmax_of_softmax,
    log_softmax_text,
    log_softmax_vjp_by_logsumexp,
    log_softmax_vjp_of_result,
    log_softmax_vjp_text,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Arrangement, Choose, Formula, Option

SOURCE = "Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4"
FAMILIES = ("plain", "moderate", "saturated", "offset", "large mean", "ties", "constant")
_IGNORE = Option("ignore_index", -100, structural=True)
SMOOTHING = Option("label_smoothing", 0.0, 0.0, 1.0)


def _of_indices(choose: Choose) -> Arrangement:
    """A shape, and an index to ignore: one that is no class, or the first class where there are more."""
    shape = scores_shape(choose)
    axis = class_axis(shape)
    ignored = choose.choice((-100, 0)) if shape[axis] > 1 else -100
    target = shape[:axis] + shape[axis + 1 :]
    return Arrangement((shape, target, (shape[axis],)), {"ignore_index": ignored}, classes=shape[axis])


def _counted(target: Any, ignore_index: int, classes: int) -> tuple[Any, Any]:
    """Return which targets count, and the targets with those that do not replaced by class 0."""
    counted = np.not_equal(target, ignore_index)
    kept = np.where(counted, target, 0)
    if np.any((kept < 0) | (kept >= classes)):
        raise UsageError(f"a target is a class from 0 to {classes - 1} or ignore_index={ignore_index}")
    return counted, kept


def _hot(kept: Any, counted: Any, shape: tuple[int, ...]) -> Any:
    """Return where a class is the target of its sample, and the sample counts."""
    axis = class_axis(shape)
    classes = np.reshape(np.arange(shape[axis]), (shape[axis],) + (1,) * (len(shape) - 1 - axis))
    return np.equal(np.expand_dims(kept, axis), classes) & np.expand_dims(counted, axis)


def _likelihood(scores: Any, target: Any, weight: Any, smoothing: Any, ignore_index: int) -> tuple[Any, Any]:
    """Return the loss of every sample from the logarithms of its probabilities, and its weight."""
    axis = class_axis(scores.shape)
    counted, kept = _counted(target, ignore_index, scores.shape[axis])
    own = np.where(counted, weight[kept], 0)
    picked = np.squeeze(np.take_along_axis(scores, np.expand_dims(kept, axis), axis), axis=axis)
    hard = -np.where(counted, weight[kept] * picked, 0)
    if smoothing == 0:
        return hard, own
    even = _over_classes(scores, target, weight, ignore_index)
    return (1 - smoothing) * hard + (smoothing / scores.shape[axis]) * even, own


def _over_classes(scores: Any, target: Any, weight: Any, ignore_index: int) -> Any:
    """Return the sum of every class's loss, for the samples that count."""
    axis = class_axis(scores.shape)
    counted, _ = _counted(target, ignore_index, scores.shape[axis])
    return -np.where(counted, np.sum(column(weight, scores.shape) * scores, axis=axis), 0)


def _mean_by_weight(losses: Any, own: Any, reduction: str) -> Any:
    """Reduce; the mean divides by the sum of the weights of the targets that count, and is NaN for none."""
    return np.sum(losses) / np.sum(own) if reduction == "mean" else reduced(losses, reduction)


def _upstream(
    scores: Any, target: Any, weight: Any, cotangent: Any, smoothing: Any, ignore_index: int, reduction: str
) -> Any:
    """Return the gradient with respect to the logarithms of the probabilities."""
    shape = scores.shape
    axis = class_axis(shape)
    counted, kept = _counted(target, ignore_index, shape[axis])
    weights = column(weight, shape)
    if reduction == "mean":
        cotangent = cotangent / np.sum(np.where(counted, weight[kept], 0))
    g = np.expand_dims(cotangent, axis) if reduction == "none" else cotangent
    hot = np.where(_hot(kept, counted, shape), weights, 0)
    if smoothing == 0:
        return -(g * hot)
    even = np.where(np.expand_dims(counted, axis), weights, 0)
    return -(g * ((1 - smoothing) * hot + (smoothing / shape[axis]) * even))


def _cross_entropy(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    """Value -w_t z_t, z = log softmax x; smoothed by ε: (1 - ε)(-w_t z_t) + (ε/C) Σ -w_c z_c.

    A target equal to `ignore_index` counts for nothing. The mean divides by the sum of the weights w_t of
    the targets that count; where none does it is NaN.
    """
    z = log_softmax_text(x, axis=class_axis(x.shape))
    return _mean_by_weight(*_likelihood(z, target, weight, label_smoothing, ignore_index), reduction)


def _cross_entropy_vjp(
    inputs: tuple[Any, ...], cotangent: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> tuple[Any, None, None]:
    """Gradient u - y Σ uⱼ, y the softmax, u the gradient in z: -w_t at the target, smoothed over all."""
    x, target, weight = inputs
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    return log_softmax_vjp_text((x,), u, axis=class_axis(x.shape))[0], None, None


def _cross_entropy_as_distribution(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    axis = class_axis(x.shape)
    counted, kept = _counted(target, ignore_index, x.shape[axis])
    hot = np.where(_hot(kept, counted, x.shape), np.full_like(x, 1), np.full_like(x, 0))
    even = np.where(np.expand_dims(counted, axis), np.full_like(x, 1), 0) * (label_smoothing / x.shape[axis])
    q = hot * (1 - label_smoothing) + even
    losses = -np.sum(q * log_softmax_text(x, axis=axis) * column(weight, x.shape), axis=axis)
    return _mean_by_weight(losses, np.where(counted, weight[kept], 0), reduction)


def _cross_entropy_reduced_first(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    z = log_softmax_text(x, axis=class_axis(x.shape))
    hard, own = _likelihood(z, target, weight, 0, ignore_index)
    even, _ = _likelihood(z, target, weight, exact(1), ignore_index)
    first, second = _mean_by_weight(hard, own, reduction), _mean_by_weight(even, own, reduction)
    return (1 - label_smoothing) * first + label_smoothing * second


def _cross_entropy_divided_last(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    classes = x.shape[class_axis(x.shape)]
    z = log_softmax_text(x, axis=class_axis(x.shape))
    hard, own = _likelihood(z, target, weight, 0, ignore_index)
    even = _over_classes(z, target, weight, ignore_index)
    first, second = _mean_by_weight(hard, own, reduction), _mean_by_weight(even, own, reduction)
    return (1 - label_smoothing) * first + (label_smoothing / classes) * second


def _cross_entropy_by_logsumexp(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    z = log_softmax_by_logsumexp(x, axis=class_axis(x.shape))
    return _mean_by_weight(*_likelihood(z, target, weight, label_smoothing, ignore_index), reduction)


def _cross_entropy_of_softmax(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    z = log_softmax_of_softmax(x, axis=class_axis(x.shape))
    return _mean_by_weight(*_likelihood(z, target, weight, label_smoothing, ignore_index), reduction)


def _cross_entropy_vjp_of_result(
    inputs: tuple[Any, ...], cotangent: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> tuple[Any, None, None]:
    x, target, weight = inputs
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    return log_softmax_vjp_of_result((x,), u, axis=class_axis(x.shape))[0], None, None


def _cross_entropy_vjp_by_logsumexp(
    inputs: tuple[Any, ...], cotangent: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> tuple[Any, None, None]:
    x, target, weight = inputs
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    return log_softmax_vjp_by_logsumexp((x,), u, axis=class_axis(x.shape))[0], None, None


def _cross_entropy_second_of_result(
    inputs: tuple[Any, ...],
    cotangent: Any,
    directions: tuple[Any, ...],
    *,
    ignore_index: int,
    label_smoothing: Any,
    reduction: str,
) -> tuple[Any, None, None]:
    """The gradient of <d, u - y Σ uⱼ> in z, g = -d y Σ uⱼ, taken back through z."""
    x, target, weight = inputs
    axis = class_axis(x.shape)
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    y = np.exp(log_softmax_text(x, axis=axis))
    g = -total(u, axis) * y * directions[0]
    return g - y * total(g, axis), None, None


CROSS_ENTROPY = Formula(
    name="cross_entropy",
    title="Cross-entropy of class indices",
    equation="-w_t log softmax(x)_t, smoothed by ε over all classes",
    source=SOURCE,
    value=_cross_entropy,
    vjp=_cross_entropy_vjp,
    inputs=("x", "target", "weight"),
    kinds=("real", "index", "positive"),
    constants=("target", "weight"),
    options=(_IGNORE, SMOOTHING, REDUCTION),
    arrange=_of_indices,
    families=FAMILIES,
    variants=(
        accepted(VALUE, "against a smoothed distribution", _cross_entropy_as_distribution),
        stable(VALUE, "smoothed after the reduction", _cross_entropy_reduced_first),
        unstable(VALUE, "smoothed after the reduction, C divides last", _cross_entropy_divided_last),
        unstable(VALUE, "log of softmax", _cross_entropy_of_softmax),
        accepted(VALUE, "logsumexp x - x_t", _cross_entropy_by_logsumexp),
        accepted(DERIVATIVE, "from exp(x - logsumexp x)", _cross_entropy_vjp_by_logsumexp),
        accepted(DERIVATIVE, "from exp of log-softmax", _cross_entropy_vjp_of_result),
        accepted(SECOND, "back through the gradient's result", _cross_entropy_second_of_result),
    ),
    hazards=(
        "log of softmax is -inf once softmax underflows",
        "a mean over ignored targets alone is 0/0",
        "the mean divides by the weights of the targets, not by their number",
    ),
)


def _nll_loss(x: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str) -> Any:
    """Value -w_t x_t for logarithms x of probabilities; ignored targets and the mean as for cross-entropy."""
    return _mean_by_weight(*_likelihood(x, target, weight, 0, ignore_index), reduction)


def _nll_loss_vjp(
    inputs: tuple[Any, ...], cotangent: Any, *, ignore_index: int, reduction: str
) -> tuple[Any, None, None]:
    """Gradient -c w_t at the target, 0 elsewhere, c shared out by weight."""
    x, target, weight = inputs
    return _upstream(x, target, weight, cotangent, 0, ignore_index, reduction), None, None


NLL_LOSS = Formula(
    name="nll_loss",
    title="Negative log-likelihood",
    equation="-w_t x_t",
    source=SOURCE,
    value=_nll_loss,
    vjp=_nll_loss_vjp,
    inputs=("x", "target", "weight"),
    kinds=("real", "index", "positive"),
    constants=("target", "weight"),
    options=(_IGNORE, REDUCTION),
    arrange=_of_indices,
    families=FAMILIES,
    hazards=("the mean divides by the weights of the targets, not by their number",),
)

FORMULAS = (CROSS_ENTROPY, NLL_LOSS)
