"""Rectifiers: ReLU and its relatives, linear on the right of 0, something else on its left."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import exact
from gradcheck.formulas.parts import at_infinity, kinks_at, stable, unstable, zero
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Option

INF = math.inf


def _step(x: Any, left: Any, right: Any) -> Any:
    """Return `right` for x > 0, `left` for x <= 0, and NaN for NaN."""
    return np.where(x > 0, np.full_like(x, right), np.full_like(x, left))


def _relu(x: Any) -> Any:
    """Value g = max(0, x); g' = 1 for x > 0, 0 for x < 0; at 0 the Clarke set [0, 1]."""
    return np.maximum(x, 0)


def _relu_derivative(x: Any) -> Any:
    return _step(x, 0, 1)


def _relu_halves(x: Any) -> Any:
    return 0.5 * (x + np.abs(x))


RELU = Formula(
    name="relu",
    title="ReLU",
    equation="max(0, x)",
    source="Nair & Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010",
    value=_relu,
    derivative=_relu_derivative,
    second=zero,
    variants=(unstable(VALUE, "(x + |x|)/2, overflows", _relu_halves),),
    kinks=kinks_at(0.0),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    hazards=("the derivative at 0 is a choice in [0, 1]",),
    article="F07",
)


def _leaky_relu(x: Any, *, negative_slope: Any) -> Any:
    """Value y = x for x >= 0, αx for x < 0; y' = 1 or α."""
    return np.where(x > 0, x, negative_slope * x)


def _leaky_relu_derivative(x: Any, *, negative_slope: Any) -> Any:
    return _step(x, negative_slope, 1)


def _leaky_relu_sum(x: Any, *, negative_slope: Any) -> Any:
    return np.maximum(x, 0) + negative_slope * np.minimum(x, 0)


def _leaky_limits(*, negative_slope: Any) -> tuple[tuple[float, float], ...]:
    slope = float(negative_slope)
    left = -INF * slope if slope else 0.0
    return ((left, INF), (slope, 1.0), (0.0, 0.0))


LEAKY_RELU = Formula(
    name="leaky_relu",
    title="Leaky ReLU",
    equation="x for x >= 0, αx for x < 0",
    source="Maas, Hannun & Ng, Rectifier nonlinearities improve neural network acoustic models, 2013",
    value=_leaky_relu,
    derivative=_leaky_relu_derivative,
    second=zero,
    options=(Option("negative_slope", 0.01, 0.0, 1.0),),
    variants=(stable(VALUE, "max(x, 0) + α min(x, 0)", _leaky_relu_sum),),
    kinks=kinks_at(0.0),
    limits=_leaky_limits,
    hazards=("max(αx, x) is this function for α <= 1 only",),
    article="F09",
)


def _elu(x: Any, *, alpha: Any) -> Any:
    """Value y = x for x > 0, α(e^x - 1) for x <= 0; y' = 1 or αe^x; y'' = 0 or αe^x."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _elu_derivative(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def _elu_second(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 0, alpha * np.exp(np.minimum(x, 0)))


def _elu_printed(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))


def _elu_printed_derivative(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 1, _elu_printed(x, alpha=alpha) + alpha)


def _elu_derivative_of_result(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 1, _elu(x, alpha=alpha) + alpha)


def _elu_second_of_result(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 0, _elu_printed(x, alpha=alpha) + alpha)


ELU = Formula(
    name="elu",
    title="ELU",
    equation="x for x > 0, α(e^x - 1) for x <= 0",
    source="Clevert, Unterthiner & Hochreiter, Fast and accurate deep network learning by ELUs, ICLR 2016",
    value=_elu,
    derivative=_elu_derivative,
    second=_elu_second,
    options=(Option("alpha", 1.0, 0.125, 4.0),),
    variants=(
        unstable(VALUE, "α(e^x - 1)", _elu_printed),
        unstable(DERIVATIVE, "y + α from the result", _elu_derivative_of_result),
        unstable(DERIVATIVE, "y + α from the result α(e^x - 1)", _elu_printed_derivative),
        unstable(SECOND, "y + α from the result α(e^x - 1)", _elu_second_of_result),
    ),
    kinks=kinks_at(0.0),
    limits=lambda *, alpha: ((-float(alpha), INF), (0.0, 1.0), (0.0, 0.0)),
    textbook=_elu_printed,
    hazards=("e^x - 1 cancels near 0", "y + α cancels in the left tail"),
)


def _celu(x: Any, *, alpha: Any) -> Any:
    """Value y = x for x > 0, α(e^(x/α) - 1) for x <= 0; y' = 1 or e^(x/α); y'' = 0 or e^(x/α)/α."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _celu_derivative(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0) / alpha))


def _celu_second(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 0, np.exp(np.minimum(x, 0) / alpha) / alpha)


def _celu_printed(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0) / alpha) - 1))


def _celu_by_reciprocal(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0) * (1 / alpha)) - 1))


def _celu_expm1_by_reciprocal(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) * (1 / alpha)))


def _celu_derivative_by_reciprocal(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 1, (1 / alpha) * alpha * np.exp(np.minimum(x, 0) * (1 / alpha)))


def _celu_second_by_reciprocal(x: Any, *, alpha: Any) -> Any:
    r = 1 / alpha
    return np.where(x > 0, 0, r * r * alpha * np.exp(np.minimum(x, 0) * r))


def _celu_derivative_of_result(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 1, alpha * (np.expm1(np.minimum(x, 0) / alpha) + 1) / alpha)


