"""The mathematics once more, in mpmath: what the corpus of liars and correct variants is held against.

Each entry is the triple (value, derivative, second derivative) of one finite variable, in textbook notation
at the working precision, valid wherever the function is smooth.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from mpmath import mp, mpf

DIGITS = 40
FAR = 100  # the normal tail beyond it is below 1e-2000, and mpmath's erfc fails for huge arguments
Point = Callable[..., Any]


def _logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _logistic1(x: Any) -> Any:
    return mp.exp(-abs(x)) / (1 + mp.exp(-abs(x))) ** 2


def _logistic2(x: Any) -> Any:
    return -_logistic1(x) * mp.tanh(x / 2)


def _density(x: Any) -> Any:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def _cumulative(x: Any) -> Any:
    if abs(x) > FAR:
        return mpf(x > 0)
    return mp.erfc(-x / mp.sqrt(2)) / 2


SELU_SCALE, SELU_ALPHA = "1.0507009873554804934193349852946", "1.6732632423543772848170429916717"


def _elu(order: int) -> Point:
    def at(x: Any, alpha: Any = 1) -> Any:
        right = (x, mpf(1), mpf(0))[order]
        return right if x > 0 else alpha * (mp.expm1(x) if order == 0 else mp.exp(x))

    return at


def _selu(order: int) -> Point:
    elu = _elu(order)
    return lambda x: mpf(SELU_SCALE) * elu(x, alpha=mpf(SELU_ALPHA))


def _celu(order: int) -> Point:
    def at(x: Any, alpha: Any = 1) -> Any:
        if x > 0:
            return (x, mpf(1), mpf(0))[order]
        return (alpha * mp.expm1(x / alpha), mp.exp(x / alpha), mp.exp(x / alpha) / alpha)[order]

    return at


def _gelu_tanh(order: int) -> Point:
    def at(x: Any) -> Any:
        cubic, r = mpf("0.044715"), 2 * mp.sqrt(2 / mp.pi)
        u, u1, u2 = r * (x + cubic * x**3), r * (1 + 3 * cubic * x * x), r * 6 * cubic * x
        if order == 0:
            return x * _logistic(u)
        if order == 1:
            return _logistic(u) + x * _logistic1(u) * u1
        return 2 * _logistic1(u) * u1 + x * (_logistic2(u) * u1 * u1 + _logistic1(u) * u2)

    return at


def _softplus(order: int) -> Point:
    def at(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
        z = beta * x
        if z > threshold:
            return (x, mpf(1), mpf(0))[order]
        return (mp.log1p(mp.exp(z)) / beta, _logistic(z), beta * _logistic1(z))[order]

    return at


def _log_sigmoid(x: Any) -> Any:
    return -mp.log1p(mp.exp(-x)) if x > 0 else x - mp.log1p(mp.exp(x))


def _mish(order: int) -> Point:
    def at(x: Any) -> Any:
        if order == 0:
            return x * mp.tanh(mp.log1p(mp.exp(x)))
        s = mp.log1p(mp.exp(x))
        steep, gate = mp.sech(s) ** 2, _logistic(x)
        w1 = steep * gate
        if order == 1:
            return mp.tanh(s) + x * w1
        w2 = steep * _logistic1(x) - 2 * mp.tanh(s) * steep * gate * gate
        return 2 * w1 + x * w2

    return at


def _step(x: Any, low: Any, high: Any, below: Any, inside: Any, above: Any) -> Any:
    return below if x <= low else above if x >= high else inside


ZERO: Point = lambda x, **_: mpf(0)  # noqa: E731

TRUTH: dict[str, tuple[Point, Point, Point]] = {
    "relu": (lambda x: max(x, mpf(0)), lambda x: mpf(x > 0), ZERO),
    "leaky_relu": (
        lambda x, negative_slope=0.01: x if x > 0 else negative_slope * x,
        lambda x, negative_slope=0.01: mpf(1) if x > 0 else mpf(negative_slope),
        ZERO,
    ),
    "sigmoid": (_logistic, _logistic1, _logistic2),
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2, lambda x: -2 * mp.tanh(x) * mp.sech(x) ** 2),
    "hardtanh": (
        lambda x, min_val=-1, max_val=1: min(max(x, mpf(min_val)), mpf(max_val)),
        lambda x, min_val=-1, max_val=1: mpf(min_val < x < max_val),
        ZERO,
    ),
    "relu6": (lambda x: min(max(x, mpf(0)), mpf(6)), lambda x: mpf(0 < x < 6), ZERO),
    "elu": (_elu(0), _elu(1), _elu(2)),
    "celu": (_celu(0), _celu(1), _celu(2)),
    "selu": (_selu(0), _selu(1), _selu(2)),
    "gelu": (
        lambda x: x * _cumulative(x),
        lambda x: _cumulative(x) + x * _density(x),
        lambda x: _density(x) * (2 - x * x),
    ),
    "gelu_tanh": (_gelu_tanh(0), _gelu_tanh(1), _gelu_tanh(2)),
    "silu": (
        lambda x: x * _logistic(x),
        lambda x: _logistic(x) + x * _logistic1(x),
        lambda x: 2 * _logistic1(x) + x * _logistic2(x),
    ),
    "softplus": (_softplus(0), _softplus(1), _softplus(2)),
    "log_sigmoid": (_log_sigmoid, lambda x: _logistic(-x), lambda x: -_logistic1(x)),
    "mish": (_mish(0), _mish(1), _mish(2)),
    "hardsigmoid": (
        lambda x: min(max(x + 3, mpf(0)), mpf(6)) / 6,
        lambda x: mpf(1) / 6 if abs(x) < 3 else mpf(0),
        ZERO,
    ),
    "hardswish": (
        lambda x: x * min(max(x + 3, mpf(0)), mpf(6)) / 6,
        lambda x: _step(x, -3, 3, mpf(0), (2 * x + 3) / 6, mpf(1)),
        lambda x: mpf(1) / 3 if abs(x) < 3 else mpf(0),
    ),
    "softsign": (
        lambda x: x / (1 + abs(x)),
        lambda x: 1 / (1 + abs(x)) ** 2,
        lambda x: -2 * mp.sign(x) / (1 + abs(x)) ** 3,
    ),
}

KINKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "prelu": (0.0,),
    "hardtanh": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
    "elu": (0.0,),
    "celu": (0.0,),
    "selu": (0.0,),
    "softplus": (20.0,),
    "hardsigmoid": (-3.0, 3.0),
    "hardswish": (-3.0, 3.0),
    "softsign": (0.0,),
}


@cache
def exact(formula: str, order: int, x: float, **options: float) -> Any:
    """Return the truth of that order at x as an mpf of 40 digits."""
    with mp.workdps(DIGITS):
        return TRUTH[formula][order](mpf(x), **{name: mpf(value) for name, value in options.items()})
