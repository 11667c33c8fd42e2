"""Exact real constants: every arithmetic rounds them for itself.

With constants rounded to double, two enclosures of the same GELU are disjoint almost everywhere, and
`1 - b1**t` evaluated in double loses what the ball was meant to prove.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from gradcheck.errors import Undecided, Unsupported

_PRECISION_OF_NEAREST = 192


class Exact(NDArrayOperatorsMixin):
    """An exact real number, kept as the recipe that encloses it at any precision.

    Closed under + - * / ** and the ufuncs of `_UFUNCS` with other exact numbers, ints and floats. Beside
    an array it becomes the nearest number of that array's own format.
    """

    def __init__(self, evaluate: Callable[[], Any], text: str, rational: Fraction | None = None) -> None:
        self._evaluate = evaluate
        self._text = text
        self._nearest: dict[Any, Any] = {}
        self.rational = rational

    def ball(self) -> Any:
        """Return the enclosing `arb` at the precision in force."""
        return self._evaluate()

    def nearest(self, dtype: Any) -> Any:
        """Return the nearest scalar of `dtype`."""
        key = np.dtype(dtype)
        if key not in self._nearest:
            self._nearest[key] = np.asarray(float(self)).astype(key)[()]
        return self._nearest[key]

    def __float__(self) -> float:
        if "float" not in self._nearest:
            import flint

            saved, flint.ctx.prec = flint.ctx.prec, _PRECISION_OF_NEAREST
            try:
                self._nearest["float"] = float(self._evaluate())
            finally:
                flint.ctx.prec = saved
        return float(self._nearest["float"])

    def __repr__(self) -> str:
        return f"exact({self._text})"

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __hash__(self) -> int:
        return hash(self._text)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if any(_foreign(value) for value in inputs):
            return NotImplemented
        arrays = [value for value in inputs if isinstance(value, np.ndarray | np.generic)]
        if arrays:
            dtype = np.result_type(*arrays)
            plain = [value.nearest(dtype) if isinstance(value, Exact) else value for value in inputs]
            return getattr(ufunc, method)(*plain, **keywords)
        if method != "__call__" or keywords:
            raise Unsupported(f"np.{ufunc.__name__}.{method} of exact numbers")
        if ufunc in _COMPARISONS:
            return _compare(ufunc, *(as_exact(value) for value in inputs))
        if ufunc not in _UFUNCS:
            raise Unsupported(f"np.{ufunc.__name__} of exact numbers is not known; add it to exact.py")
        return _combine(ufunc, [as_exact(value) for value in inputs])

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        arrays = [v for v in arguments if isinstance(v, np.ndarray | np.generic) and v.dtype != bool]
        if any(_foreign(value) for value in arguments) or not arrays:
            return NotImplemented
        dtype = np.result_type(*arrays)
        plain = [value.nearest(dtype) if isinstance(value, Exact) else value for value in arguments]
        return function(*plain, **keywords)


def exact(value: str | int | float | Fraction) -> Exact:
    """Return the number that the decimal text, int, float or fraction denotes, exactly."""
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"an exact number is finite, got {value}")
    ratio = Fraction(value)
    text = value if isinstance(value, str) else repr(value)
    return Exact(lambda: _rational_ball(ratio), text, ratio)


def exact_option(value: Any) -> Any:
    """Return an option of a formula with finite numbers made exact; anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return value
    return exact(float(value) if isinstance(value, float) else value)


def as_exact(value: Any) -> Exact:
    """Return `value` (an exact number, an int or a float) as an exact number."""
    return value if isinstance(value, Exact) else exact(value)


def _rational_ball(ratio: Fraction) -> Any:
    from flint import arb, fmpq

    return arb(fmpq(ratio.numerator, ratio.denominator))


def _pi() -> Any:
    from flint import arb

    return arb.pi()


PI = Exact(_pi, "pi")


def _power(base: Any, exponent: Any) -> Any:
    return base**exponent


_UFUNCS: dict[Any, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.true_divide: operator.truediv,
    np.negative: operator.neg,
    np.power: _power,
    np.sqrt: lambda a: a.sqrt(),
    np.exp: lambda a: a.exp(),
    np.expm1: lambda a: a.expm1(),
    np.log: lambda a: a.log(),
    np.log1p: lambda a: a.log1p(),
    np.square: lambda a: a * a,
    np.reciprocal: lambda a: 1 / a,
    np.absolute: abs,
    np.tanh: lambda a: a.tanh(),
    np.cos: lambda a: a.cos(),
    np.sin: lambda a: a.sin(),
    special.erf: lambda a: a.erf(),
    special.erfc: lambda a: a.erfc(),
    special.expit: lambda a: 1 / (1 + (-a).exp()),
    np.maximum: lambda a, b: a.max(b),
    np.minimum: lambda a, b: a.min(b),
}
_RATIONAL: dict[Any, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.true_divide: operator.truediv,
    np.negative: operator.neg,
    np.square: lambda a: a * a,
    np.reciprocal: lambda a: 1 / a,
    np.absolute: abs,
    np.maximum: max,
    np.minimum: min,
}
_COMPARISONS = {
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
}


def _combine(ufunc: Any, operands: list[Exact]) -> Exact:
    text = f"{ufunc.__name__}({', '.join(operand._text for operand in operands)})"
    ratios = [operand.rational for operand in operands]
    known = [ratio for ratio in ratios if ratio is not None]
    if ufunc in _RATIONAL and len(known) == len(operands):
        value = _RATIONAL[ufunc](*known)
        return Exact(lambda: _rational_ball(value), text, value)
    function = _UFUNCS[ufunc]
    return Exact(lambda: function(*(operand.ball() for operand in operands)), text)


def _compare(ufunc: Any, left: Exact, right: Exact) -> bool:
    if left.rational is not None and right.rational is not None:
        return bool(_COMPARISONS[ufunc](left.rational, right.rational))
    difference = (left - right).ball()
    if difference.contains(0):
        raise Undecided(f"cannot tell {left} from {right}")
    return bool(_COMPARISONS[ufunc](difference, 0))


def _foreign(value: Any) -> bool:
    """Whether another arithmetic has to take the call."""
    plain = (Exact, np.ndarray, np.generic, int, float)
    return not isinstance(value, plain) and hasattr(type(value), "__array_ufunc__")
