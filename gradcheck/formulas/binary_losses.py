"""Binary cross-entropy, of probabilities and of their logits.

Shapes: x, target and weight alike; pos_weight one number per entry of the last axis. Source: Bishop, Pattern
Recognition and Machine Learning, 2006, section 4.3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.formulas.parts import accepted, logistic, magnitude, printed_logistic, stable, unstable
from gradcheck.formulas.reductions import REDUCTION, alike, reduced, share, some_axes
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Arrangement, Choose, Formula, Option

_SOURCE = "Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.2"


def _log(x: Any, floor: Any) -> Any:
    """Return log x, but no less than the floor; the floor at 0, whatever the arithmetic says of log 0."""
    inside = np.where(x <= 0, np.full_like(x, 1), x)
    return np.where(x <= 0, np.full_like(x, floor), np.maximum(np.log(inside), floor))


def _log_complement(x: Any, floor: Any) -> Any:
    """Return log(1 - x), but no less than the floor."""
    inside = np.where(x >= 1, np.full_like(x, 0), x)
    return np.where(x >= 1, np.full_like(x, floor), np.maximum(np.log1p(-inside), floor))


def _slope(x: Any, floor: Any) -> Any:
    """Return the derivative of `_log`: 1/x, or 0 where the floor is reached."""
    inside = np.where(x <= 0, np.full_like(x, 1), x)
    reached = np.where(np.log(inside) < floor, np.full_like(x, 0), 1 / inside)
    return np.where(x <= 0, np.full_like(x, 0), reached)


def _binary_cross_entropy(x: Any, target: Any, weight: Any, *, floor: Any, reduction: str) -> Any:
    """Value -w (t log x + (1 - t) log(1 - x)), no logarithm below the floor; mathematically that is -inf."""
    losses = -(target * _log(x, floor) + (1 - target) * _log_complement(x, floor))
    return reduced(weight * losses, reduction)


def _binary_cross_entropy_vjp(
    inputs: tuple[Any, Any, Any], cotangent: Any, *, floor: Any, reduction: str
) -> tuple[Any, Any, None]:
    """Gradients c w (x - t) / (x (1 - x)), where no floor is reached, and c w (log(1 - x) - log x)."""
    x, target, weight = inputs
    g = share(cotangent, x, reduction) * weight
    ends = np.where(_slope(x, floor) > 0, np.full_like(x, 0), np.full_like(x, 1))
    ends = np.where(_slope(1 - x, floor) > 0, ends, np.full_like(x, 1))
    inside = np.where(ends > 0, np.full_like(x, 0.5), x)
    apart = (1 - target) * _slope(1 - x, floor) - target * _slope(x, floor)
    slope = np.where(ends > 0, apart, (inside - target) / (inside * (1 - inside)))
    return g * slope, g * (_log_complement(x, floor) - _log(x, floor)), None


def _bce_difference(x: Any, target: Any, weight: Any, *, floor: Any, reduction: str) -> Any:
    losses = (target - 1) * _log_complement(x, floor) - target * _log(x, floor)
    return reduced(losses * weight, reduction)


def _bce_rounded_complement(x: Any, target: Any, weight: Any, *, floor: Any, reduction: str) -> Any:
    losses = -(target * _log(x, floor) + (1 - target) * _log(1 - x, floor))
    return reduced(weight * losses, reduction)


def _bce_vjp_apart(
    inputs: tuple[Any, Any, Any], cotangent: Any, *, floor: Any, reduction: str
) -> tuple[Any, Any, None]:
    x, target, weight = inputs
    g = share(cotangent, x, reduction) * weight
    slope = (1 - target) * _slope(1 - x, floor) - target * _slope(x, floor)
    return g * slope, g * (_log(1 - x, floor) - _log(x, floor)), None


def _bce_vjp_shared_last(
    inputs: tuple[Any, Any, Any], cotangent: Any, *, floor: Any, reduction: str
) -> tuple[Any, Any, None]:
    x, target, weight = inputs
    # Without a reduction nothing is shared out, and the weight is the last factor.
    in_x, in_target, _ = _binary_cross_entropy_vjp(
        (x, target, np.full_like(x, 1)), cotangent, floor=floor, reduction="none"
    )
    return share(in_x * weight, x, reduction), share(in_target * weight, x, reduction), None


BINARY_CROSS_ENTROPY = Formula(
    name="binary_cross_entropy",
    title="Binary cross-entropy",
    equation="-w (t log x + (1 - t) log(1 - x))",
    source=_SOURCE,
    value=_binary_cross_entropy,
    vjp=_binary_cross_entropy_vjp,
    inputs=("x", "target", "weight"),
    kinds=("interior", "unit", "positive"),
    constants=("weight",),
    options=(Option("floor", -100.0, structural=True), REDUCTION),
    arrange=alike(3),
    families=("plain", "moderate", "grid", "scaled"),
    domain=(0.0, 1.0),
    variants=(
        stable(VALUE, "(t - 1) log(1 - x) - t log x", _bce_difference),
        accepted(VALUE, "the complement rounded before its logarithm", _bce_rounded_complement),
        accepted(DERIVATIVE, "two quotients", _bce_vjp_apart),
        unstable(DERIVATIVE, "the mean's n divides last, after an overflow", _bce_vjp_shared_last),
    ),
    hazards=(
        "log 0: libraries replace the logarithm below a floor, -100 in torch; the floor has no gradient",
        "(1 - t)/(1 - x) and t/x cancel where x is near t",
    ),
)


def _softplus_rest(x: Any) -> Any:
    return np.log1p(np.exp(-magnitude(x)))


def _with_logits(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    """Value w (q t softplus(-x) + (1 - t) softplus(x)): no two terms cancel, no exponential overflows."""
    rest = _softplus_rest(x)
    losses = pos_weight * target * (np.maximum(-x, 0) + rest) + (1 - target) * (np.maximum(x, 0) + rest)
    return reduced(weight * losses, reduction)


def _with_logits_vjp(
    inputs: tuple[Any, Any, Any, Any], cotangent: Any, *, reduction: str
) -> tuple[Any, Any, None, None]:
    """Gradients c w ((1 - t) σ(x) - q t σ(-x)) and c w (q softplus(-x) - softplus(x))."""
    x, target, weight, pos_weight = inputs
    g = share(cotangent, x, reduction) * weight
    slope = (1 - target) * logistic(x) - pos_weight * target * logistic(-x)
    rest = _softplus_rest(x)
    in_target = pos_weight * (np.maximum(-x, 0) + rest) - (np.maximum(x, 0) + rest)
    return g * slope, g * in_target, None, None


def _log_logistic(x: Any) -> Any:
    return np.minimum(x, 0) - _softplus_rest(x)


def _with_logits_by_log_sigmoid(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    losses = (1 - target) * x - ((pos_weight - 1) * target + 1) * _log_logistic(x)
    return reduced(losses * weight, reduction)


def _with_logits_of_sigmoid(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    y = printed_logistic(x)
    losses = -(pos_weight * target * np.log(y) + (1 - target) * np.log(1 - y))
    return reduced(weight * losses, reduction)


def _with_logits_vjp_of_sigmoid(
    inputs: tuple[Any, Any, Any, Any], cotangent: Any, *, reduction: str
) -> tuple[Any, Any, None, None]:
    x, target, weight, pos_weight = inputs
    scaled = pos_weight * target
    slope = ((scaled + 1) - target) * printed_logistic(x) - scaled
    in_target = _log_logistic(-x) - pos_weight * _log_logistic(x)
    # The mean's n divides last, after a product that may have overflowed.
    in_x, in_target = slope * cotangent * weight, in_target * cotangent * weight
    return share(in_x, x, reduction), share(in_target, x, reduction), None, None


def _with_logits_second_of_sigmoid(
    inputs: tuple[Any, ...], cotangent: Any, directions: tuple[Any, ...], *, reduction: str
) -> tuple[Any, Any, None, None]:
    """Back through ((qt + 1) - t) y - qt, y = σ(x), with y' = y(1 - y)."""
    (x, target, weight, pos_weight), (d, along, _, _) = inputs, directions
    g = share(cotangent, x, reduction) * weight
    y = printed_logistic(x)
    in_x = d * g * ((pos_weight * target + 1) - target) * (1 - y) * y
    cross = (pos_weight - 1) * y - pos_weight
    return in_x + along * g * cross, d * g * cross, None, None


