"""Losses of a classifier: cross-entropy of class indices and of probabilities, negative log-likelihood.

Shapes: x (C,), (N, C) or (N, C, d), an index target without the axis C, weight (C,). Source: Bishop, Pattern
Recognition and Machine Learning, 2006, section 4.3.4; label smoothing: Szegedy et al., CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.formulas.reductions import REDUCTION, reduced, share
from gradcheck.formulas.softmax import (
    log_softmax_of_softmax,
    log_softmax_text,
    log_softmax_vjp_of_result,
    log_softmax_vjp_text,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Arrangement, Choose, Formula, Option

_SOURCE = "Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4"
_FAMILIES = ("plain", "moderate", "saturated", "offset", "large mean", "ties", "constant")
_IGNORE = Option("ignore_index", -100, structural=True)
_SMOOTHING = Option("label_smoothing", 0.0, 0.0, 1.0)
_MOST, _BATCH = 17, 5


def _shape(choose: Choose) -> tuple[int, ...]:
    """One sample, a batch of them, or a batch of sequences; the classes are on axis 0 or 1."""
    classes, form = choose.size(high=_MOST), choose.integer(0, 2)
    batch = choose.size(high=_BATCH) if form else 0
    return ((classes,), (batch, classes), (batch, classes, choose.size(high=3) if form else 0))[form]


def _axis(shape: tuple[int, ...]) -> int:
    return min(len(shape) - 1, 1)


def _of_indices(choose: Choose) -> Arrangement:
    """A shape, and an index to ignore: one that is no class, or the first class where there are more."""
    shape = _shape(choose)
    axis = _axis(shape)
    ignored = choose.choice((-100, 0)) if shape[axis] > 1 else -100
    target = shape[:axis] + shape[axis + 1 :]
    return Arrangement((shape, target, (shape[axis],)), {"ignore_index": ignored}, classes=shape[axis])


def _of_probabilities(choose: Choose) -> Arrangement:
    shape = _shape(choose)
    return Arrangement((shape, shape, (shape[_axis(shape)],)))


def _total(terms: Any, axis: int) -> Any:
    return np.sum(terms, axis=axis, keepdims=True)


def _column(weight: Any, shape: tuple[int, ...]) -> Any:
    """Return the weight of every class along the axis of the classes."""
    return np.reshape(weight, (shape[_axis(shape)],) + (1,) * (len(shape) - 1 - _axis(shape)))


def _counted(target: Any, ignore_index: int, classes: int) -> tuple[Any, Any]:
    """Return which targets count, and the targets with those that do not replaced by class 0."""
    counted = np.not_equal(target, ignore_index)
    kept = np.where(counted, target, 0)
    if np.any((kept < 0) | (kept >= classes)):
        raise UsageError(f"a target is a class from 0 to {classes - 1} or ignore_index={ignore_index}")
    return counted, kept


def _hot(kept: Any, counted: Any, shape: tuple[int, ...]) -> Any:
    """Return where a class is the target of its sample, and the sample counts."""
    axis = _axis(shape)
    classes = np.reshape(np.arange(shape[axis]), (shape[axis],) + (1,) * (len(shape) - 1 - axis))
    return np.equal(np.expand_dims(kept, axis), classes) & np.expand_dims(counted, axis)


def _likelihood(scores: Any, target: Any, weight: Any, smoothing: Any, ignore_index: int) -> tuple[Any, Any]:
    """Return the loss of every sample from the logarithms of its probabilities, and its weight."""
    axis = _axis(scores.shape)
    counted, kept = _counted(target, ignore_index, scores.shape[axis])
    own = np.where(counted, weight[kept], 0)
    picked = np.squeeze(np.take_along_axis(scores, np.expand_dims(kept, axis), axis), axis=axis)
    hard = -np.where(counted, weight[kept] * picked, 0)
    if smoothing == 0:
        return hard, own
    even = -np.where(counted, np.sum(_column(weight, scores.shape) * scores, axis=axis), 0)
    return (1 - smoothing) * hard + (smoothing / scores.shape[axis]) * even, own


def _mean_by_weight(losses: Any, own: Any, reduction: str) -> Any:
    """Reduce; the mean divides by the sum of the weights of the targets that count, and is NaN for none."""
    return np.sum(losses) / np.sum(own) if reduction == "mean" else reduced(losses, reduction)


def _upstream(
    scores: Any, target: Any, weight: Any, cotangent: Any, smoothing: Any, ignore_index: int, reduction: str
) -> Any:
    """Return the gradient with respect to the logarithms of the probabilities."""
    shape = scores.shape
    axis = _axis(shape)
    counted, kept = _counted(target, ignore_index, shape[axis])
    column = _column(weight, shape)
    if reduction == "mean":
        cotangent = cotangent / np.sum(np.where(counted, weight[kept], 0))
    g = np.expand_dims(cotangent, axis) if reduction == "none" else cotangent
    hot = np.where(_hot(kept, counted, shape), column, 0)
    if smoothing == 0:
        return -(g * hot)
    even = np.where(np.expand_dims(counted, axis), column, 0)
    return -(g * ((1 - smoothing) * hot + (smoothing / shape[axis]) * even))


def _cross_entropy(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    """Value -w_t z_t, z = log softmax x; smoothed by ε: (1 - ε)(-w_t z_t) + (ε/C) Σ -w_c z_c.

    A target equal to `ignore_index` counts for nothing. The mean divides by the sum of the weights w_t of
    the targets that count; where none does it is NaN.
    """
    z = log_softmax_text(x, axis=_axis(x.shape))
    return _mean_by_weight(*_likelihood(z, target, weight, label_smoothing, ignore_index), reduction)


def _cross_entropy_vjp(
    inputs: tuple[Any, ...], cotangent: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> tuple[Any, None, None]:
    """Gradient u - y Σ uⱼ, y the softmax, u the gradient in z: -w_t at the target, smoothed over all."""
    x, target, weight = inputs
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    return log_softmax_vjp_text((x,), u, axis=_axis(x.shape))[0], None, None


def _cross_entropy_as_distribution(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    axis = _axis(x.shape)
    counted, kept = _counted(target, ignore_index, x.shape[axis])
    hot = np.where(_hot(kept, counted, x.shape), np.full_like(x, 1), np.full_like(x, 0))
    even = np.where(np.expand_dims(counted, axis), np.full_like(x, 1), 0) * (label_smoothing / x.shape[axis])
    q = hot * (1 - label_smoothing) + even
    losses = -np.sum(q * log_softmax_text(x, axis=axis) * _column(weight, x.shape), axis=axis)
    return _mean_by_weight(losses, np.where(counted, weight[kept], 0), reduction)


def _cross_entropy_reduced_first(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    z = log_softmax_text(x, axis=_axis(x.shape))
    hard, own = _likelihood(z, target, weight, 0, ignore_index)
    even, _ = _likelihood(z, target, weight, 1, ignore_index)
    first, second = _mean_by_weight(hard, own, reduction), _mean_by_weight(even, own, reduction)
    return (1 - label_smoothing) * first + label_smoothing * second


def _cross_entropy_of_softmax(
    x: Any, target: Any, weight: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> Any:
    z = log_softmax_of_softmax(x, axis=_axis(x.shape))
    return _mean_by_weight(*_likelihood(z, target, weight, label_smoothing, ignore_index), reduction)


def _cross_entropy_vjp_of_result(
    inputs: tuple[Any, ...], cotangent: Any, *, ignore_index: int, label_smoothing: Any, reduction: str
) -> tuple[Any, None, None]:
    x, target, weight = inputs
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    return log_softmax_vjp_of_result((x,), u, axis=_axis(x.shape))[0], None, None


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
    axis = _axis(x.shape)
    u = _upstream(x, target, weight, cotangent, label_smoothing, ignore_index, reduction)
    y = np.exp(log_softmax_text(x, axis=axis))
    g = -_total(u, axis) * y * directions[0]
    return g - y * _total(g, axis), None, None


CROSS_ENTROPY = Formula(
    name="cross_entropy",
    title="Cross-entropy of class indices",
    equation="-w_t log softmax(x)_t, smoothed by ε over all classes",
    source=_SOURCE,
    value=_cross_entropy,
    vjp=_cross_entropy_vjp,
    inputs=("x", "target", "weight"),
    kinds=("real", "index", "positive"),
    constants=("target", "weight"),
    options=(_IGNORE, _SMOOTHING, REDUCTION),
    arrange=_of_indices,
    families=_FAMILIES,
    variants=(
        accepted(VALUE, "against a smoothed distribution", _cross_entropy_as_distribution),
        stable(VALUE, "smoothed after the reduction", _cross_entropy_reduced_first),
        unstable(VALUE, "log of softmax", _cross_entropy_of_softmax),
        accepted(DERIVATIVE, "from exp of log-softmax", _cross_entropy_vjp_of_result),
        accepted(SECOND, "back through the gradient's result", _cross_entropy_second_of_result),
    ),
    hazards=(
        "log of softmax is -inf once softmax underflows",
        "a mean over ignored targets alone is 0/0",
        "the mean divides by the weights of the targets, not by their number",
    ),
)


def _smoothed(target: Any, smoothing: Any, classes: int) -> Any:
    return target if smoothing == 0 else (1 - smoothing) * target + smoothing / classes


def _cross_entropy_probabilities(
    x: Any, target: Any, weight: Any, *, label_smoothing: Any, reduction: str
) -> Any:
    """Value -Σ w_c q_c z_c, z = log softmax x, q = (1 - ε) t + ε/C; the mean divides by the samples."""
    axis = _axis(x.shape)
    q = _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_text(x, axis=axis)
    return reduced(-np.sum(z * q * _column(weight, x.shape), axis=axis), reduction)


def _to_samples(cotangent: Any, shape: tuple[int, ...], reduction: str) -> Any:
    """Return the gradient with respect to every sample's loss, spread over the classes."""
    axis = _axis(shape)
    if reduction == "none":
        return np.expand_dims(cotangent, axis)
    return share(cotangent, np.empty(shape[:axis] + shape[axis + 1 :]), reduction)


