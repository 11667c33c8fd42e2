"""The second truth engine: the same texts in mpmath, one number at a time.

Slow and independent of Arb; it confirms findings and, in the tests, the balls themselves. Derivatives are
mpmath's own numerical ones, at a precision where their error does not matter.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from gradcheck.arithmetic.exact import Exact
from gradcheck.errors import Unsupported
from gradcheck.records import Formula

DIGITS = 60


class Precise(NDArrayOperatorsMixin):
    """One mpmath number that takes part in NumPy calls."""

    shape: tuple[int, ...] = ()
    ndim = 0

    def __init__(self, number: Any) -> None:
        self.number = number

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or keywords or ufunc not in _UFUNCS:
            raise Unsupported(f"np.{ufunc.__name__} is not known over mpmath numbers")
        result = _UFUNCS[ufunc](*(_number(value) for value in inputs))
        return result if isinstance(result, bool) else Precise(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if function is np.where:
            mask, left, right = arguments
            return Precise(_number(left if mask else right))
        if function is np.clip:
            low, high = (_number(bound) for bound in arguments[1:])
            return Precise(min(max(self.number, low), high))
        if function in (np.zeros_like, np.ones_like):
            return Precise(mpmath.mpf(function is np.ones_like))
        if function is np.full_like:
            return Precise(_number(arguments[1]))
        raise Unsupported(f"np.{function.__name__} is not known over mpmath numbers")


def _number(value: Any) -> Any:
    if isinstance(value, Precise):
        return value.number
    if isinstance(value, Exact):
        return _exact(value)
    return mpmath.mpf(value)


def _exact(value: Exact) -> Any:
    if value.rational is not None:
        return mpmath.mpf(value.rational.numerator) / value.rational.denominator
    import flint

    saved, flint.ctx.prec = flint.ctx.prec, mpmath.mp.prec + 20
    try:
        mantissa, exponent = value.ball().mid().man_exp()
    finally:
        flint.ctx.prec = saved
    return mpmath.ldexp(mpmath.mpf(int(mantissa)), int(exponent))


_UFUNCS: dict[Any, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.true_divide: operator.truediv,
    np.negative: operator.neg,
    np.positive: lambda a: a,
    np.absolute: abs,
    np.square: lambda a: a * a,
    np.reciprocal: lambda a: 1 / a,
    np.power: operator.pow,
    np.exp: mpmath.exp,
    np.expm1: mpmath.expm1,
    np.log: mpmath.log,
    np.log1p: mpmath.log1p,
    np.sqrt: mpmath.sqrt,
    np.tanh: mpmath.tanh,
    np.sinh: mpmath.sinh,
    np.cosh: mpmath.cosh,
    np.sign: mpmath.sign,
    np.maximum: max,
    np.minimum: min,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    special.erf: mpmath.erf,
    special.erfc: mpmath.erfc,
    special.expit: lambda a: 1 / (1 + mpmath.exp(-a)),
    special.log_expit: lambda a: -mpmath.log1p(mpmath.exp(-a)),
}


def value_text(formula: Formula, x: float, options: Mapping[str, Any], digits: int = DIGITS) -> Any:
    """Return the formula's value at the finite float `x` as an mpmath number."""
    with mpmath.workdps(digits):
        return _number(formula.value(Precise(mpmath.mpf(x)), **formula.complete(options)))


def derivative(
    formula: Formula, x: float, order: int, options: Mapping[str, Any], digits: int = DIGITS
) -> Any:
    """Return the derivative of order 0, 1 or 2 at `x`; at a kink, the one from the right."""
    complete = formula.complete(options)
    with mpmath.workdps(digits):
        if order == 0:
            return value_text(formula, x, options, digits)

        def f(point: Any) -> Any:
            return _number(formula.value(Precise(point), **complete))

        at = mpmath.mpf(x)
        # The step is small beside x as well, so that a difference around a tiny x stays on its side.
        step = mpmath.ldexp(1, -2 * digits) * (abs(at) if at else 1)
        with mpmath.workdps(12 * digits):
            return mpmath.diff(f, at, order, h=step, direction=1)
