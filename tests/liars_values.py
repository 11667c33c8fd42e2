"""Elementwise liars: wrong constants, points, regions, formats, forms, options and special numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from scipy import special

from gradcheck.formats import Format
from gradcheck.subjects.implementation import Implementation
from tests import honest as good
from tests.honest import Real, elementwise
from tests.lying import (
    BF16,
    F16,
    F32,
    F64,
    NARROW,
    WIDE,
    Liar,
    at,
    bent,
    in_format,
    only_in,
    scaled,
    swap,
    when,
)


def constants(formula: str, name: str, cause: str, triple: good.Triple, order: str = "value") -> Liar:
    """Return the liar that is the whole triple made from a wrong constant, visible in float64 alone."""

    def implement(fmt: Format) -> Implementation:
        return elementwise(formula, fmt, triple.value, triple.derivative, triple.second)

    return Liar(f"{formula}-{name}", formula, cause, "wrong", implement, order, (F64,))


def _chopped(x: Real, dtype: Any) -> Real:
    return x.astype(dtype).astype(np.float64)


def _erf_by_polynomial(x: Real) -> Real:
    """Return erf with an absolute error of 2.5e-5 (Abramowitz & Stegun 7.1.25)."""
    t = 1.0 / (1.0 + 0.47047 * np.abs(x))
    return np.sign(x) * (1.0 - t * (0.3480242 + t * (-0.0958798 + t * 0.7478556)) * np.exp(-x * x))


def _relu6_gap(x: Real, y: Real, **_: Any) -> Real:
    return np.where(x < 6, np.maximum(x, 0.0), np.where(x > 6, 6.0, good.nan_through(x, 0.0)))


def _slope_of_rounded(fmt: Format, x: Real, y: Real) -> Real:
    output = fmt.round(good.logistic(x))
    return output * (1 - output)


CONSTANTS = (
    constants(
        "selu",
        "scale-8th-digit",
        "scale is 1.0507010 instead of 1.0507009...",
        good.scaled_elu(1.0507009973554805),
    ),
    constants(
        "selu", "alpha-8th-digit", "alpha differs in the 8th digit", good.scaled_elu(alpha=1.6732632523543772)
    ),
    constants(
        "gelu_tanh", "cubic-8th-digit", "0.0447150004 instead of 0.044715", good.tanh_gelu(cubic=0.0447150004)
    ),
    constants(
        "gelu_tanh", "root-8th-digit", "sqrt(2/pi) differs in the 8th digit", good.tanh_gelu(root=0.79788457)
    ),
    constants("gelu", "root-8-digits", "1/sqrt(2) cut to 8 digits", good.exact_gelu(root_half=0.70710678)),
    constants(
        "gelu",
        "density-8-digits",
        "1/sqrt(2 pi) is wrong in the 8th digit",
        good.exact_gelu(density=0.39894229),
        "derivative",
    ),
    bent(
        "hardsigmoid",
        "sixth-8-digits",
        "multiplies by 0.16666667",
        "value",
        scaled(0.16666667 * 6),
        formats=(F64,),
    ),
    bent(
        "log_sigmoid",
        "wide-constant",
        "log 2 in single precision",
        "value",
        when(lambda x: np.abs(x) < 1e-2, lambda x, y: y + (math.log(2) - float(np.float32(math.log(2))))),
        formats=(F64,),
    ),
)

POINTS = (
    bent("relu6", "gap-at-6", "neither branch takes x = 6", "value", _relu6_gap),
    bent("hardtanh", "gap-at-minus-1", "neither branch takes x = -1", "value", at((-1.0,), 0.0)),
    bent("hardswish", "branch-at-3", "x = 3 falls into the zero branch", "value", at((3.0,), 0.0)),
    bent("hardsigmoid", "branch-at-minus-3", "x = -3 answers 1/6", "value", at((-3.0,), 1 / 6)),
    bent("softsign", "hole-at-1", "x = 1 answers 1 instead of 1/2", "value", at((1.0,), 1.0)),
    bent("softplus", "hole-at-zero", "x = 0 answers 0 instead of log 2", "value", at((0.0,), 0.0)),
    bent(
        "relu", "slope-2-at-zero", "the derivative at 0 is 2, outside [0, 1]", "derivative", at((0.0,), 2.0)
    ),
    bent("leaky_relu", "slope-minus-1-at-zero", "the derivative at 0 is -1", "derivative", at((0.0,), -1.0)),
    bent("elu", "slope-0-at-zero", "neither branch of the derivative takes 0", "derivative", at((0.0,), 0.0)),
    bent(
        "relu6",
        "slope-minus-1-at-6",
        "the derivative at 6 is -1, outside [0, 1]",
        "derivative",
        at((6.0,), -1.0),
    ),
    bent(
        "hardswish", "slope-at-3", "the derivative at 3 is 0, outside [1, 3/2]", "derivative", at((3.0,), 0.0)
    ),
    bent(
        "tanh",
        "one-pattern",
        "a single number of the format answers wrongly",
        "value",
        at((0.8125, -2.171875), 0.25),
        formats=NARROW,
    ),
    bent(
        "mish",
        "one-pattern-slope",
        "the derivative of a single number is wrong",
        "derivative",
        at((1.6875,), 0.5),
        formats=NARROW,
    ),
)

REGIONS = (
    bent(
        "sigmoid",
        "saturates-beyond-6",
        "answers 1 for x > 6",
        "value",
        when(lambda x: x > 6, lambda x, y: 1.0),
        formats=WIDE,
    ),
    bent(
        "tanh",
        "linear-below-1e-3",
        "answers x for |x| < 1e-3",
        "value",
        when(lambda x: np.abs(x) < 1e-3, lambda x, y: x),
        formats=(F64,),
    ),
    bent(
        "mish",
        "cut-beyond-6",
        "answers 0 for x < -6",
        "value",
        when(lambda x: x < -6, lambda x, y: -0.0),
        formats=(F64, F32, F16),
    ),
    bent(
        "gelu",
        "cut-beyond-6",
        "answers 0 for x < -6",
        "value",
        when(lambda x: x < -6, lambda x, y: -0.0),
        formats=(F64,),
    ),
    bent(
        "gelu",
        "slope-beyond-6",
        "the derivative is exactly 1 for x > 6 and 0 for x < -6",
        "derivative",
        when(lambda x: np.abs(x) > 6, lambda x, y: (x > 0) * 1.0),
        formats=(F64,),
    ),
    bent(
        "sigmoid",
        "half-below-1e-3",
        "answers 1/2 for |x| < 1e-3",
        "value",
        when(lambda x: np.abs(x) < 1e-3, lambda x, y: 0.5),
        formats=WIDE,
    ),
    bent(
        "softsign",
        "linear-below-1e-3",
        "answers x for |x| < 1e-3",
        "value",
        when(lambda x: np.abs(x) < 1e-3, lambda x, y: x),
        formats=WIDE,
    ),
    bent(
        "silu",
        "one-binade",
        "relative error 1e-10 for 1/4 <= |x| < 1/2",
        "value",
        when(lambda x: (np.abs(x) >= 0.25) & (np.abs(x) < 0.5), lambda x, y: y * (1 + 1e-10)),
        formats=(F64,),
    ),
    bent(
        "sigmoid",
        "slope-one-binade",
        "relative error 1e-10 in the derivative for 2 <= x < 4",
        "derivative",
        when(lambda x: (x >= 2) & (x < 4), lambda x, y: y * (1 + 1e-10)),
        formats=(F64,),
    ),
    bent("sigmoid", "everywhere-1e-10", "relative error 1e-10", "value", scaled(1 + 1e-10), formats=(F64,)),
    bent("tanh", "everywhere-1e-10", "relative error -1e-10", "value", scaled(1 - 1e-10), formats=(F64,)),
    bent("softplus", "everywhere-1e-10", "relative error 1e-10", "value", scaled(1 + 1e-10), formats=(F64,)),
    bent(
        "gelu",
        "slope-everywhere-1e-10",
        "relative error 1e-10 in the derivative",
        "derivative",
        scaled(1 + 1e-10),
        formats=(F64,),
    ),
    bent("hardswish", "everywhere-1e-10", "relative error 1e-10", "value", scaled(1 + 1e-10), formats=(F64,)),
    bent(
        "celu",
        "one-tail",
        "answers -alpha already at x < -10 alpha",
        "value",
        lambda x, y, alpha=1.0: np.where(x < -10 * alpha, -alpha, y),
        formats=WIDE,
    ),
    bent(
        "log_sigmoid",
        "cut-beyond-6",
        "answers 0 for x > 6",
        "value",
        when(lambda x: x > 6, lambda x, y: -0.0),
        formats=WIDE,
    ),
    bent(
        "relu",
        "huge",
        "answers the largest float32 beyond it",
        "value",
        lambda x, y, **_: np.minimum(y, 3.4028234663852886e38),
        formats=(F64,),
    ),
    in_format(
        "relu",
        "flush",
        "flushes subnormal inputs to zero",
        "value",
        lambda fmt, x, y, **_: np.where(np.abs(x) < fmt.least_normal, 0.0, y),
        formats=WIDE,
    ),
    in_format(
        "tanh",
        "flush",
        "flushes subnormal results to zero",
        "value",
        lambda fmt, x, y, **_: np.where(np.abs(y) < fmt.least_normal, 0.0 * x, y),
        formats=WIDE,
    ),
)

FORMAT_FAULTS = (
    only_in(
        (F32,),
        "gelu",
        "polynomial-erf",
        "float32 alone uses an erf good to 2.5e-5",
        "value",
        swap(
            lambda x: np.where(
                np.abs(x) < good.FAR,
                0.5 * x * (1 + _erf_by_polynomial(x * good.ROOT_HALF)),
                good.GELU.value(x),
            )
        ),
    ),
    only_in(
        (BF16,),
        "sigmoid",
        "line-in-bfloat16",
        "bfloat16 alone uses a clipped line",
        "value",
        swap(lambda x: np.clip(0.5 + x / 4, 0.0, 1.0)),
    ),
    only_in(
        NARROW,
        "silu",
        "hard-in-16-bit",
        "16-bit formats use x hardsigmoid(x)",
        "value",
        swap(good.HARDSWISH.value),
    ),
    only_in(
        (F32,),
        "softsign",
        "slope-in-float32",
        "the derivative in float32 is 1/(1 + x^2)",
        "derivative",
        swap(lambda x: 1 / (1 + x * x)),
    ),
    only_in(
        (F32,),
        "leaky_relu",
        "half-in-float32",
        "float32 results pass through float16",
        "value",
        lambda x, y, **_: np.where(
            np.abs(y) < 1e-3, y, np.where(np.abs(y) < 6e4, _chopped(y, np.float16), y)
        ),
    ),
    only_in(
        (F32,),
        "tanh",
        "brain-in-float32",
        "float32 results pass through bfloat16",
        "value",
        lambda x, y, **_: _chopped(y, ml_dtypes.bfloat16),
    ),
    only_in(
        (F64,),
        "mish",
        "single-in-float64",
        "float64 results are computed in float32",
        "value",
        lambda x, y, **_: _chopped(y, np.float32),
    ),
    only_in(
        (F64,),
        "silu",
        "negative-side-single",
        "negative results alone are rounded to float32",
        "value",
        lambda x, y, **_: np.where(y < 0, _chopped(y, np.float32), y),
    ),
    only_in(
        (F64,),
        "elu",
        "slope-single",
        "the derivative in float64 is computed in float32",
        "derivative",
        lambda x, y, **_: _chopped(y, np.float32),
    ),
)


def _in(fmt: Format, function: Callable[[Any], Any], x: Real) -> Real:
    """Evaluate in the arithmetic of the format itself."""
    return np.asarray(function(x.astype(fmt.dtype))).astype(np.float64)


UNSTABLE = (
    in_format(
        "softplus",
        "log-of-1-plus-exp",
        "log(1 + exp(x)) loses the left tail",
        "value",
        lambda fmt, x, y, beta=1.0, threshold=20.0: np.where(
            beta * x > threshold, x, _in(fmt, lambda t: np.log(1 + np.exp(t)), beta * x) / beta
        ),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "log_sigmoid",
        "log-of-sigmoid",
        "log(1/(1 + exp(-x))) overflows to -inf in the middle of the range",
        "value",
        lambda fmt, x, y: _in(fmt, lambda t: np.log(1 / (1 + np.exp(-t))), x),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "sigmoid",
        "slope-from-output",
        "y (1 - y) of the rounded y is 0 where the truth is not",
        "derivative",
        _slope_of_rounded,
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "tanh",
        "slope-from-output",
        "1 - y^2 of the rounded y",
        "derivative",
        lambda fmt, x, y: 1 - fmt.round(np.tanh(x)) ** 2,
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "elu",
        "exp-minus-1",
        "exp(x) - 1 loses small x",
        "value",
        lambda fmt, x, y, alpha=1.0: np.where(
            x > 0, x, alpha * _in(fmt, lambda t: np.exp(t) - 1, np.minimum(x, 0))
        ),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "gelu",
        "one-plus-erf",
        "x (1 + erf(x / sqrt 2))/2 cancels in the left tail",
        "value",
        lambda fmt, x, y: np.where(
            x < -good.FAR, -0.0, x * fmt.round(1 + fmt.round(special.erf(x * good.ROOT_HALF))) / 2
        ),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "silu",
        "exp-over-exp",
        "x exp(x)/(1 + exp(x)) is inf/inf for large x",
        "value",
        lambda fmt, x, y: _in(fmt, lambda t: t * np.exp(t) / (1 + np.exp(t)), x),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "sigmoid",
        "exp-over-exp",
        "exp(x)/(1 + exp(x)) is NaN for large x",
        "value",
        lambda fmt, x, y: _in(fmt, lambda t: np.exp(t) / (1 + np.exp(t)), x),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "hardswish",
        "overflow",
        "x clip(x + 3, 0, 6) overflows before the division by 6",
        "value",
        lambda fmt, x, y: _in(fmt, lambda t: t * np.clip(t + t.dtype.type(3), 0, 6) / t.dtype.type(6), x),
        expected="unstable",
        formats=WIDE,
    ),
    in_format(
        "mish",
        "tanh-of-log",
        "tanh(log(1 + exp(x))) loses the left tail",
        "value",
        lambda fmt, x, y: np.where(
            x > 80, x, _in(fmt, lambda t: t * np.tanh(np.log(1 + np.exp(t))), np.minimum(x, 80))
        ),
        expected="unstable",
        formats=WIDE,
    ),
)

OPTIONS = (
    bent(
        "leaky_relu",
        "ignores-slope",
        "negative_slope is always 0.01",
        "value",
        lambda x, y, negative_slope=0.01: good.LEAKY_RELU.value(x),
        options={"negative_slope": 0.25},
    ),
    bent(
        "elu",
        "ignores-alpha",
        "alpha is always 1",
        "value",
        lambda x, y, alpha=1.0: good.ELU.value(x),
        options={"alpha": 2.0},
    ),
    bent(
        "celu",
        "ignores-alpha",
        "alpha is always 1",
        "value",
        lambda x, y, alpha=1.0: good.CELU.value(x),
        options={"alpha": 2.0},
    ),
    bent(
        "softplus",
        "ignores-beta",
        "beta is always 1",
        "value",
        lambda x, y, beta=1.0, threshold=20.0: good.SOFTPLUS.value(x, threshold=threshold),
        options={"beta": 2.0},
    ),
    bent(
        "softplus",
        "ignores-threshold",
        "the threshold is always 20",
        "value",
        lambda x, y, beta=1.0, threshold=20.0: good.SOFTPLUS.value(x, beta=beta),
        formats=WIDE,
        options={"threshold": 5.0},
    ),
    bent(
        "hardtanh",
        "ignores-min",
        "min_val is always -1",
        "value",
        lambda x, y, min_val=-1.0, max_val=1.0: good.HARDTANH.value(x, max_val=max_val),
        options={"min_val": -2.0},
    ),
)

SPECIALS = (
    bent(
        "tanh", "loses-negative-zero", "tanh(-0) is +0", "value", lambda x, y, **_: y + 0.0, where="special"
    ),
    bent(
        "softsign",
        "loses-negative-zero",
        "softsign(-0) is +0",
        "value",
        lambda x, y, **_: y + 0.0,
        where="special",
    ),
    bent(
        "relu",
        "swallows-nan",
        "a maximum that drops NaN",
        "value",
        swap(lambda x: np.fmax(x, 0.0)),
        where="special",
    ),
    bent(
        "hardtanh",
        "swallows-nan",
        "a clamp that drops NaN",
        "value",
        lambda x, y, min_val=-1.0, max_val=1.0: np.fmin(np.fmax(x, min_val), max_val),
        where="special",
    ),
    bent("gelu", "swallows-nan", "NaN answers 0", "value", when(np.isnan, lambda x, y: 0.0), where="special"),
    bent(
        "leaky_relu",
        "swallows-nan",
        "NaN answers 0",
        "value",
        when(np.isnan, lambda x, y: 0.0),
        where="special",
    ),
    bent(
        "tanh",
        "nan-at-inf",
        "tanh(inf) is NaN",
        "value",
        when(np.isinf, lambda x, y: math.nan),
        where="special",
    ),
    bent(
        "sigmoid",
        "nan-at-minus-inf",
        "sigmoid(-inf) is NaN",
        "value",
        at((-math.inf,), math.nan),
        where="special",
    ),
    bent("softplus", "zero-at-inf", "softplus(inf) is 0", "value", at((math.inf,), 0.0), where="special"),
    bent("silu", "finite-at-inf", "silu(inf) is 1", "value", at((math.inf,), 1.0), where="special"),
    bent("softsign", "zero-at-inf", "softsign(inf) is 0", "value", at((math.inf,), 0.0), where="special"),
    bent(
        "elu",
        "minus-inf-at-minus-inf",
        "elu(-inf) is -inf",
        "value",
        at((-math.inf,), -math.inf),
        where="special",
    ),
    bent(
        "hardsigmoid",
        "nan-at-inf",
        "hardsigmoid(inf) is NaN",
        "value",
        at((math.inf,), math.nan),
        where="special",
    ),
    in_format(
        "log_sigmoid",
        "finite-at-minus-inf",
        "log_sigmoid(-inf) is the lowest number",
        "value",
        lambda fmt, x, y: np.where(x == -math.inf, -fmt.largest, y),
        where="special",
    ),
    bent(
        "sigmoid",
        "slope-at-inf",
        "the derivative at inf is 1/4",
        "derivative",
        at((math.inf,), 0.25),
        where="special",
    ),
)

VALUE_LIARS: tuple[Liar, ...] = (
    *CONSTANTS,
    *POINTS,
    *REGIONS,
    *FORMAT_FAULTS,
    *UNSTABLE,
    *OPTIONS,
    *SPECIALS,
)
