"""Softmax, its logarithm, and the logarithm of the sum of exponentials, along one axis of an array.

All three subtract the largest element first, so that no exponential overflows. Source: Blanchard, Higham &
Higham, Accurately computing the log-sum-exp and softmax functions, IMA J. Numerical Analysis 41, 2021.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Arrangement, Choose, Formula, Option

INF = math.inf
_SOURCE = "Blanchard, Higham & Higham, IMA Journal of Numerical Analysis 41, 2021"
_FAMILIES = ("plain", "saturated", "offset", "large mean", "scaled", "ties", "constant", "thresholds")
_AXIS = (Option("axis", -1, structural=True),)
# A row's length is bounded by the run; the other axes only repeat it.
_ROWS = 3


def _arrange(choose: Choose) -> Arrangement:
    """One to three axes, any of which may be the one that is summed over, counted from either end."""
    dimensions = choose.integer(1, 3)
    axis = choose.integer(-dimensions, dimensions - 1)
    shape = tuple(
        choose.size() if place == axis % dimensions else choose.size(high=_ROWS)
        for place in range(dimensions)
    )
    return Arrangement((shape,), {"axis": axis})


def _total(x: Any, axis: int) -> Any:
    return np.sum(x, axis=axis, keepdims=True)


def _shifted(x: Any, axis: int) -> Any:
    return x - np.max(x, axis=axis, keepdims=True)


def _finite_max(x: Any, axis: int) -> Any:
    """The largest element, or 0 where that is infinite or NaN and must not be subtracted."""
    m = np.max(x, axis=axis, keepdims=True)
    return np.where(np.abs(m) < INF, m, 0)


def softmax_text(x: Any, *, axis: int) -> Any:
    """Value yᵢ = eᵢ / Σ eⱼ, e = exp(x - max x)."""
    e = np.exp(_shifted(x, axis))
    return e / _total(e, axis)


def _softmax_vjp(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    """Gradient y (c - Σ cⱼyⱼ): the Jacobian is diag(y) - yyᵀ."""
    y = softmax_text(*inputs, axis=axis)
    return (y * (cotangent - _total(cotangent * y, axis)),)


def _softmax_by_log(x: Any, *, axis: int) -> Any:
    return np.exp(log_softmax_text(x, axis=axis))


def _softmax_by_logsumexp(x: Any, *, axis: int) -> Any:
    return np.exp(x - np.expand_dims(logsumexp_text(x, axis=axis), axis))


def _softmax_printed(x: Any, *, axis: int) -> Any:
    return np.exp(x) / _total(np.exp(x), axis)


def _softmax_by_reciprocal(x: Any, *, axis: int) -> Any:
    e = np.exp(_shifted(x, axis))
    return e * (1 / _total(e, axis))


def _softmax_vjp_distributed(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    y = softmax_text(*inputs, axis=axis)
    return (cotangent * y - y * _total(cotangent * y, axis),)


def _softmax_vjp_quotient(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    e = np.exp(_shifted(*inputs, axis))
    s = _total(e, axis)
    return ((cotangent / s - _total(cotangent * (e / s) / s, axis)) * e,)


def _softmax_vjp_by_log(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    y = _softmax_by_log(*inputs, axis=axis)
    return (cotangent * y - y * _total(cotangent * y, axis),)


def _softmax_vjp_by_logsumexp(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    y = _softmax_by_logsumexp(*inputs, axis=axis)
    return (cotangent * y - y * _total(cotangent * y, axis),)


def _softmax_vjp_printed(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    y = _softmax_printed(*inputs, axis=axis)
    return (y * (cotangent - _total(cotangent * y, axis)),)


def _softmax_second_of_result(
    inputs: tuple[Any], cotangent: Any, directions: tuple[Any], *, axis: int
) -> tuple[Any]:
    """The gradient of <d, y (c - Σ cⱼyⱼ)> in y, cd - (Σ yd) c - d Σ cy, taken back through y."""
    y, (d,) = softmax_text(*inputs, axis=axis), directions
    g = d * cotangent - _total(y * d, axis) * cotangent - d * _total(y * cotangent, axis)
    return (y * (g - _total(g * y, axis)),)


SOFTMAX = Formula(
    name="softmax",
    title="Softmax",
    equation="e^(xᵢ - max x) / Σ e^(xⱼ - max x)",
    source=_SOURCE,
    value=softmax_text,
    vjp=_softmax_vjp,
    options=_AXIS,
    arrange=_arrange,
    families=_FAMILIES,
    variants=(
        stable(VALUE, "times the reciprocal of the sum", _softmax_by_reciprocal),
        accepted(VALUE, "exp of log-softmax", _softmax_by_log),
        accepted(VALUE, "exp(x - logsumexp x)", _softmax_by_logsumexp),
        unstable(VALUE, "e^x / Σ e^x, overflows", _softmax_printed),
        stable(DERIVATIVE, "cy - y Σ cy", _softmax_vjp_distributed),
        stable(DERIVATIVE, "back through the quotient", _softmax_vjp_quotient),
        accepted(DERIVATIVE, "from exp of log-softmax", _softmax_vjp_by_log),
        accepted(DERIVATIVE, "from exp(x - logsumexp x)", _softmax_vjp_by_logsumexp),
        unstable(DERIVATIVE, "from e^x / Σ e^x", _softmax_vjp_printed),
        stable(SECOND, "back through the gradient's result", _softmax_second_of_result),
    ),
    textbook=_softmax_printed,
    hazards=(
        "e^x overflows where softmax is an ordinary number",
        "c - Σ cy cancels where one yᵢ rounds to 1: the gradient there is 0 up to a unit roundoff of c",
    ),
)


def log_softmax_text(x: Any, *, axis: int) -> Any:
    """Value xᵢ - max x - log Σ e^(xⱼ - max x)."""
    s = _shifted(x, axis)
    return s - np.log(_total(np.exp(s), axis))


def log_softmax_vjp_text(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    """Gradient c - y Σ cⱼ: the Jacobian is I - 1yᵀ."""
    return (cotangent - softmax_text(*inputs, axis=axis) * _total(cotangent, axis),)


def _log_softmax_guarded(x: Any, *, axis: int) -> Any:
    s = x - _finite_max(x, axis)
    return s - np.log(_total(np.exp(s), axis))


def log_softmax_by_logsumexp(x: Any, *, axis: int) -> Any:
    """Log-softmax as x less the log-sum-exp: exact for an input some roundoffs of x away."""
    return x - np.expand_dims(logsumexp_text(x, axis=axis), axis)


def log_softmax_of_softmax(x: Any, *, axis: int) -> Any:
    """Log-softmax as its name says, log yᵢ: -inf once yᵢ underflows."""
    return np.log(softmax_text(x, axis=axis))


def _log_softmax_printed(x: Any, *, axis: int) -> Any:
    return x - np.log(_total(np.exp(x), axis))


def log_softmax_vjp_of_result(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    """The gradient of log-softmax with y as the exponential of its result."""
    y = np.exp(log_softmax_text(*inputs, axis=axis))
    return (cotangent - y * _total(cotangent, axis),)


def log_softmax_vjp_by_logsumexp(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    """The gradient of log-softmax with y as exp(x - logsumexp x)."""
    return (cotangent - _softmax_by_logsumexp(*inputs, axis=axis) * _total(cotangent, axis),)


def _log_softmax_vjp_guarded(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    y = np.exp(_log_softmax_guarded(*inputs, axis=axis))
    return (cotangent - y * _total(cotangent, axis),)


def _log_softmax_second_of_result(
    inputs: tuple[Any], cotangent: Any, directions: tuple[Any], *, axis: int
) -> tuple[Any]:
    """The gradient of <d, c - e^z Σ c> in the result z, g = -d e^z Σ c, taken back through z."""
    y, (d,) = np.exp(log_softmax_text(*inputs, axis=axis)), directions
    g = -_total(cotangent, axis) * y * d
    return (g - y * _total(g, axis),)


LOG_SOFTMAX = Formula(
    name="log_softmax",
    title="Log-softmax",
    equation="xᵢ - max x - log Σ e^(xⱼ - max x)",
    source=_SOURCE,
    value=log_softmax_text,
    vjp=log_softmax_vjp_text,
    options=_AXIS,
    arrange=_arrange,
    families=_FAMILIES,
    variants=(
        stable(VALUE, "an infinite maximum is not subtracted", _log_softmax_guarded),
        accepted(VALUE, "x - logsumexp x", log_softmax_by_logsumexp),
        unstable(VALUE, "log of softmax", log_softmax_of_softmax),
        unstable(VALUE, "x - log Σ e^x, overflows", _log_softmax_printed),
        accepted(DERIVATIVE, "from exp of the result", log_softmax_vjp_of_result),
        accepted(DERIVATIVE, "from exp(x - logsumexp x)", log_softmax_vjp_by_logsumexp),
        accepted(DERIVATIVE, "from exp of the guarded result", _log_softmax_vjp_guarded),
        accepted(SECOND, "back through the gradient's result", _log_softmax_second_of_result),
    ),
    textbook=_log_softmax_printed,
    hazards=(
        "log of softmax is -inf once softmax underflows",
        "the logarithm of a sum that rounds to 1 is 0: the largest result is off by a unit roundoff",
    ),
)


def logsumexp_text(x: Any, *, axis: int) -> Any:
    """Value m + log Σ e^(xⱼ - m), m = max x or 0 where that is infinite; without the axis."""
    m = _finite_max(x, axis)
    return np.squeeze(np.log(_total(np.exp(x - m), axis)) + m, axis=axis)


def _logsumexp_vjp(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    """Gradient c y, y the softmax."""
    return (np.expand_dims(cotangent, axis) * softmax_text(*inputs, axis=axis),)


def _logsumexp_apart(x: Any, *, axis: int) -> Any:
    """Sum the n largest elements apart: m + log n + log1p(rest / n)."""
    m = _finite_max(x, axis)
    top = np.equal(x, m)
    n = _total(np.where(top, np.full_like(x, 1), np.full_like(x, 0)), axis)
    rest = _total(np.where(top, np.full_like(x, 0), np.exp(x - m)), axis)
    return np.squeeze(np.log1p(rest / n) + np.log(n) + m, axis=axis)


def _logsumexp_printed(x: Any, *, axis: int) -> Any:
    return np.log(np.sum(np.exp(x), axis=axis))


def _logsumexp_vjp_of_result(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    result = np.expand_dims(logsumexp_text(*inputs, axis=axis), axis)
    return (np.expand_dims(cotangent, axis) * np.exp(inputs[0] - result),)


def _logsumexp_second_of_result(
    inputs: tuple[Any], cotangent: Any, directions: tuple[Any], *, axis: int
) -> tuple[Any]:
    """The gradient of <d, c e^(x - r)> in x, g = c d e^(x - r), and through the result r."""
    x, (d,) = inputs[0], directions
    y = np.exp(x - np.expand_dims(logsumexp_text(x, axis=axis), axis))
    g = np.expand_dims(cotangent, axis) * d * y
    return (g - y * _total(g, axis),)


def _logsumexp_vjp_guarded(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    e = np.exp(inputs[0] - _finite_max(inputs[0], axis))
    return (np.expand_dims(cotangent, axis) * (e / _total(e, axis)),)


def _logsumexp_vjp_printed(inputs: tuple[Any], cotangent: Any, *, axis: int) -> tuple[Any]:
    return (np.expand_dims(cotangent, axis) * _softmax_printed(*inputs, axis=axis),)


LOGSUMEXP = Formula(
    name="logsumexp",
    title="Log-sum-exp",
    equation="max x + log Σ e^(xⱼ - max x)",
    source=_SOURCE,
    value=logsumexp_text,
    vjp=_logsumexp_vjp,
    options=_AXIS,
    arrange=_arrange,
    families=_FAMILIES,
    variants=(
        stable(VALUE, "the largest elements apart", _logsumexp_apart),
        unstable(VALUE, "log Σ e^x, overflows", _logsumexp_printed),
        accepted(DERIVATIVE, "c exp(x - result)", _logsumexp_vjp_of_result),
        stable(DERIVATIVE, "an infinite maximum is not subtracted", _logsumexp_vjp_guarded),
        unstable(DERIVATIVE, "from e^x / Σ e^x", _logsumexp_vjp_printed),
        accepted(SECOND, "back through the gradient and the result", _logsumexp_second_of_result),
    ),
    textbook=_logsumexp_printed,
    hazards=("log Σ e^x is infinite once e^x overflows, and -inf once all of them underflow",),
)

FORMULAS = (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP)
