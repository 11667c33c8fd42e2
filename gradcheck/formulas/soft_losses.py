"""Cross-entropy against a distribution over the classes instead of one of them.

Shapes: x and target (C,), (N, C) or (N, C, d), weight (C,). Source: Bishop, Pattern Recognition and Machine
Learning, 2006, section 4.3.4; label smoothing: Szegedy et al., CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.formulas.losses import FAMILIES, SMOOTHING, SOURCE
from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.formulas.reductions import REDUCTION, class_axis, column, reduced, scores_shape, share, total
from gradcheck.formulas.softmax import (
    log_softmax_of_softmax,
    log_softmax_text,
    log_softmax_vjp_of_result,
    log_softmax_vjp_text,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Arrangement, Choose, Formula


def _of_probabilities(choose: Choose) -> Arrangement:
    shape = scores_shape(choose)
    return Arrangement((shape, shape, (shape[class_axis(shape)],)))


def _smoothed(target: Any, smoothing: Any, classes: int) -> Any:
    return target if smoothing == 0 else (1 - smoothing) * target + smoothing / classes


def _cross_entropy_probabilities(
    x: Any, target: Any, weight: Any, *, label_smoothing: Any, reduction: str
) -> Any:
    """Value -Σ w_c q_c z_c, z = log softmax x, q = (1 - ε) t + ε/C; the mean divides by the samples."""
    axis = class_axis(x.shape)
    q = _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_text(x, axis=axis)
    return reduced(-np.sum(z * q * column(weight, x.shape), axis=axis), reduction)


def _to_samples(cotangent: Any, shape: tuple[int, ...], reduction: str) -> Any:
    """Return the gradient with respect to every sample's loss, spread over the classes."""
    axis = class_axis(shape)
    if reduction == "none":
        return np.expand_dims(cotangent, axis)
    return share(cotangent, np.empty(shape[:axis] + shape[axis + 1 :]), reduction)


def _cross_entropy_probabilities_vjp(
    inputs: tuple[Any, ...], cotangent: Any, *, label_smoothing: Any, reduction: str
) -> tuple[Any, Any, None]:
    """Gradients u - y Σ uⱼ with u = -c w q, and -(1 - ε) c w z in the target."""
    x, target, weight = inputs
    axis = class_axis(x.shape)
    g = -_to_samples(cotangent, x.shape, reduction) * column(weight, x.shape)
    u = g * _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_text(x, axis=axis)
    return log_softmax_vjp_text((x,), u, axis=axis)[0], g * z * (1 - label_smoothing), None


def _cross_entropy_probabilities_at_once(
    x: Any, target: Any, weight: Any, *, label_smoothing: Any, reduction: str
) -> Any:
    axis = class_axis(x.shape)
    terms = log_softmax_text(x, axis=axis) * _smoothed(target, label_smoothing, x.shape[axis])
    terms = terms * column(weight, x.shape)
    added = -np.sum(terms, axis=axis if reduction == "none" else None)
    return share(added, np.empty(x.shape[:axis] + x.shape[axis + 1 :]), reduction)


def _cross_entropy_probabilities_of_softmax(
    x: Any, target: Any, weight: Any, *, label_smoothing: Any, reduction: str
) -> Any:
    axis = class_axis(x.shape)
    q = _smoothed(target, label_smoothing, x.shape[axis])
    z = log_softmax_of_softmax(x, axis=axis)
    return reduced(-np.sum(z * q * column(weight, x.shape), axis=axis), reduction)


def _cross_entropy_probabilities_vjp_of_result(
    inputs: tuple[Any, ...], cotangent: Any, *, label_smoothing: Any, reduction: str
) -> tuple[Any, Any, None]:
    x, target, weight = inputs
    axis = class_axis(x.shape)
    g = -_to_samples(cotangent, x.shape, reduction) * column(weight, x.shape)
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
    axis = class_axis(x.shape)
    g = -_to_samples(cotangent, x.shape, reduction) * column(weight, x.shape)
    u = g * _smoothed(target, label_smoothing, x.shape[axis])
    y = np.exp(log_softmax_text(x, axis=axis))
    first = -total(u, axis) * y * d
    second = g * along * (1 - label_smoothing)
    in_target = (d - total(y * d, axis)) * g * (1 - label_smoothing)
    in_x = first - y * total(first, axis) + (second - y * total(second, axis))
    return in_x, in_target, None


CROSS_ENTROPY_PROBABILITIES = Formula(
    name="cross_entropy_probabilities",
    title="Cross-entropy of class probabilities",
    equation="-Σ w_c ((1 - ε) t_c + ε/C) log softmax(x)_c",
    source=SOURCE,
    value=_cross_entropy_probabilities,
    vjp=_cross_entropy_probabilities_vjp,
    inputs=("x", "target", "weight"),
    kinds=("real", "distribution", "positive"),
    constants=("weight",),
    options=(SMOOTHING, REDUCTION),
    arrange=_of_probabilities,
    families=FAMILIES,
    variants=(
        stable(VALUE, "summed at once", _cross_entropy_probabilities_at_once),
        unstable(VALUE, "log of softmax", _cross_entropy_probabilities_of_softmax),
        accepted(DERIVATIVE, "from exp of log-softmax", _cross_entropy_probabilities_vjp_of_result),
        accepted(SECOND, "back through the gradient's result", _cross_entropy_probabilities_second),
    ),
    hazards=("log of softmax is -inf once softmax underflows, and 0 · inf is NaN where t is 0",),
)

FORMULAS = (CROSS_ENTROPY_PROBABILITIES,)
