"""Proven enclosures: arrays of real balls (Arb), at any precision.

Every operation encloses the exact result for every point of its operands. Bare object arrays of `arb` are
not enough: `np.maximum` and comparisons on them pick one branch where both are possible. Source:
Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", 2017.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flint
import numpy as np
from flint import arb
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gradcheck.arithmetic.exact import Exact
from gradcheck.arithmetic.mask import Mask, as_mask
from gradcheck.arithmetic.structure import FILLS, JOINS, MOVES, clipped, fill_value, folded, reduction
from gradcheck.errors import Unsupported
from gradcheck.formats import FLOAT64
from gradcheck.records import Estimate

ObjectArray = NDArray[np.object_]


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Evaluate balls with `bits` bits of precision inside the block."""
    saved, flint.ctx.prec = flint.ctx.prec, bits
    try:
        yield
    finally:
        flint.ctx.prec = saved


def current_precision() -> int:
    """Return the number of bits that balls are evaluated with here."""
    return int(flint.ctx.prec)


class Ball(NDArrayOperatorsMixin):
    """An array of real balls; `data` is an object array of `arb`."""

    def __init__(self, data: ObjectArray) -> None:
        self.data = data

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def T(self) -> Ball:
        """The transposed array."""
        return Ball(self.data.T)

    def __getitem__(self, index: Any) -> Ball:
        return Ball(_objects(self.data[index]))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if any(_foreign(value) for value in inputs):
            return NotImplemented
        if method != "__call__" or keywords:
            raise Unsupported(f"np.{ufunc.__name__}.{method} with {sorted(keywords)} over balls")
        operands = [_balls(value) for value in inputs]
        if ufunc in _COMPARISONS:
            yes, no = _COMPARISONS[ufunc]
            return Mask(_bools(yes(*operands)), ~_bools(no(*operands)))
        if ufunc is np.matmul:
            # An empty sum is the int 0 to NumPy.
            return Ball(_objects(operands[0] @ operands[1] + arb(0)))
        if ufunc not in _UFUNCS:
            raise Unsupported(f"np.{ufunc.__name__} is not known over balls")
        return Ball(_objects(_UFUNCS[ufunc](*operands)))

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if any(_foreign(value) for value in arguments):
            return NotImplemented
        if function is np.where:
            return _where(*arguments)
        if function in FILLS:
            constant = _balls(fill_value(function, arguments, keywords))
            return Ball(_objects(np.full(self.shape, constant[()], dtype=object)))
        if function in JOINS:
            return Ball(function([_balls(part) for part in arguments[0]], **keywords))
        if function in MOVES:
            if function is np.pad and keywords.get("mode", "constant") == "constant":
                keywords = {"constant_values": arb(0), **keywords}
            return Ball(_objects(function(*(_data(value) for value in arguments), **keywords)))
        if function is np.sum:
            return Ball(_objects(np.sum(self.data, *arguments[1:], **keywords) + arb(0)))
        if function is np.mean:
            total = np.sum(self.data, *arguments[1:], **keywords) + arb(0)
            return Ball(_objects(total / (self.data.size // max(np.size(total), 1))))
        if function is np.var:
            axis, keepdims = reduction(arguments, keywords)
            return _variance(self, axis, keepdims)
        if function in (np.max, np.min):
            pick = np.maximum if function is np.max else np.minimum
            return folded(pick, self, *reduction(arguments, keywords))
        if function is np.clip:
            low, high = (
                bound if isinstance(bound, Ball | Exact) else np.asarray(bound) for bound in arguments[1:]
            )
            return clipped(self, low, high)
        if function is np.einsum:
            return Ball(_objects(np.einsum(arguments[0], *(_balls(value) for value in arguments[1:]))))
        raise Unsupported(f"np.{function.__name__} is not known over balls")


def _variance(x: Any, axis: Any, keepdims: bool) -> Any:
    return np.mean(np.square(x - np.mean(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)


def balls(values: ArrayLike) -> Ball:
    """Return exact balls (radius 0) around float64 numbers."""
    return Ball(_balls(np.asarray(values, dtype=np.float64)))


def to_estimate(ball: Ball) -> Estimate:
    """Return each ball as an unevaluated sum of two doubles and a radius that covers the rest.

    A ball beyond the range of float64 gives an infinite `high` with radius 0; one that encloses nothing
    (undefined) gives NaN with an infinite radius.
    """
    values = ball.data.ravel()
    high = values.astype(np.float64)
    rest = values - high
    low = rest.astype(np.float64)
    beyond = _abs_upper(rest - low)
    with np.errstate(all="ignore"):
        # The conversion rounds to nearest, and to zero what is smaller than any double.
        radius = beyond.astype(np.float64) * (1 + 2.0**-50) + FLOAT64.least_subnormal
    radius[_bools(_is_zero(beyond))] = 0.0
    for index in np.flatnonzero(~np.isfinite(high) | ~_bools(_is_finite(values))):
        high[index], low[index], radius[index] = _split_infinite(values[index])
    return Estimate(*(column.reshape(ball.shape) for column in (high, low, radius)))


def _split_infinite(value: Any) -> tuple[float, float, float]:
    if not value.is_finite():
        return (np.nan, 0.0, np.inf)
    # A number from here on is rounded to infinity.
    overflow = arb(2) ** 1024 - arb(2) ** 970
    return (float(value), 0.0, 0.0 if value.abs_lower() >= overflow else np.inf)


_make = np.frompyfunc(arb, 1, 1)
_is_finite = np.frompyfunc(arb.is_finite, 1, 1)
_is_zero = np.frompyfunc(arb.is_zero, 1, 1)
_abs_upper = np.frompyfunc(arb.abs_upper, 1, 1)


def _balls(value: Any) -> ObjectArray:
    if isinstance(value, Ball):
        return value.data
    if isinstance(value, Exact):
        return _objects(value.ball())
    return _objects(_make(np.asarray(value, dtype=np.float64)))


def _data(value: Any) -> Any:
    return value.data if isinstance(value, Ball) else value


def _objects(value: Any) -> ObjectArray:
    if isinstance(value, np.ndarray):
        return value
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def _bools(value: Any) -> NDArray[np.bool_]:
    return np.asarray(value, dtype=bool)


def _foreign(value: Any) -> bool:
    plain = (Ball, Exact, np.ndarray, np.generic, int, float, Mask, tuple, list, str, type(None))
    return not isinstance(value, plain) and hasattr(type(value), "__array_ufunc__")


def _where(mask: Any, left: Any, right: Any) -> Ball:
    decided = as_mask(mask)
    yes, maybe, a, b = np.broadcast_arrays(decided.yes, decided.maybe, _balls(left), _balls(right))
    result = np.where(maybe, a, b)
    split = maybe & ~yes
    if split.any():
        result = _objects(result)
        result[split] = _unary(2, arb.union)(a[split], b[split])
    return Ball(_objects(result))


def _unary(arity: int, function: Callable[..., Any]) -> Any:
    return np.frompyfunc(function, arity, 1)


_exp, _log1p, _power = _unary(1, arb.exp), _unary(1, arb.log1p), _unary(2, operator.pow)
_lt, _le, _eq, _ne = (_unary(2, op) for op in (operator.lt, operator.le, operator.eq, operator.ne))
_gt, _ge = _unary(2, operator.gt), _unary(2, operator.ge)


def _expit(x: Any) -> Any:
    return 1 / (1 + _exp(-x))


def _log_expit(x: Any) -> Any:
    positive = _bools(_gt(x, 0))
    rest = _log1p(_exp(np.where(positive, -x, x)))
    return np.where(positive, -rest, x - rest)


_UFUNCS: dict[Any, Callable[..., Any]] = {
    np.add: np.add,
    np.subtract: np.subtract,
    np.multiply: np.multiply,
    np.true_divide: np.true_divide,
    np.negative: np.negative,
    np.positive: lambda a: a,
    np.absolute: np.absolute,
    np.square: lambda a: _power(a, 2),
    np.power: np.power,
    np.reciprocal: lambda a: 1 / a,
    np.exp: _exp,
    np.expm1: _unary(1, arb.expm1),
    np.log: _unary(1, arb.log),
    np.log1p: _log1p,
    np.sqrt: _unary(1, arb.sqrt),
    np.tanh: _unary(1, arb.tanh),
    np.cos: _unary(1, arb.cos),
    np.sin: _unary(1, arb.sin),
    np.sinh: _unary(1, arb.sinh),
    np.cosh: _unary(1, arb.cosh),
    np.sign: _unary(1, arb.sgn),
    np.maximum: _unary(2, arb.max),
    np.minimum: _unary(2, arb.min),
    special.erf: _unary(1, arb.erf),
    special.erfc: _unary(1, arb.erfc),
    special.expit: _expit,
    special.log_expit: _log_expit,
}
# For each comparison: when it surely holds, when it surely does not (arb answers True only when certain).
_COMPARISONS = {
    np.less: (_lt, _ge),
    np.less_equal: (_le, _gt),
    np.greater: (_gt, _le),
    np.greater_equal: (_ge, _lt),
    np.equal: (_eq, _ne),
    np.not_equal: (_ne, _eq),
}