def _with_positive_weight(choose: Choose) -> Arrangement:
    shape = some_axes(choose)
    return Arrangement((shape, shape, shape, shape[-1:]))


BINARY_CROSS_ENTROPY_WITH_LOGITS = Formula(
    name="binary_cross_entropy_with_logits",
    title="Binary cross-entropy of logits",
    equation="w (q t softplus(-x) + (1 - t) softplus(x))",
    source=_SOURCE,
    value=_with_logits,
    vjp=_with_logits_vjp,
    inputs=("x", "target", "weight", "pos_weight"),
    kinds=("real", "unit", "positive", "positive"),
    constants=("weight", "pos_weight"),
    options=(REDUCTION,),
    arrange=_with_positive_weight,
    families=("plain", "moderate", "saturated", "thresholds", "grid", "offset", "kinks"),
    variants=(
        unstable(VALUE, "(1 - t) x - (1 + (q - 1) t) log σ(x)", _with_logits_by_log_sigmoid),
        unstable(VALUE, "logarithms of the sigmoid", _with_logits_of_sigmoid),
        unstable(DERIVATIVE, "(1 + (q - 1) t) σ(x) - q t", _with_logits_vjp_of_sigmoid),
        unstable(SECOND, "y(1 - y) from the sigmoid", _with_logits_second_of_sigmoid),
    ),
    hazards=(
        "(1 - t) x - log σ(x) is 0 for t = 0 and x far below 0, where the loss is e^x",
        "σ(x) - t is 0 for t = 1 once σ rounds to 1",
        "log(1 - σ(x)) is -inf once σ rounds to 1",
    ),
)

FORMULAS = (BINARY_CROSS_ENTROPY, BINARY_CROSS_ENTROPY_WITH_LOGITS)
