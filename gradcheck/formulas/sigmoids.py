"""Sigmoid, tanh, and the logarithms of the sigmoid: softplus and log-sigmoid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.formulas.parts import (
    accepted,
    at_infinity,
    logistic,
    logistic_slope,
    magnitude,
    printed_logistic,
    stable,
    unstable,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Option

INF = math.inf


def _sigmoid_second(x: Any) -> Any:
    """σ'' = σ'(1 - 2σ) = -tanh(x/2) σ'."""
    return -np.tanh(0.5 * x) * logistic_slope(x)


def _sigmoid_by_exp(x: Any) -> Any:
    return np.exp(x) / (1 + np.exp(x))


def _sigmoid_by_tanh(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _sigmoid_by_log(x: Any) -> Any:
    return np.exp(-np.log1p(np.exp(-x)))


def _sigmoid_derivative_of_result(x: Any) -> Any:
    y = printed_logistic(x)
    return (1 - y) * y


def _sigmoid_derivative_of_stable_result(x: Any) -> Any:
    y = logistic(x)
    return (1 - y) * y


def _sigmoid_derivative_product(x: Any) -> Any:
    return logistic(x) * logistic(-x)


def _sigmoid_derivative_printed(x: Any) -> Any:
    return np.exp(-x) / np.square(1 + np.exp(-x))


def _sigmoid_derivative_squared(x: Any) -> Any:
    return np.exp(-x) * np.square(printed_logistic(x))


def _sigmoid_derivative_by_cosh(x: Any) -> Any:
    return 1 / (2 + np.exp(x) + np.exp(-x))


def _sigmoid_derivative_by_tanh(x: Any) -> Any:
    return 0.25 * (1 - np.square(np.tanh(0.5 * x)))


def _sigmoid_second_of_result(x: Any) -> Any:
    y = printed_logistic(x)
    return (1 - 2 * y) * (1 - y) * y


def _sigmoid_second_of_stable_result(x: Any) -> Any:
    y = logistic(x)
    return (1 - 2 * y) * ((1 - y) * y)


def _sigmoid_second_mixed(x: Any) -> Any:
    return logistic_slope(x) * (1 - 2 * logistic(x))


SIGMOID = Formula(
    name="sigmoid",
    title="Sigmoid",
    equation="1 / (1 + e^-x)",
    source="Verhulst 1838; as a unit: Rumelhart, Hinton & Williams, Nature 323, 1986",
    value=logistic,
    derivative=logistic_slope,
    second=_sigmoid_second,
    variants=(
        accepted(VALUE, "1/(1 + e^-x)", printed_logistic),
        unstable(VALUE, "e^x/(1 + e^x)", _sigmoid_by_exp),
        unstable(VALUE, "(1 + tanh(x/2))/2", _sigmoid_by_tanh),
        accepted(VALUE, "exp(-log1p(e^-x))", _sigmoid_by_log),
        stable(DERIVATIVE, "σ(x)σ(-x)", _sigmoid_derivative_product),
        accepted(DERIVATIVE, "1/(2 + e^x + e^-x)", _sigmoid_derivative_by_cosh),
        unstable(DERIVATIVE, "y(1 - y) from the result", _sigmoid_derivative_of_result),
        unstable(DERIVATIVE, "y(1 - y) from the stable result", _sigmoid_derivative_of_stable_result),
        unstable(DERIVATIVE, "e^-x/(1 + e^-x)²", _sigmoid_derivative_printed),
        unstable(DERIVATIVE, "e^-x y²", _sigmoid_derivative_squared),
        unstable(DERIVATIVE, "(1 - tanh²(x/2))/4", _sigmoid_derivative_by_tanh),
        unstable(SECOND, "(1 - 2y)(1 - y)y from the result", _sigmoid_second_of_result),
        unstable(SECOND, "(1 - 2y)(1 - y)y from the stable result", _sigmoid_second_of_stable_result),
        unstable(SECOND, "σ'(1 - 2y)", _sigmoid_second_mixed),
    ),
    limits=at_infinity((0.0, 1.0), (0.0, 0.0)),
    textbook=printed_logistic,
    hazards=(
        "e^-x overflows for x < -log(largest), where σ is subnormal",
        "y(1 - y) is 0 once y rounds to 1, where σ' is a normal number",
    ),
    article="F08",
)


def _tanh(x: Any) -> Any:
    """Value y = tanh x; y' = 1/cosh² x = 4e/(1 + e)², e = e^-2|x|; y'' = -2yy'."""
    return np.tanh(x)


def _tanh_derivative(x: Any) -> Any:
    e = np.exp(-2 * magnitude(x))
    return 4 * e / np.square(1 + e)


def _tanh_second(x: Any) -> Any:
    return -2 * np.tanh(x) * _tanh_derivative(x)


def _tanh_printed(x: Any) -> Any:
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))


def _tanh_by_square(x: Any) -> Any:
    return (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)


def _tanh_by_inverse_square(x: Any) -> Any:
    return (1 - np.exp(-2 * x)) / (1 + np.exp(-2 * x))


def _tanh_by_sigmoid(x: Any) -> Any:
    return 2 * printed_logistic(2 * x) - 1


def _tanh_by_one_exp(x: Any) -> Any:
    return 1 - 2 / (np.exp(2 * x) + 1)


def _tanh_by_expm1(x: Any) -> Any:
    t = np.expm1(-2 * magnitude(x))
    return np.where(x >= 0, -t, t) / (2 + t)


def _tanh_derivative_of_result(x: Any) -> Any:
    y = np.tanh(x)
    return 1 - y * y


def _tanh_derivative_factored(x: Any) -> Any:
    y = np.tanh(x)
    return (1 - y) * (1 + y)


def _tanh_derivative_by_cosh(x: Any) -> Any:
    return 1 / np.square(np.cosh(x))


def _tanh_derivative_by_sech(x: Any) -> Any:
    return np.square(1 / np.cosh(x))


def _tanh_second_of_result(x: Any) -> Any:
    y = np.tanh(x)
    return -2 * y * (1 - y * y)


def _tanh_second_factored(x: Any) -> Any:
    y = np.tanh(x)
    z = ((1 - y) - (1 + y)) * (1 - y)
    return z + z * y


TANH = Formula(
    name="tanh",
    title="Hyperbolic tangent",
    equation="(e^x - e^-x) / (e^x + e^-x)",
    source="LeCun, Bottou, Orr & Müller, Efficient backprop, 1998",
    value=_tanh,
    derivative=_tanh_derivative,
    second=_tanh_second,
    variants=(
        stable(VALUE, "expm1(-2|x|)", _tanh_by_expm1),
        unstable(VALUE, "(e^x - e^-x)/(e^x + e^-x)", _tanh_printed),
        unstable(VALUE, "(e^2x - 1)/(e^2x + 1)", _tanh_by_square),
        unstable(VALUE, "(1 - e^-2x)/(1 + e^-2x)", _tanh_by_inverse_square),
        unstable(VALUE, "2σ(2x) - 1", _tanh_by_sigmoid),
        unstable(VALUE, "1 - 2/(e^2x + 1)", _tanh_by_one_exp),
        stable(DERIVATIVE, "(1/cosh x)²", _tanh_derivative_by_sech),
        accepted(DERIVATIVE, "1/cosh² x", _tanh_derivative_by_cosh),
        unstable(DERIVATIVE, "1 - y² from the result", _tanh_derivative_of_result),
        unstable(DERIVATIVE, "(1 - y)(1 + y) from the result", _tanh_derivative_factored),
        unstable(SECOND, "-2y(1 - y²) from the result", _tanh_second_of_result),
        unstable(SECOND, "((1 - y) - (1 + y))(1 - y)(1 + y)", _tanh_second_factored),
    ),
    limits=at_infinity((-1.0, 1.0), (0.0, 0.0)),
    hazards=("1 - y² is 0 once y rounds to 1, where tanh' is a normal number",),
)


def _softplus(x: Any, *, beta: Any, threshold: Any) -> Any:
    """Value y = log(1 + e^(βx))/β up to βx = threshold, x beyond; y' = σ(βx) or 1; y'' = βσ'(βx) or 0.

    With an infinite threshold it is softplus itself: max(x, 0) + log1p(e^-|βx|)/β never overflows.
    """
    z = beta * x
    return np.where(z > threshold, x, np.maximum(x, 0) + np.log1p(np.exp(-magnitude(z))) / beta)


def _softplus_derivative(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    return np.where(z > threshold, 1, logistic(z))


def _softplus_second(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    return np.where(z > threshold, 0, beta * logistic_slope(z))


def _softplus_printed(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    return np.where(z > threshold, x, np.log(1 + np.exp(z)) / beta)


def _softplus_log1p(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    return np.where(z > threshold, x, np.log1p(np.exp(z)) / beta)


def _softplus_scaled(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


def _softplus_derivative_quotient(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    e = np.exp(z)
    return np.where(z > threshold, 1, e / (e + 1))


def _softplus_derivative_printed(x: Any, *, beta: Any, threshold: Any) -> Any:
    z = beta * x
    return np.where(z > threshold, 1, printed_logistic(z))


def _softplus_derivative_by_difference(x: Any, *, beta: Any, threshold: Any) -> Any:
    # Beyond 40 the softplus of z is z itself in every format, and the difference is exactly 0.
    z = beta * x
    difference = z - (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))
    return np.where(z > threshold, 1, np.where(z > 40, logistic(z), np.exp(difference)))


def _softplus_second_of_result(
    x: Any, *, beta: Any, threshold: Any, cotangent: Any = 1, direction: Any = 1
) -> Any:
    z = beta * x
    y = printed_logistic(z)
    return np.where(z > threshold, 0, direction * cotangent * (1 - y) * y * beta)


def _softplus_second_by_difference(x: Any, *, beta: Any, threshold: Any) -> Any:
    y = _softplus_derivative_by_difference(x, beta=beta, threshold=threshold)
    return np.where(beta * x > threshold, 0, beta * (y - y * y))


SOFTPLUS = Formula(
    name="softplus",
    title="Softplus",
    equation="log(1 + e^(βx)) / β; x where βx > threshold",
    source="Dugas, Bengio, Bélisle, Nadeau & Garcia, NIPS 2000; the threshold as torch documents it",
    value=_softplus,
    derivative=_softplus_derivative,
    second=_softplus_second,
    options=(Option("beta", 1.0, 0.125, 8.0), Option("threshold", 20.0, 1.0, 40.0, infinite=True)),
    variants=(
        stable(VALUE, "(max(βx, 0) + log1p(e^-|βx|))/β", _softplus_scaled),
        unstable(VALUE, "log1p(e^(βx))/β, overflows", _softplus_log1p),
        unstable(VALUE, "log(1 + e^(βx))/β", _softplus_printed),
        unstable(DERIVATIVE, "e/(e + 1), e = e^(βx), overflows", _softplus_derivative_quotient),
        accepted(DERIVATIVE, "1/(1 + e^(-βx))", _softplus_derivative_printed),
        accepted(DERIVATIVE, "exp(z - softplus z)", _softplus_derivative_by_difference),
        unstable(SECOND, "βy(1 - y) from σ", _softplus_second_of_result),
        unstable(SECOND, "β(y - y²), y = exp(z - softplus z)", _softplus_second_by_difference),
    ),
    kinks=lambda *, beta, threshold: (
        (float(threshold) / float(beta),) if math.isfinite(float(threshold)) else ()
    ),
    limits=at_infinity((0.0, INF), (0.0, 1.0)),
    textbook=_softplus_printed,
    hazards=(
        "log(1 + e^z) is 0 for z below log u, where it is a normal number",
        "e^z overflows where a threshold above log(largest) lets it",
        "value and slope jump at the threshold, by about e^-threshold",
    ),
)


def _log_sigmoid(x: Any) -> Any:
    """Value y = log σ(x) = min(x, 0) - log1p(e^-|x|); y' = σ(-x); y'' = -σ'(x)."""
    return np.minimum(x, 0) - np.log1p(np.exp(-magnitude(x)))


def _log_sigmoid_derivative(x: Any) -> Any:
    return logistic(-x)


def _log_sigmoid_second(x: Any) -> Any:
    return -logistic_slope(x)


def _log_sigmoid_printed(x: Any) -> Any:
    return np.log(printed_logistic(x))


def _log_sigmoid_log1p(x: Any) -> Any:
    return -np.log1p(np.exp(-x))


def _log_sigmoid_log(x: Any) -> Any:
    return -np.log(1 + np.exp(-x))


def _log_sigmoid_difference(x: Any) -> Any:
    return x - np.log1p(np.exp(x))


def _log_sigmoid_printed_difference(x: Any) -> Any:
    return x - np.log(1 + np.exp(x))


def _log_sigmoid_derivative_by_difference(x: Any) -> Any:
    # Below -40 the softplus of -x is -x itself in every format, and the difference is exactly 0.
    difference = -x - (np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x))))
    return np.where(x < -40, logistic(-x), np.exp(difference))


def _log_sigmoid_derivative_signed(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    ratio = e / (1 + e)
    return np.where(x < 0, 1 - ratio, ratio)


def _log_sigmoid_derivative_complement(x: Any) -> Any:
    return 1 - printed_logistic(x)


def _log_sigmoid_derivative_printed(x: Any) -> Any:
    return 1 / (1 + np.exp(x))


def _log_sigmoid_derivative_quotient(x: Any) -> Any:
    return np.exp(-x) / (1 + np.exp(-x))


def _log_sigmoid_second_of_result(x: Any) -> Any:
    y = printed_logistic(x)
    return (y - 1) * y


def _log_sigmoid_second_by_difference(x: Any) -> Any:
    y = _log_sigmoid_derivative_by_difference(x)
    return y * y - y


LOG_SIGMOID = Formula(
    name="log_sigmoid",
    title="Log-sigmoid",
    equation="log(1 / (1 + e^-x))",
    source="Mächler, Accurately computing log(1 - exp(-|a|)), 2012",
    value=_log_sigmoid,
    derivative=_log_sigmoid_derivative,
    second=_log_sigmoid_second,
    variants=(
        unstable(VALUE, "log of the printed sigmoid", _log_sigmoid_printed),
        unstable(VALUE, "-log1p(e^-x), overflows", _log_sigmoid_log1p),
        unstable(VALUE, "-log(1 + e^-x)", _log_sigmoid_log),
        unstable(VALUE, "x - log1p(e^x)", _log_sigmoid_difference),
        unstable(VALUE, "x - log(1 + e^x)", _log_sigmoid_printed_difference),
        stable(DERIVATIVE, "from e = e^-|x|: e/(1 + e) or 1 - e/(1 + e)", _log_sigmoid_derivative_signed),
        accepted(DERIVATIVE, "1/(1 + e^x)", _log_sigmoid_derivative_printed),
        unstable(DERIVATIVE, "1 - σ(x)", _log_sigmoid_derivative_complement),
        unstable(DERIVATIVE, "e^-x/(1 + e^-x)", _log_sigmoid_derivative_quotient),
        accepted(DERIVATIVE, "exp(-x - softplus(-x))", _log_sigmoid_derivative_by_difference),
        unstable(SECOND, "(y - 1)y from σ", _log_sigmoid_second_of_result),
        unstable(SECOND, "y² - y, y = exp(-x - softplus(-x))", _log_sigmoid_second_by_difference),
    ),
    limits=at_infinity((-INF, 0.0), (1.0, 0.0)),
    textbook=_log_sigmoid_printed,
    hazards=("log σ(x) is -inf once σ underflows", "1 - σ(x) is 0 once σ rounds to 1"),
)

FORMULAS = (SIGMOID, TANH, SOFTPLUS, LOG_SIGMOID)