def _cross_entropy_probabilities_vjp(
    inputs: tuple[Any, ...], cotangent: Any, *, label_smoothing: Any, reduction: str
) -> tuple[Any, Any, None]:
    """Gradients u - y Σ uⱼ with u = -c w q, and -(1 - ε) c w z in the target."""
    x, target, weight = inputs
    axis = _axis(x.shape)
    g = -_to_samples(cotangent, x.shape, reduction) * _column(weight, x.shape)
    u = g * _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_text(x, axis=axis)
    return log_softmax_vjp_text((x,), u, axis=axis)[0], g * z * (1 - label_smoothing), None


def _cross_entropy_probabilities_at_once(
    x: Any, target: Any, weight: Any, *, label_smoothing: Any, reduction: str
) -> Any:
    axis = _axis(x.shape)
    terms = log_softmax_text(x, axis=axis) * _smoothed(target, label_smoothing, x.shape[axis])
    terms = terms * _column(weight, x.shape)
    total = -np.sum(terms, axis=axis if reduction == "none" else None)
    return share(total, np.empty(x.shape[:axis] + x.shape[axis + 1 :]), reduction)


def _cross_entropy_probabilities_of_softmax(
    x: Any, target: Any, weight: Any, *, label_smoothing: Any, reduction: str
) -> Any:
    axis = _axis(x.shape)
    q = _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_of_softmax(x, axis=axis)
    return reduced(-np.sum(z * q * _column(weight, x.shape), axis=axis), reduction)