def _celu_second_of_result(x: Any, *, alpha: Any) -> Any:
    return np.where(x > 0, 0, alpha * (np.expm1(np.minimum(x, 0) / alpha) + 1) / alpha / alpha)


CELU = Formula(
    name="celu",
    title="CELU",
    equation="max(0, x) + min(0, α(e^(x/α) - 1))",
    source="Barron, Continuously differentiable exponential linear units, arXiv:1704.07483, 2017",
    value=_celu,
    derivative=_celu_derivative,
    second=_celu_second,
    options=(Option("alpha", 1.0, 0.125, 4.0),),
    variants=(
        stable(VALUE, "α expm1(x(1/α))", _celu_expm1_by_reciprocal),
        unstable(VALUE, "α(e^(x/α) - 1)", _celu_printed),
        unstable(VALUE, "α(e^(x(1/α)) - 1)", _celu_by_reciprocal),
        stable(DERIVATIVE, "(1/α)α e^(x(1/α))", _celu_derivative_by_reciprocal),
        unstable(DERIVATIVE, "expm1(x/α) + 1", _celu_derivative_of_result),
        stable(SECOND, "(1/α)²α e^(x(1/α))", _celu_second_by_reciprocal),
        unstable(SECOND, "(expm1(x/α) + 1)/α", _celu_second_of_result),
    ),
    kinks=kinks_at(0.0),
    limits=lambda *, alpha: ((-float(alpha), INF), (0.0, 1.0), (0.0, 0.0)),
    textbook=_celu_printed,
    hazards=("e^(x/α) - 1 cancels near 0", "expm1(x/α) + 1 cancels in the left tail"),
)


SELU_SCALE = exact("1.0507009873554804934193349852946")
SELU_ALPHA = exact("1.6732632423543772848170429916717")
SELU_SLOPE = SELU_SCALE * SELU_ALPHA


def _selu(x: Any) -> Any:
    """Value y = λx for x > 0, λα(e^x - 1) for x <= 0, with (0, 1) a fixed point of (mean, variance)."""
    return np.where(x > 0, SELU_SCALE * x, SELU_SLOPE * np.expm1(np.minimum(x, 0)))


def _selu_derivative(x: Any) -> Any:
    return np.where(x > 0, np.full_like(x, SELU_SCALE), SELU_SLOPE * np.exp(np.minimum(x, 0)))


def _selu_second(x: Any) -> Any:
    return np.where(x > 0, 0, SELU_SLOPE * np.exp(np.minimum(x, 0)))


def _selu_printed(x: Any) -> Any:
    return np.where(x > 0, SELU_SCALE * x, (np.exp(np.minimum(x, 0)) - 1) * SELU_SLOPE)


def _selu_scaled_last(x: Any) -> Any:
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def _selu_derivative_scaled_last(x: Any) -> Any:
    return SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0)))


def _selu_derivative_of_result(x: Any) -> Any:
    return np.where(x > 0, np.full_like(x, SELU_SCALE), _selu_printed(x) + SELU_SLOPE)


def _selu_second_of_result(x: Any) -> Any:
    return np.where(x > 0, 0, SELU_SCALE * (SELU_ALPHA * (np.expm1(np.minimum(x, 0)) + 1)))


SELU = Formula(
    name="selu",
    title="SELU",
    equation="λx for x > 0, λα(e^x - 1) for x <= 0",
    source="Klambauer, Unterthiner, Mayr & Hochreiter, Self-normalizing neural networks, NeurIPS 2017",
    value=_selu,
    derivative=_selu_derivative,
    second=_selu_second,
    variants=(
        stable(VALUE, "λ times (x, α expm1 x)", _selu_scaled_last),
        unstable(VALUE, "λα(e^x - 1)", _selu_printed),
        stable(DERIVATIVE, "λ times (1, α e^x)", _selu_derivative_scaled_last),
        unstable(DERIVATIVE, "y + λα from the result", _selu_derivative_of_result),
        unstable(SECOND, "λα(expm1 x + 1)", _selu_second_of_result),
    ),
    kinks=kinks_at(0.0),
    limits=at_infinity((-float(SELU_SLOPE), INF), (0.0, float(SELU_SCALE))),
    textbook=_selu_printed,
    hazards=("e^x - 1 cancels near 0",),
)


def _prelu(x: Any, weight: Any) -> Any:
    """Value y = x for x > 0, wx for x <= 0; w is one number, or one per channel (last axis of x)."""
    return np.where(x > 0, x, weight * x)


def _prelu_vjp(inputs: tuple[Any, Any], cotangent: Any) -> tuple[Any, Any]:
    """Gradients dx = c or wc; dw = Σ cx over the elements with x <= 0 that share the weight."""
    x, weight = inputs
    shared = tuple(range(x.ndim - weight.ndim))
    negative = np.where(x > 0, 0, cotangent * x)
    return np.where(x > 0, cotangent, weight * cotangent), np.sum(negative, axis=shared)


PRELU = Formula(
    name="prelu",
    title="PReLU",
    equation="x for x > 0, wx for x <= 0",
    source="He, Zhang, Ren & Sun, Delving deep into rectifiers, ICCV 2015",
    value=_prelu,
    vjp=_prelu_vjp,
    inputs=("x", "weight"),
    axes=(("N", "C"), ("C",)),
    kinks=kinks_at(0.0),
    hazards=("the weight's gradient is a long sum of signed terms",),
)

FORMULAS = (RELU, LEAKY_RELU, PRELU, ELU, CELU, SELU)
