"""Value and tangent over any arithmetic: the derivative of the text itself.

A `Dual` compares lexicographically, by value and then by tangent. So an artificial kink (an `abs` in a
smooth formula) keeps the right slope, and a real kink gives the slope of the side that the tangent points
to: seed +1 for the right one, -1 for the left one. Duals nest: a dual of duals gives second derivatives.
Source: Griewank & Walther, "Evaluating Derivatives", 2008, chapters 2 and 14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from gradcheck.arithmetic.exact import PI
from gradcheck.arithmetic.structure import FILLS, JOINS, MOVES, clipped, fill_value, folded, reduction
from gradcheck.errors import Unsupported

_TWO_OVER_ROOT_PI = 2 / np.sqrt(PI)


class Dual(NDArrayOperatorsMixin):
    """A value and its derivative along one direction; a tangent of None is exactly zero."""

    def __init__(self, value: Any, tangent: Any = None) -> None:
        self.value, self.tangent = value, tangent

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def T(self) -> Dual:
        """The transposed array."""
        return Dual(self.value.T, None if self.tangent is None else self.tangent.T)

    def __getitem__(self, index: Any) -> Dual:
        return Dual(self.value[index], None if self.tangent is None else self.tangent[index])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or keywords:
            raise Unsupported(f"np.{ufunc.__name__}.{method} with {sorted(keywords)} over duals")
        if ufunc is np.power:
            return _power(_dual(inputs[0]), inputs[1])
        operands = [_dual(value) for value in inputs]
        if ufunc in _COMPARISONS:
            return _COMPARISONS[ufunc](*operands)
        if ufunc in _SLOPES:
            (x,) = operands
            result = ufunc(x.value)
            return Dual(result, None if x.tangent is None else _SLOPES[ufunc](x.value, result) * x.tangent)
        if ufunc not in _UFUNCS:
            raise Unsupported(f"np.{ufunc.__name__} is not known over duals")
        return _UFUNCS[ufunc](*operands)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if function is np.where:
            return _where(*arguments)
        if function in FILLS:
            return Dual(np.full_like(self.value, fill_value(function, arguments, keywords)))
        if function is np.clip:
            return clipped(self, arguments[1], arguments[2])
        if function in JOINS:
            return _join(function, [_dual(part) for part in arguments[0]], keywords)
        if function in MOVES or function in (np.sum, np.mean):
            value, tangent = self.value, self.tangent
            moved = function(value, *arguments[1:], **keywords)
            return Dual(moved, None if tangent is None else function(tangent, *arguments[1:], **keywords))
        if function is np.var:
            return _variance(self, *reduction(arguments, keywords))
        if function in (np.max, np.min):
            pick = np.maximum if function is np.max else np.minimum
            return folded(pick, self, *reduction(arguments, keywords))
        if function is np.einsum:
            spec, a, b = arguments[0], _dual(arguments[1]), _dual(arguments[2])
            return _bilinear(lambda p, q: np.einsum(spec, p, q), a, b)
        raise Unsupported(f"np.{function.__name__} is not known over duals")


def derivative(text: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that gives the derivative of `text` in its first argument, over any arithmetic.

    At a kink it is the derivative from the right. Further arguments and options are passed on.
    """

    def slope(x: Any, *arguments: Any, **options: Any) -> Any:
        result = text(Dual(x, np.ones_like(x)), *arguments, **options)
        if not isinstance(result, Dual) or result.tangent is None:
            return np.zeros_like(x)
        return result.tangent

    return slope


def _dual(value: Any) -> Dual:
    return value if isinstance(value, Dual) else Dual(value)