def _cross_entropy_probabilities_vjp_of_result(
    inputs: tuple[Any, ...], cotangent: Any, *, label_smoothing: Any, reduction: str
) -> tuple[Any, Any, None]:
    x, target, weight = inputs
    axis = _axis(x.shape)
    g = -_to_samples(cotangent, x.shape, reduction) * _column(weight, x.shape)
    u = g * _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_text(x, axis=axis)
    return log_softmax_vjp_of_result((x,), u, axis=axis)[0], g * z * (1 - label_smoothing), None


def _cross_entropy_probabilities_second(
    inputs: tuple[Any, ...],
    cotangent: Any,
    directions: tuple[Any, ...],
    *,
    label_smoothing: Any,
    reduction: str,
) -> tuple[Any, Any, None]:
    """Back through u - y Σ uⱼ and through g z: in z, -d y Σ uⱼ + (1 - ε) g dt; in t, (1 - ε) g (d - Σ yd)."""
    (x, target, weight), (d, along, _) = inputs, directions
    axis = _axis(x.shape)
    g = -_to_samples(cotangent, x.shape, reduction) * _column(weight, x.shape)
    u = g * _smoothed(target, label_smoothing, x.shape[axis])
    y = np.exp(log_softmax_text(x, axis=axis))
    first = -_total(u, axis) * y * d
    second = g * along * (1 - label_smoothing)
    in_target = (d - _total(y * d, axis)) * g * (1 - label_smoothing)
    in_x = first - y * _total(first, axis) + (second - y * _total(second, axis))
    return in_x, in_target, None


CROSS_ENTROPY_PROBABILITIES = Formula(
    name="cross_entropy_probabilities",
    title="Cross-entropy of class probabilities",
    equation="-Σ w_c ((1 - ε) t_c + ε/C) log softmax(x)_c",
    source=_SOURCE,
    value=_cross_entropy_probabilities,
    vjp=_cross_entropy_probabilities_vjp,
    inputs=("x", "target", "weight"),
    kinds=("real", "distribution", "positive"),
    constants=("weight",),
    options=(_SMOOTHING, REDUCTION),
    arrange=_of_probabilities,
    families=_FAMILIES,
    variants=(
        stable(VALUE, "summed at once", _cross_entropy_probabilities_at_once),
        unstable(VALUE, "log of softmax", _cross_entropy_probabilities_of_softmax),
        accepted(DERIVATIVE, "from exp of log-softmax", _cross_entropy_probabilities_vjp_of_result),
        accepted(SECOND, "back through the gradient's result", _cross_entropy_probabilities_second),
    ),
    hazards=("log of softmax is -inf once softmax underflows, and 0 · inf is NaN where t is 0",),
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
    source=_SOURCE,
    value=_nll_loss,
    vjp=_nll_loss_vjp,
    inputs=("x", "target", "weight"),
    kinds=("real", "index", "positive"),
    constants=("target", "weight"),
    options=(_IGNORE, REDUCTION),
    arrange=_of_indices,
    families=_FAMILIES,
    hazards=("the mean divides by the weights of the targets, not by their number",),
)

FORMULAS = (CROSS_ENTROPY, CROSS_ENTROPY_PROBABILITIES, NLL_LOSS)
