"""Sixty answers whose verdicts are known beforehand: thirty right ones, thirty wrong in known ways.

Each is a complete small implementation. The right ones are written differently from the references, so
that agreeing with them is no tautology; the wrong ones err in one respect alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from gradcheck.records import Array

Elementwise = Callable[[Array], Any]


@dataclass(frozen=True)
class Answer:
    """An implementation of `formula` for one check: `function` is the value, or the derivative by which the
    cotangent is multiplied.
    """

    name: str
    formula: str
    format: Format
    check: str
    function: Elementwise


def _value(name: str, formula: str, fmt: Format, function: Elementwise) -> Answer:
    return Answer(name, formula, fmt, "value", function)


def _slope(name: str, formula: str, fmt: Format, function: Elementwise) -> Answer:
    return Answer(name, formula, fmt, "derivative", function)


def _wide(function: Elementwise) -> Elementwise:
    """Compute in float64 and round once."""
    return lambda x: np.asarray(function(x.astype(np.float64))).astype(x.dtype)


def _sigmoid(x: Array) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(x: Array) -> Any:
    return np.where(x > 20, x, np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _times(x: Array, gate: Any) -> Any:
    """x·gate, where the gate's 0 wins over an infinite x."""
    return np.where(np.isneginf(x), x.dtype.type(0), x * gate)


def _elu(x: Array) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _sech(x: Array) -> Any:
    return 1 / np.cosh(np.clip(x, -709, 709))


def _leaky(slope: float) -> Elementwise:
    return lambda x: np.where(x >= 0, x, x * x.dtype.type(slope))


GOOD = (
    _value("both halves", "sigmoid", FLOAT64, _sigmoid),
    _value("both halves", "sigmoid", FLOAT32, _sigmoid),
    _value("expit", "sigmoid", FLOAT64, special.expit),
    _value("wide expit", "sigmoid", FLOAT32, _wide(special.expit)),
    _value("wide expit", "sigmoid", FLOAT16, _wide(special.expit)),
    _value("wide expit", "sigmoid", BFLOAT16, _wide(special.expit)),
    _slope("two sigmoids", "sigmoid", FLOAT64, lambda x: _sigmoid(x) * _sigmoid(-x)),
    _slope("wide", "sigmoid", FLOAT32, _wide(lambda x: special.expit(x) * special.expit(-x))),
    _value("tanh", "tanh", FLOAT64, np.tanh),
    _value("tanh", "tanh", FLOAT32, np.tanh),
    _value("wide", "tanh", FLOAT16, _wide(np.tanh)),
    _slope("sech", "tanh", FLOAT64, lambda x: _sech(x) * _sech(x)),
    _value("with threshold", "softplus", FLOAT64, _softplus),
    _value("wide", "softplus", FLOAT32, _wide(_softplus)),
    _value("maximum", "relu", FLOAT64, lambda x: np.maximum(x, 0)),
    _value("where", "relu", FLOAT32, lambda x: np.where(x <= 0, x.dtype.type(0), x)),
    _value("wide", "relu", BFLOAT16, _wide(lambda x: np.maximum(x, 0))),
    _slope("step", "relu", FLOAT64, lambda x: np.where(np.isnan(x), x, x > 0)),
    _value("where", "leaky_relu", FLOAT64, _leaky(0.01)),
    _value("where", "leaky_relu", FLOAT32, _leaky(0.01)),
    _value("expm1", "elu", FLOAT64, _elu),
    _value("wide", "elu", FLOAT32, _wide(_elu)),
    _slope("exp", "elu", FLOAT64, lambda x: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0)))),
    _value("gate", "silu", FLOAT64, lambda x: _times(x, _sigmoid(x))),
    _value("wide", "silu", FLOAT32, _wide(lambda x: _times(x, special.expit(x)))),
    _value("normal", "gelu", FLOAT64, lambda x: _times(x, special.ndtr(x))),
    _value("wide", "gelu", FLOAT32, _wide(lambda x: _times(x, special.ndtr(x)))),
    _value("clip", "hardtanh", FLOAT64, lambda x: np.clip(x, -1, 1)),
    _value("clip", "hardtanh", FLOAT32, lambda x: np.clip(x, -1, 1)),
    _value("wide", "softplus", BFLOAT16, _wide(_softplus)),
)