def _plus(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _scaled(factor: Any, tangent: Any) -> Any:
    return None if tangent is None else factor * tangent


def _add(a: Dual, b: Dual) -> Dual:
    return Dual(a.value + b.value, _broadcast_plus(a, b))


def _broadcast_plus(a: Dual, b: Dual) -> Any:
    """Add tangents; one that is None leaves the other, spread to the shape of the sum."""
    tangent = _plus(a.tangent, b.tangent)
    if a.tangent is None or b.tangent is None:
        other = a.value if a.tangent is None else b.value
        if tangent is not None and len(getattr(other, "shape", ())) > 0:
            tangent = tangent + np.zeros_like(other)
    return tangent


def _negative(a: Dual) -> Dual:
    return Dual(-a.value, None if a.tangent is None else -a.tangent)


def _bilinear(product: Callable[[Any, Any], Any], a: Dual, b: Dual) -> Dual:
    left = None if a.tangent is None else product(a.tangent, b.value)
    right = None if b.tangent is None else product(a.value, b.tangent)
    return Dual(product(a.value, b.value), _plus(left, right))


def _multiply(a: Dual, b: Dual) -> Dual:
    return _bilinear(np.multiply, a, b)


def _divide(a: Dual, b: Dual) -> Dual:
    quotient = a.value / b.value
    if b.tangent is None:
        return Dual(quotient, None if a.tangent is None else a.tangent / b.value)
    numerator = _plus(a.tangent, -(quotient * b.tangent))
    return Dual(quotient, numerator / b.value)


def _variance(a: Dual, axis: Any, keepdims: bool) -> Dual:
    """The variance, and its derivative 2 mean((x - m) dx)."""
    value = np.var(a.value, axis=axis, keepdims=keepdims)
    if a.tangent is None:
        return Dual(value)
    centred = a.value - np.mean(a.value, axis=axis, keepdims=True)
    return Dual(value, 2 * np.mean(centred * a.tangent, axis=axis, keepdims=keepdims))


def _power(a: Dual, exponent: Any) -> Dual:
    if exponent == 1:
        return a
    slope = exponent * (a.value if exponent == 2 else a.value ** (exponent - 1))
    return Dual(a.value**exponent, _scaled(slope, a.tangent))


def _sign_of(tangent: Any, like: Any) -> Any:
    return np.zeros_like(like) if tangent is None else tangent


def _less(a: Dual, b: Dual) -> Any:
    below = np.less(a.value, b.value)
    if a.tangent is None and b.tangent is None:
        return below
    difference = _plus(_negated(a.tangent), b.tangent)
    return below | (np.equal(a.value, b.value) & np.less(0, difference))


def _negated(tangent: Any) -> Any:
    return None if tangent is None else -tangent


def _equal(a: Dual, b: Dual) -> Any:
    same = np.equal(a.value, b.value)
    difference = _plus(_negated(a.tangent), b.tangent)
    return same if difference is None else same & np.equal(difference, 0)


def _where(mask: Any, left: Any, right: Any) -> Dual:
    a, b = _dual(left), _dual(right)
    value = np.where(mask, a.value, b.value)
    if a.tangent is None and b.tangent is None:
        return Dual(value)
    zero = np.zeros_like(value)
    tangents = [zero if part.tangent is None else part.tangent for part in (a, b)]
    return Dual(value, np.where(mask, *tangents))


def _maximum(a: Dual, b: Dual) -> Dual:
    return _where(_less(a, b), b, a)


def _minimum(a: Dual, b: Dual) -> Dual:
    return _where(_less(b, a), b, a)


def _absolute(a: Dual) -> Dual:
    return _where(_less(a, _dual(0)), _negative(a), a)


def _join(function: Any, parts: list[Dual], keywords: dict[str, Any]) -> Dual:
    value = function([part.value for part in parts], **keywords)
    tangents = [_sign_of(part.tangent, part.value) for part in parts]
    return Dual(value, function(tangents, **keywords))


_UFUNCS: dict[Any, Callable[..., Dual]] = {
    np.add: _add,
    np.subtract: lambda a, b: _add(a, _negative(b)),
    np.multiply: _multiply,
    np.matmul: lambda a, b: _bilinear(np.matmul, a, b),
    np.true_divide: _divide,
    np.negative: _negative,
    np.positive: lambda a: a,
    np.absolute: _absolute,
    np.maximum: _maximum,
    np.minimum: _minimum,
    np.sign: lambda a: Dual(np.sign(a.value)),
}
# Slope of each function from its argument and its result.
_SLOPES: dict[Any, Callable[[Any, Any], Any]] = {
    np.square: lambda x, y: 2 * x,
    np.reciprocal: lambda x, y: -np.square(y),
    np.exp: lambda x, y: y,
    np.expm1: lambda x, y: np.exp(x),
    np.log: lambda x, y: 1 / x,
    np.log1p: lambda x, y: 1 / (1 + x),
    np.sqrt: lambda x, y: 0.5 / y,
    np.tanh: lambda x, y: np.reciprocal(np.square(np.cosh(x))),
    np.cos: lambda x, y: -np.sin(x),
    np.sin: lambda x, y: np.cos(x),
    np.sinh: lambda x, y: np.cosh(x),
    np.cosh: lambda x, y: np.sinh(x),
    special.erf: lambda x, y: _TWO_OVER_ROOT_PI * np.exp(-np.square(x)),
    special.erfc: lambda x, y: -(_TWO_OVER_ROOT_PI * np.exp(-np.square(x))),
    special.expit: lambda x, y: y * special.expit(-x),
    special.log_expit: lambda x, y: special.expit(-x),
}
_COMPARISONS: dict[Any, Callable[[Dual, Dual], Any]] = {
    np.less: _less,
    np.greater: lambda a, b: _less(b, a),
    np.less_equal: lambda a, b: ~_less(b, a),
    np.greater_equal: lambda a, b: ~_less(a, b),
    np.equal: _equal,
    np.not_equal: lambda a, b: ~_equal(a, b),
}
