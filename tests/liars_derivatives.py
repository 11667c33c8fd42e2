"""Elementwise liars whose value is right and whose derivative, or second derivative, is not."""

from __future__ import annotations

import math

import numpy as np

from tests import honest as good
from tests.lying import F64, WIDE, Liar, at, bent, scaled, swap, when

SLOPES = (
    bent("sigmoid", "slope-sign", "the derivative has the wrong sign", "derivative", scaled(-1.0)),
    bent(
        "softplus",
        "slope-chain",
        "a factor beta too much in the derivative",
        "derivative",
        lambda x, y, beta=1.0, threshold=20.0: y * beta,
        options={"beta": 2.0},
    ),
    bent(
        "celu",
        "slope-chain",
        "exp(x) instead of exp(x / alpha) in the derivative",
        "derivative",
        lambda x, y, alpha=1.0: good.nan_through(x, np.where(x > 0, 1.0, np.exp(np.minimum(x, 0)))),
        options={"alpha": 2.0},
    ),
    bent(
        "elu",
        "slope-saved-output",
        "y + 1 instead of y + alpha in the derivative",
        "derivative",
        lambda x, y, alpha=1.0: np.where(x > 0, 1.0, good.ELU.value(x, alpha=alpha) + 1),
        options={"alpha": 2.0},
    ),
    bent(
        "tanh",
        "slope-saved-input",
        "1 - x^2: the input was saved instead of the output",
        "derivative",
        swap(lambda x: 1 - x * x),
    ),
    bent(
        "gelu",
        "slope-of-tanh-form",
        "the derivative of the tanh form",
        "derivative",
        swap(good.GELU_TANH.derivative),
        formats=WIDE,
    ),
    bent(
        "gelu_tanh",
        "slope-of-erf-form",
        "the derivative of the erf form",
        "derivative",
        swap(good.GELU.derivative),
        formats=WIDE,
    ),
    bent("silu", "slope-without-product", "sigma(x) without x sigma'(x)", "derivative", swap(good.logistic)),
    bent(
        "mish",
        "slope-without-inner",
        "the factor sigma(x) is missing",
        "derivative",
        swap(
            lambda x: (
                good.mish_weights(x)[0]
                + np.clip(x, -800, 800) * good.mish_weights(x)[1] / np.maximum(good.logistic(x), 1e-300)
            )
        ),
    ),
    bent(
        "hardswish",
        "slope-of-weight",
        "(x + 3)/6 without the product rule",
        "derivative",
        swap(lambda x: np.clip(x + 3, 0, 6) / 6),
    ),
    bent("hardsigmoid", "slope-a-third", "1/3 instead of 1/6", "derivative", scaled(2.0)),
    bent(
        "selu",
        "slope-without-scale",
        "the scale is missing on the positive side",
        "derivative",
        when(lambda x: x > 0, lambda x, y: 1.0),
    ),
    bent("log_sigmoid", "slope-mirrored", "sigma(x) instead of sigma(-x)", "derivative", swap(good.logistic)),
    bent("softsign", "slope-smooth", "1/(1 + x^2)", "derivative", swap(lambda x: 1 / (1 + x * x))),
    bent(
        "leaky_relu",
        "slope-sign",
        "the negative slope has the wrong sign",
        "derivative",
        when(lambda x: x < 0, lambda x, y: -y),
    ),
    bent(
        "relu6",
        "slope-beyond-6",
        "the derivative stays 1 beyond 6",
        "derivative",
        when(lambda x: x > 6, lambda x, y: 1.0),
    ),
    bent(
        "hardtanh",
        "slope-everywhere",
        "the derivative is 1 everywhere",
        "derivative",
        when(lambda x: ~np.isnan(x), lambda x, y: 1.0),
    ),
    bent(
        "softsign",
        "slope-nan-at-zero",
        "sign(x) as x/|x| is 0/0",
        "derivative",
        at((0.0,), math.nan),
        where="derivative",
    ),
    bent(
        "tanh",
        "slope-nan-at-zero",
        "y/x-style derivative is 0/0 at 0",
        "derivative",
        swap(lambda x: good.TANH.derivative(x) * (x / x)),
    ),
    bent(
        "elu",
        "slope-zero-times-inf",
        "(x > 0) + (x <= 0) alpha exp(x) is 0 inf for large x",
        "derivative",
        lambda x, y, alpha=1.0: (x > 0) * 1.0 + (x <= 0) * alpha * np.exp(x),
        formats=(F64,),
    ),
    bent(
        "gelu",
        "slope-below-1e-3",
        "the derivative is 1/2 for |x| < 1e-3",
        "derivative",
        when(lambda x: np.abs(x) < 1e-3, lambda x, y: 0.5),
        formats=WIDE,
    ),
)

SECONDS = (
    bent("sigmoid", "second-sign", "the second derivative has the wrong sign", "second", scaled(-1.0)),
    bent("tanh", "second-half", "the factor 2 is missing", "second", scaled(0.5)),
    bent(
        "silu",
        "second-of-sigmoid",
        "the second derivative of the sigmoid alone",
        "second",
        swap(good.logistic_bend),
    ),
    bent(
        "gelu",
        "second-1-minus-square",
        "(1 - x^2) instead of (2 - x^2)",
        "second",
        swap(
            lambda x: good.GELU.second(x) - good.ROOT_1_OVER_2PI * np.exp(-np.square(np.clip(x, -50, 50)) / 2)
        ),
    ),
    bent(
        "softplus",
        "second-chain",
        "beta is missing in the second derivative",
        "second",
        lambda x, y, beta=1.0, threshold=20.0: y / beta,
        options={"beta": 2.0},
    ),
    bent("elu", "second-zero", "the second derivative is 0", "second", scaled(0.0)),
    bent(
        "celu",
        "second-chain",
        "1/alpha is missing in the second derivative",
        "second",
        lambda x, y, alpha=1.0: y * alpha,
        options={"alpha": 2.0},
    ),
    bent(
        "mish",
        "second-8th-digit",
        "relative error 1e-8 in the second derivative",
        "second",
        scaled(1 + 1e-8),
        formats=(F64,),
    ),
    bent(
        "log_sigmoid",
        "second-is-first",
        "answers the first derivative",
        "second",
        swap(good.LOG_SIGMOID.derivative),
    ),
    bent("hardswish", "second-a-sixth", "1/6 instead of 1/3", "second", scaled(0.5)),
    bent(
        "selu",
        "second-without-alpha",
        "alpha is missing in the second derivative",
        "second",
        scaled(1 / good.SELU_ALPHA),
    ),
)

DERIVATIVE_LIARS: tuple[Liar, ...] = (*SLOPES, *SECONDS)