def _gelu_tanh(constant: float) -> Elementwise:
    root = np.sqrt(2 / np.pi)
    return lambda x: 0.5 * x * (1 + np.tanh(root * (x + constant * x**3)))


def _flushing(function: Elementwise, fmt: Format) -> Elementwise:
    return lambda x: np.where(np.abs(x) < fmt.least_normal, x * 0, function(x))


BAD = (
    _value("numerator off in the 8th digit", "sigmoid", FLOAT64, lambda x: 1.00000001 * special.expit(x)),
    _value("no left tail", "sigmoid", FLOAT32, lambda x: np.where(x < -20, x.dtype.type(0), _sigmoid(x))),
    _value("relative error of 1e-10", "sigmoid", FLOAT64, lambda x: special.expit(x) * (1 + 1e-10)),
    _value("saturates early", "tanh", FLOAT64, lambda x: np.where(np.abs(x) > 6, np.sign(x), np.tanh(x))),
    _value("linear near zero", "tanh", FLOAT64, lambda x: np.where(np.abs(x) < 1e-3, x, np.tanh(x))),
    _value("positive zero at -0.0", "tanh", FLOAT64, lambda x: np.tanh(x) + 0.0),
    _value("NaN at zero", "tanh", FLOAT64, lambda x: x * np.tanh(x) / x),
    _value("flushes subnormals", "tanh", FLOAT32, _flushing(np.tanh, FLOAT32)),
    _value("flushes subnormals", "relu", FLOAT64, _flushing(lambda x: np.maximum(x, 0), FLOAT64)),
    _value("NaN at -inf", "relu", FLOAT64, lambda x: x * (x > 0)),
    _value("drops NaN", "relu", FLOAT32, lambda x: np.where(x > 0, x, x.dtype.type(0))),
    _value("another shape", "relu", FLOAT64, lambda x: np.maximum(x, 0)[..., np.newaxis]),
    _value("another format", "relu", FLOAT32, lambda x: np.maximum(x, 0).astype(np.float64)),
    _value("wrong at a kink", "hardtanh", FLOAT64, lambda x: np.where(x == 1, 0.0, np.clip(x, -1, 1))),
    _value("slope off in the 8th digit", "leaky_relu", FLOAT64, _leaky(0.01000001)),
    _value("cancels near zero", "elu", FLOAT64, lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    _value("logistic approximation", "gelu", FLOAT64, lambda x: _times(x, special.expit(1.702 * x))),
    _value("tanh approximation", "gelu", FLOAT64, _gelu_tanh(0.044715)),
    _value("constant off", "gelu_tanh", FLOAT64, _gelu_tanh(0.04471501)),
    _value("textbook logarithm", "softplus", FLOAT64, lambda x: np.where(x > 20, x, np.log(1 + np.exp(x)))),
    _value("logarithm of sigmoid", "log_sigmoid", FLOAT64, lambda x: np.log(special.expit(x))),
    _value("clips too high", "relu6", FLOAT64, lambda x: np.clip(x, 0, 6.0000001)),
    _value(
        "constant off", "selu", FLOAT64, lambda x: 1.05070099 * np.where(x > 0, x, 1.67326324 * np.expm1(x))
    ),
    _value("truncated sixth", "hardsigmoid", FLOAT64, lambda x: np.clip(0.1666667 * x + 0.5, 0, 1)),
    _value("another denominator", "softsign", FLOAT64, lambda x: x / np.sqrt(1 + x * x)),
    _slope("from the rounded output", "sigmoid", FLOAT32, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    _slope("from the rounded output", "tanh", FLOAT32, lambda x: 1 - np.tanh(x) ** 2),
    _slope("outside the Clarke interval", "relu", FLOAT64, lambda x: np.where(x == 0, 2.0, x > 0)),
    _slope("without the density", "gelu", FLOAT64, special.ndtr),
    _slope("wrong sign", "leaky_relu", FLOAT64, lambda x: np.where(x > 0, 1.0, -0.01)),
)
